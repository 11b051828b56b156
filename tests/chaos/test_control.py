"""What a person asked for before a crash holds after it."""

import asyncio
from pathlib import Path

import pytest

from chaos.consistency import check_session
from chaos.planned_model import PlannedModel, plan
from chaos.world import ChaosServer, until_status
from servers.server_process import eventually

pytestmark = pytest.mark.timeout(60)


async def crash_after(server: ChaosServer, session_id: str, verb: str, status: str) -> None:
    """Asks for the control, and kills the server once the run has the status."""
    asked = asyncio.create_task(server.client.post(f"/sessions/{session_id}/{verb}"))

    async def begun() -> bool:
        return bool(server.query("SELECT 1 FROM runs WHERE status = ?", status))

    await eventually(f"the run is {status}", begun, every=0.0)
    await server.kill()
    await asyncio.gather(asked, return_exceptions=True)
    await server.start()


async def test_a_pause_that_a_crash_cut_holds_and_the_run_can_be_resumed(tmp_path: Path, model: PlannedModel) -> None:
    model.gate.clear()
    async with ChaosServer(tmp_path, model.url) as server:
        session_id = await server.create_session("lines")
        await server.start_run(session_id, "Go.")
        await crash_after(server, session_id, "pause", "pausing")
        model.gate.set()
        await until_status(server, [session_id], "paused")
        await server.post(f"/sessions/{session_id}/resume")
        await until_status(server, [session_id])
        await check_session(server, session_id)


async def test_a_stop_that_a_crash_cut_is_a_stop_and_the_session_goes_on(tmp_path: Path, model: PlannedModel) -> None:
    async with ChaosServer(tmp_path, model.url, pay_seconds=5) as server:
        session_id = await server.create_session("react")
        await server.start_run(session_id, plan(["pay:a"], "It is done."))

        async def paying() -> bool:
            return bool(server.ledger())

        await eventually("the payment has begun", paying)
        await server.client.post(f"/sessions/{session_id}/stop")
        await server.restart()
        await until_status(server, [session_id], "stopped")
        run = await server.start_run(session_id, plan("Hello again."), mode="wait")
        assert run["status"] == "completed"
        messages = (await server.get(f"/sessions/{session_id}/state"))["messages"]
        assert [message["role"] for message in messages] == ["user", "assistant", "tool", "user", "assistant"]
        assert len([line for line in server.ledger() if line["tool"] == "pay"]) == 1, "a stopped call is not repeated"
