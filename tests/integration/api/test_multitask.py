"""A second input for a session whose run is active, over HTTP: refused, queued, or in the first one's place."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from integration.api.control_workflows import messages, users, write_steps
from modular_agent.api.middleware.drain import Gate
from modular_agent.api.stopping import Stopping
from servers.live_server import LiveServer

ASK = """
nodes: {review: {type: human, question: "Go on?"}}
edges: [{from: START, to: review}, {from: review, to: END}]
"""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[LiveServer]:
    server = LiveServer(tmp_path, MAX_PARALLEL_RUNS="2")
    write_steps(server, delay="120ms")
    server.workflow(ASK, name="ask")
    async with server:
        yield server


async def begun(server: LiveServer, message: str = "first") -> tuple[str, str]:
    session_id = await server.session("workflows/steps.yaml")
    return session_id, (await server.run(session_id, message, mode="background"))["run_id"]


async def send(server: LiveServer, session_id: str, message: str, multitask: str, **body: Any) -> tuple[int, Any]:
    headers = {"Idempotency-Key": key} if (key := body.pop("key", None)) else {}
    body = {"message": message, "multitask": multitask, **body}
    answer = await server.client.post(f"/sessions/{session_id}/runs", json=body, headers=headers)
    return answer.status_code, answer.json()


async def runs(server: LiveServer, session_id: str) -> list[tuple[str, str]]:
    """The ids and statuses of the session's runs, oldest first."""
    found = (await server.get(f"/sessions/{session_id}/runs", page_size=100))["runs"]
    return [(run["run_id"], run["status"]) for run in reversed(found)]


async def all_ended(server: LiveServer, session_id: str, count: int) -> list[tuple[str, str]]:
    async with asyncio.timeout(20):
        while True:
            found = await runs(server, session_id)
            if len(found) == count and all(status in ("completed", "stopped", "failed") for _, status in found):
                return found
            await asyncio.sleep(0.02)


# -- reject ----------------------------------------------------------------------------------------------------


async def test_by_default_a_second_input_is_refused_and_changes_nothing(server: LiveServer) -> None:
    session_id, run_id = await begun(server)
    answer = await server.client.post(f"/sessions/{session_id}/runs", json={"message": "second"})
    assert (answer.status_code, answer.json()["code"]) == (409, "run_already_active")
    assert await all_ended(server, session_id, 1) == [(run_id, "completed")]
    assert await users(server, session_id) == ["first"]


async def test_of_many_at_once_one_is_taken(server: LiveServer) -> None:
    session_id = await server.session("workflows/steps.yaml")
    answers = await asyncio.gather(*(send(server, session_id, f"m{n}", "reject") for n in range(20)))
    assert sorted(status for status, _ in answers) == [202, *[409] * 19]
    await all_ended(server, session_id, 1)


# -- enqueue ---------------------------------------------------------------------------------------------------


async def test_queued_inputs_run_one_after_the_other_in_their_order(server: LiveServer) -> None:
    session_id, run_id = await begun(server)
    ids = [run_id]
    for message in ("second", "third", "fourth"):
        status, run = await send(server, session_id, message, "enqueue")
        assert (status, run["status"]) == (202, "queued")
        seen = await server.get(f"/sessions/{session_id}/runs/{run['run_id']}")
        assert seen["run_id"] == run["run_id"]
        ids.append(run["run_id"])
    assert await all_ended(server, session_id, 4) == [(each, "completed") for each in ids]
    assert await users(server, session_id) == ["first", "second", "third", "fourth"]
    assert [record["action"] for record in await server.records(session_id, "control")] == ["enqueue"] * 3


async def test_many_at_once_all_run_each_once(server: LiveServer) -> None:
    session_id = await server.session("workflows/steps.yaml")
    answers = await asyncio.gather(*(send(server, session_id, f"m{n}", "enqueue") for n in range(12)))
    assert {status for status, _ in answers} == {202}
    ids = {run["run_id"] for _, run in answers}
    assert len(ids) == 12
    ended = await all_ended(server, session_id, 12)
    assert {each for each, _ in ended} == ids
    assert {status for _, status in ended} == {"completed"}
    assert sorted(await users(server, session_id)) == sorted(f"m{n}" for n in range(12))


