"""SIGTERM: steps in progress finish, the process ends in time whoever is connected, and the runs go on afterwards."""

import asyncio
import socket
from contextlib import closing
from pathlib import Path

import pytest

from chaos.consistency import check_session
from chaos.planned_model import PlannedModel, plan
from chaos.world import ChaosServer, until_status
from servers.server_process import ServerProcess, eventually

pytestmark = pytest.mark.timeout(60)

GRACE = 8


async def test_steps_in_progress_finish_and_runs_go_on_after_the_restart(tmp_path: Path, model: PlannedModel) -> None:
    model.delay = 0.3
    async with ChaosServer(tmp_path, model.url, SHUTDOWN_GRACE_SECONDS=str(GRACE)) as server:
        sessions = [await server.create_session(kind) for kind in ("lines", "react", "lines", "react", "lines")]
        for session_id in sessions:
            await server.start_run(session_id, plan(["note:a", "pay:b"], ["note:c"], "The end."))

        async def busy() -> bool:
            return model.calls >= len(sessions)

        await eventually("all are at work", busy)
        assert await server.terminate() < GRACE
        assert not server.query("SELECT 1 FROM runs WHERE status NOT IN ('running', 'completed')")
        open_steps = [
            row[0]
            for row in server.query(
                "SELECT count(*) FILTER (WHERE json_extract(line, '$.phase') = 'start')"
                " - count(*) FILTER (WHERE json_extract(line, '$.phase') = 'end')"
                " FROM records WHERE record_type = 'step' GROUP BY session_n"
            )
        ]
        assert not any(open_steps), "every step that had begun came to its end"
        calls = model.calls
        await server.start()
        await until_status(server, sessions)
        for session_id in sessions:
            await check_session(server, session_id)
        assert not server.query("SELECT 1 FROM interrupts"), "nothing irreversible was cut"
        assert calls < model.calls <= 3 * len(sessions), "no model was asked twice for the same step"


async def test_a_client_that_has_stopped_reading_does_not_keep_it_from_ending(
    tmp_path: Path, model: PlannedModel
) -> None:
    async with ChaosServer(tmp_path, model.url, SHUTDOWN_GRACE_SECONDS="20") as server:
        session_id = await server.create_session("talk")
        with closing(socket.socket()) as stalled:
            stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            stalled.connect(("127.0.0.1", server.port))
            stalled.sendall(
                f"GET /sessions/{session_id}/events?after_seq=0 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
            )
            for _ in range(3):  # more than the buffers between the two hold
                await server.start_run(session_id, plan("words " + "x" * 2_000_000), mode="wait")
            await until_status(server, [session_id])
            assert await server.terminate() < 10
        await server.start()
        await check_session(server, session_id)


async def test_a_step_that_takes_too_long_is_interrupted_at_the_end_of_the_grace(
    tmp_path: Path, model: PlannedModel
) -> None:
    model.gate.clear()
    async with ChaosServer(tmp_path, model.url, SHUTDOWN_GRACE_SECONDS="1") as server:
        session_id = await server.create_session("talk")
        await server.start_run(session_id, plan("one two three four five"))

        async def held() -> bool:
            return model.held > 0

        await eventually("the model has stopped in its answer", held)
        assert await server.terminate() < 6
        model.gate.set()
        await server.start()
        await until_status(server, [session_id])
        await check_session(server, session_id)


async def test_of_fifty_starts_at_once_exactly_one_is_taken(tmp_path: Path, model: PlannedModel) -> None:
    model.delay = 0.5
    async with ChaosServer(tmp_path, model.url) as server:
        session_id = await server.create_session("talk")

        async def start(number: int) -> tuple[int, str]:
            body = {"message": f"number {number}"}
            answer = await server.client.post(f"/sessions/{session_id}/runs", json=body)
            return answer.status_code, answer.json().get("code", "")

        answers = await asyncio.gather(*(start(number) for number in range(50)))
        assert sorted(answers) == [(202, ""), *[(409, "run_already_active")] * 49]
        await until_status(server, [session_id])
        records = await check_session(server, session_id)
        assert [record["message_type"] for record in records if record["record_type"] == "message"] == [
            "user",
            "assistant",
        ]
        assert (await server.get(f"/sessions/{session_id}/runs"))["total"] == 1


async def test_a_second_server_on_the_same_data_refuses_to_start(tmp_path: Path, model: PlannedModel) -> None:
    async with ChaosServer(tmp_path, model.url) as server:
        second = ServerProcess(tmp_path / "second", configs=server.configs, environment={"DATA_PATH": str(server.data)})
        await second.spawn()
        try:
            assert await second.wait_until_ended(within=20) != 0
        finally:
            await second.kill()
        assert str(server.pid) in second.log_text(), "it says who has the data"
        assert "in use" in second.log_text()
        session_id = await server.create_session("talk")
        await server.start_run(session_id, plan("still here"), mode="wait")
        await check_session(server, session_id)


async def test_a_server_that_is_still_starting_ends_too(tmp_path: Path, model: PlannedModel) -> None:
    server = ChaosServer(tmp_path, model.url)
    async with server:
        await server.kill()
        await server.spawn()

        async def bound() -> bool:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            except OSError:
                return False
            writer.close()
            return True

        await eventually("its address is bound: long before it answers", bound, every=0.005)
        await server.terminate(within=20)
