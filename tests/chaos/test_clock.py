"""A wall clock that is set forwards and back, while the server runs and while it is down.

The order of what happened is that of the log, never that of the clock: times do not decrease in a session, a session
goes on from its newest state, its last run is the last one, and what waits keeps its order.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from chaos.consistency import check_ledger, check_session
from chaos.planned_model import PlannedModel, plan
from chaos.workflows import KINDS, run_input
from chaos.world import ChaosServer, until_status
from servers.jumping_clock import JumpingClock
from servers.server_process import eventually

pytestmark = pytest.mark.timeout(90)
DAY = 86_400


@pytest.fixture
def clock(tmp_path: Path) -> JumpingClock:
    return JumpingClock(tmp_path / "clock")


@pytest.fixture
async def server(tmp_path: Path, model: PlannedModel, clock: JumpingClock) -> AsyncIterator[ChaosServer]:
    async with ChaosServer(tmp_path, model.url, **clock.environment) as server:
        yield server


async def said(server: ChaosServer, session_id: str) -> list[str]:
    messages = (await server.get(f"/sessions/{session_id}/state"))["messages"]
    return [message["content"] for message in messages if message["role"] == "user"]


async def test_a_session_goes_on_from_its_newest_state_while_the_clock_jumps(
    server: ChaosServer, clock: JumpingClock
) -> None:
    session_id = await server.create_session("talk")
    for number, seconds in enumerate((0, -DAY, 3_600, -40 * DAY)):
        clock.jump(seconds)
        run = await server.start_run(session_id, f"Word {number}.", mode="wait")
        assert run["status"] == "completed"
        newest = (await server.get(f"/sessions/{session_id}/runs"))["runs"][0]
        assert newest["run_id"] == run["run_id"]
        assert await said(server, session_id) == [f"Word {each}." for each in range(number + 1)]
    born = (await server.session(session_id))["created_at"]
    assert (await server.session(await server.create_session("talk")))["created_at"] < born, (
        "the server reads this clock"
    )
    await check_session(server, session_id)


async def test_runs_in_progress_do_not_notice_that_the_clock_jumps(
    server: ChaosServer, model: PlannedModel, clock: JumpingClock
) -> None:
    model.delay, model.token_delay = 0.1, 0.02
    sessions = [await server.create_session(kind) for kind in KINDS]
    for session_id, kind in zip(sessions, KINDS, strict=True):
        await server.start_run(session_id, **run_input(kind))
    for seconds in (DAY, -2 * DAY, 30.0, -0.5, 40 * DAY, -50 * DAY):
        clock.jump(seconds)
        await asyncio.sleep(0.15)
    await until_status(server, sessions, operator=server)
    for session_id in sessions:
        records = await check_session(server, session_id)
        assert all(duration >= 0 for duration in durations(records))
        run = (await server.get(f"/sessions/{session_id}/runs"))["runs"][0]
        assert 0 <= run["execution_time"] < 600
    check_ledger(server.ledger())


def durations(records: list[dict[str, Any]]) -> list[float]:
    names = ("execution_time", "response_time", "time_to_first_token", "duration")
    return [record[name] for record in records for name in names if record.get(name) is not None]


async def test_a_clock_that_was_set_back_while_the_server_was_down(
    server: ChaosServer, model: PlannedModel, clock: JumpingClock
) -> None:
    talk, restored, queue, busy = [await server.create_session(kind) for kind in ("talk", "talk", "talk", "react")]
    await server.start_run(talk, "Word 0.", mode="wait")
    await keep_a_state(server, restored)
    model.gate.clear()
    await fill_queue(server, queue, clock)
    await server.start_run(busy, plan(["pay:a", "note:b"], ["pay:c"], ["pay:d"], "All is paid."))
    await eventually("something was paid", lambda: _paid(server))
    await server.kill()
    clock.jump(-DAY)
    model.gate.set()
    await server.start()

    await server.start_run(talk, "Word 1.", mode="wait")
    assert await said(server, talk) == ["Word 0.", "Word 1."]

    await server.post(f"/sessions/{restored}/restore")
    assert await said(server, restored) == ["Word 0."]
    await server.start_run(restored, "Word 2.", mode="wait")
    assert await said(server, restored) == ["Word 0.", "Word 2."]

    waiting = ["First of all, with many words.", *(f"Word {number}." for number in range(4))]

    async def all_said() -> bool:
        return await said(server, queue) == waiting

    await eventually("what waited is said, in order", all_said)
    await until_status(server, [queue, busy], operator=server)
    for session_id in (talk, queue, busy):
        await check_session(server, session_id)
    check_ledger(server.ledger())
    assert {line["label"] for line in server.ledger() if line["tool"] == "pay"} == {"a", "c", "d"}


async def keep_a_state(server: ChaosServer, session_id: str) -> None:
    """Two runs, with the state between them saved."""
    await server.start_run(session_id, "Word 0.", mode="wait")
    await server.post(f"/sessions/{session_id}/save")
    await server.start_run(session_id, "Word 1.", mode="wait")


async def fill_queue(server: ChaosServer, session_id: str, clock: JumpingClock) -> None:
    """A run that the model holds, and four inputs behind it, each an hour before the one before."""
    await server.start_run(session_id, "First of all, with many words.")
    for number in range(4):
        clock.jump(-3_600)
        await server.start_run(session_id, f"Word {number}.", multitask="enqueue")


async def _paid(server: ChaosServer) -> bool:
    return bool(server.ledger())