async def test_the_queue_survives_a_restart(server: LiveServer, tmp_path: Path) -> None:
    session_id, run_id = await begun(server)
    queued = [(await send(server, session_id, message, "enqueue"))[1]["run_id"] for message in ("second", "third")]
    await server.__aexit__()
    async with LiveServer(tmp_path) as later:
        assert [each for each, _ in await all_ended(later, session_id, 3)] == [run_id, *queued]
        assert await users(later, session_id) == ["first", "second", "third"]
    await server.__aenter__()


async def test_the_queue_of_a_paused_run_waits_with_it_also_over_a_restart(server: LiveServer, tmp_path: Path) -> None:
    session_id, run_id = await begun(server)
    await server.post(f"/sessions/{session_id}/pause?wait=true")
    _, queued = await send(server, session_id, "second", "enqueue")
    await server.__aexit__()
    async with LiveServer(tmp_path) as later:
        await asyncio.sleep(0.1)
        assert (await later.get(f"/sessions/{session_id}/runs/{queued['run_id']}"))["status"] == "queued"
        await later.post(f"/sessions/{session_id}/resume?wait=true")
        assert await all_ended(later, session_id, 2) == [(run_id, "completed"), (queued["run_id"], "completed")]
    await server.__aenter__()


async def test_with_wait_the_answer_is_the_end_of_the_queued_run(server: LiveServer) -> None:
    session_id, _ = await begun(server)
    status, run = await send(server, session_id, "second", "enqueue", mode="wait")
    assert (status, run["status"]) == (200, "completed")
    assert await users(server, session_id) == ["first", "second"]


async def test_a_server_that_stops_lets_those_go_who_wait_for_a_queued_run(server: LiveServer) -> None:
    session_id = await server.session("workflows/ask.yaml")
    await server.run(session_id, "first")
    waiting = asyncio.create_task(send(server, session_id, "second", "enqueue", mode="wait"))
    while not await server.records(session_id, "control"):
        await asyncio.sleep(0.01)
    await Stopping(server.runtime, Gate()).wait()
    status, run = await asyncio.wait_for(waiting, 10)
    assert (status, run["status"]) == (200, "queued")


async def test_a_repeated_request_is_queued_once(server: LiveServer) -> None:
    session_id, _ = await begun(server)
    answers = await asyncio.gather(*(send(server, session_id, "second", "enqueue", key="k1") for _ in range(4)))
    assert {run["run_id"] for _, run in answers} == {answers[0][1]["run_id"]}
    await all_ended(server, session_id, 2)
    status, run = await send(server, session_id, "second", "enqueue", key="k1")
    assert (status, run["run_id"], run["status"]) == (202, answers[0][1]["run_id"], "completed")
    status, problem = await send(server, session_id, "other", "enqueue", key="k1")
    assert (status, problem["code"]) == (409, "idempotency_key_reused")
    assert await users(server, session_id) == ["first", "second"]


async def test_what_could_never_run_is_refused_before_it_waits(server: LiveServer) -> None:
    session_id, _ = await begun(server)
    for wrong in ({"input": {"unknown": 1}}, {"limits": {"max_steps": 0}}, {"input": {"note": 1}}):
        body = {"multitask": "enqueue", **wrong}
        assert (await server.client.post(f"/sessions/{session_id}/runs", json=body)).status_code == 400, wrong
    await all_ended(server, session_id, 1)


async def test_what_waits_runs_after_a_stop_and_after_an_answer(server: LiveServer) -> None:
    session_id, first = await begun(server)
    _, queued = await send(server, session_id, "second", "enqueue")
    await server.post(f"/sessions/{session_id}/stop?wait=true")
    assert await all_ended(server, session_id, 2) == [(first, "stopped"), (queued["run_id"], "completed")]
    session_id = await server.session("workflows/ask.yaml")
    [question] = (await server.run(session_id, "go"))["interrupts"]
    await send(server, session_id, "more", "enqueue")
    await server.post(f"/sessions/{session_id}/interrupts/{question['interrupt_id']}", {"answer": "yes"})
    run = await server.status(session_id, "paused")
    assert len(await runs(server, session_id)) == 2
    assert (await server.get(f"/sessions/{session_id}/interrupts"))["interrupts"][0]["run_id"] == run["run_id"]


async def test_what_waits_runs_after_the_stop_of_a_paused_run(server: LiveServer) -> None:
    session_id, first = await begun(server)
    await server.post(f"/sessions/{session_id}/pause?wait=true")
    status, waiting = await send(server, session_id, "second", "enqueue")
    assert status == 202
    await server.post(f"/sessions/{session_id}/stop?wait=true")
    assert await all_ended(server, session_id, 2) == [(first, "stopped"), (waiting["run_id"], "completed")]


async def test_what_waits_runs_after_the_stop_of_a_run_that_had_no_place_yet(server: LiveServer) -> None:
    slow = write_steps(server, delay="2s", name="slow")
    busy = [await server.session(slow) for _ in range(2)]
    for other in busy:
        await server.run(other, "first", mode="background")
    session_id, first = await begun(server)
    assert await runs(server, session_id) == [(first, "queued")]
    _, waiting = await send(server, session_id, "second", "enqueue")
    await server.post(f"/sessions/{session_id}/stop?wait=true")
    for other in busy:
        await server.post(f"/sessions/{other}/stop?wait=true")
    assert await all_ended(server, session_id, 2) == [(first, "stopped"), (waiting["run_id"], "completed")]


async def test_a_full_queue_refuses(server: LiveServer) -> None:
    session_id = await server.session("workflows/ask.yaml")
    await server.run(session_id, "go")
    answers = await asyncio.gather(*(send(server, session_id, f"m{n}", "enqueue") for n in range(104)))
    assert sorted(status for status, _ in answers) == [*[202] * 100, *[503] * 4]
    assert {problem["code"] for status, problem in answers if status == 503} == {"run_queue_full"}


# -- interrupt -------------------------------------------------------------------------------------------------


async def test_an_interrupting_input_stops_the_first_and_keeps_its_state(server: LiveServer) -> None:
    session_id, first = await begun(server)
    await asyncio.sleep(0.18)
    status, run = await send(server, session_id, "second", "interrupt", mode="wait")
    assert (status, run["status"]) == (200, "completed")
    assert await runs(server, session_id) == [(first, "stopped"), (run["run_id"], "completed")]
    assert await users(server, session_id) == ["first", "second"]
    statuses = [(r["run_id"], r["status"]) for r in await server.records(session_id, "run")]
    assert statuses.index((first, "stopped")) < statuses.index((run["run_id"], "running"))


async def test_an_interrupting_input_takes_the_place_of_a_paused_run_and_its_question(server: LiveServer) -> None:
    session_id = await server.session("workflows/ask.yaml")
    first = await server.run(session_id, "go")
    status, run = await send(server, session_id, "again", "interrupt", mode="wait")
    assert (status, run["status"]) == (200, "paused")
    assert await runs(server, session_id) == [(first["run_id"], "stopped"), (run["run_id"], "paused")]
    assert [each["run_id"] for each in (await server.get(f"/sessions/{session_id}/interrupts"))["interrupts"]] == [
        run["run_id"]
    ]


async def test_what_waits_in_the_queue_is_not_swept_away_by_an_interrupting_input(server: LiveServer) -> None:
    session_id, first = await begun(server)
    _, queued = await send(server, session_id, "queued", "enqueue")
    _, second = await send(server, session_id, "urgent", "interrupt")
    assert await all_ended(server, session_id, 3) == [
        (first, "stopped"), (second["run_id"], "completed"), (queued["run_id"], "completed"),
    ]  # fmt: skip
    assert await users(server, session_id) == ["first", "urgent", "queued"]


async def test_many_interrupting_inputs_at_once_leave_one_run_and_none_is_lost(server: LiveServer) -> None:
    session_id, _ = await begun(server)
    answers = await asyncio.gather(*(send(server, session_id, f"m{n}", "interrupt") for n in range(6)))
    taken = [run["run_id"] for status, run in answers if status == 202]
    assert len(taken) == 6, answers
    ended = await all_ended(server, session_id, 7)
    assert [status for _, status in ended].count("completed") == 1
    assert ended[-1][1] == "completed"
    assert sorted(await users(server, session_id)) == sorted(["first", *(f"m{n}" for n in range(6))])


# -- rollback --------------------------------------------------------------------------------------------------


async def test_a_rollback_drops_what_the_first_run_did_to_the_state(server: LiveServer) -> None:
    session_id = await server.session("workflows/steps.yaml")
    await server.run(session_id, "kept")
    before = await messages(server, session_id)
    first = await server.run(session_id, "dropped", mode="background")
    await asyncio.sleep(0.18)
    status, run = await send(server, session_id, "instead", "rollback", mode="wait")
    assert (status, run["status"]) == (200, "completed")
    after = await messages(server, session_id)
    assert after[: len(before)] == before
    assert [content for role, content in after if role == "user"] == ["kept", "instead"]
    assert (await runs(server, session_id))[1] == (first["run_id"], "stopped")
    actions = [(r["action"], r["run_id"]) for r in await server.records(session_id, "control")]
    assert actions == [("stop", first["run_id"]), ("rollback", first["run_id"])]
    logged = [r["content"] for r in await server.records(session_id, "message") if r["message_type"] == "user"]
    assert logged == ["kept", "dropped", "instead"], "the log keeps what happened"


async def test_a_first_run_that_is_rolled_back_leaves_nothing(server: LiveServer) -> None:
    session_id = await server.session("workflows/steps.yaml", initial_state={"note": "initial"})
    await server.run(session_id, "dropped", mode="background")
    await asyncio.sleep(0.18)
    _, run = await send(server, session_id, "instead", "rollback", mode="wait")
    assert run["status"] == "completed"
    assert await users(server, session_id) == ["instead"]
    assert (await server.get(f"/sessions/{session_id}/state"))["note"] == "initial"


async def test_a_rollback_keeps_what_the_run_had_carried_over_from_a_stopped_one(server: LiveServer) -> None:
    slow = write_steps(server, delay="2s", name="slow")
    *busy, session_id = [await server.session(slow) for _ in range(3)]
    for each in (*busy, session_id):
        await server.run(each, "stopped at once", mode="background")
    for each in (session_id, *busy):  # the last one still waits for a place
        await server.post(f"/sessions/{each}/stop?wait=true")
    for dropped in ("dropped", "dropped too"):
        await send(server, session_id, dropped, "rollback")
    await send(server, session_id, "instead", "rollback")
    await server.post(f"/sessions/{session_id}/stop?wait=true")
    await server.run(session_id, "at last", mode="background")
    await server.status(session_id, "completed", timeout=20)
    assert await users(server, session_id) == ["stopped at once", "instead", "at last"]


async def test_a_rolled_back_paused_run_leaves_no_question_and_no_message(server: LiveServer) -> None:
    session_id, _ = await begun(server)
    await server.post(f"/sessions/{session_id}/pause?wait=true")
    await server.client.patch(f"/sessions/{session_id}/state", json={"state": {"note": "edited"}})
    await server.post(f"/sessions/{session_id}/messages", {"message": "injected"})
    _, run = await send(server, session_id, "instead", "rollback", mode="wait")
    assert run["status"] == "completed"
    assert await users(server, session_id) == ["instead"]
    assert "note" not in await server.get(f"/sessions/{session_id}/state")


async def test_a_rollback_keeps_the_queue_and_rolls_back_one_run_only(server: LiveServer) -> None:
    session_id, first = await begun(server)
    _, queued = await send(server, session_id, "queued", "enqueue")
    _, second = await send(server, session_id, "instead", "rollback")
    assert await all_ended(server, session_id, 3) == [
        (first, "stopped"), (second["run_id"], "completed"), (queued["run_id"], "completed"),
    ]  # fmt: skip
    assert await users(server, session_id) == ["instead", "queued"]


@pytest.mark.parametrize("mode", ["interrupt", "rollback"])
async def test_a_refused_input_stops_nothing(server: LiveServer, mode: str) -> None:
    session_id, run_id = await begun(server)
    body = {"multitask": mode, "input": {"unknown": 1}}
    assert (await server.client.post(f"/sessions/{session_id}/runs", json=body)).status_code == 400
    assert await all_ended(server, session_id, 1) == [(run_id, "completed")]


@pytest.mark.parametrize("mode", ["interrupt", "rollback"])
async def test_a_repeated_request_does_not_interrupt_what_it_started(server: LiveServer, mode: str) -> None:
    session_id, _ = await begun(server)
    _, run = await send(server, session_id, "second", mode, key="once")
    status, again = await send(server, session_id, "second", mode, key="once")
    assert (status, again["run_id"]) == (202, run["run_id"])
    ended = await all_ended(server, session_id, 2)
    assert ended[-1] == (run["run_id"], "completed")
