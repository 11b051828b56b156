"""A pause holds: whatever is answered, by a person or by the clock, the run goes on only when somebody says so."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from integration.api.control_workflows import TWICE
from modular_agent.domain.runs.control import control_record
from servers.live_server import LiveServer
from servers.server_process import ServerProcess

ASK = """
models: {main: {provider: scripted, script: scripts/ask.yaml}}
state: {schema: {type: object, properties: {note: {type: string}, approve: {type: boolean}}}}
nodes:
  start: {type: llm, model: main}
  review: {type: human, question: "Good?"%s, form: {approve: {type: boolean}}}
  one: {type: llm, model: main}
  two: {type: llm, model: main}
edges:
  - {from: START, to: start}
  - {from: start, to: review}
  - {from: review, to: one}
  - {from: one, to: two}
  - {from: two, to: END}
"""
WAIT = """
schema: modular-agent/v1
name: wait
nodes: {rest: {type: wait, duration: 5100ms}}
edges: [{from: START, to: rest}, {from: rest, to: END}]
"""
BOTH = """
models: {main: {provider: scripted, script: scripts/both.yaml}}
state: {schema: {type: object, properties: {approve: {type: boolean}, done: {type: string}}}}
nodes:
  review: {type: human, question: "Good?", form: {approve: {type: boolean}}}
  slow: {type: llm, model: main, writes: done}
edges: [{from: START, to: review}, {from: START, to: slow}, {from: review, to: END}, {from: slow, to: END}]
"""
SOON = ", answer_within: 300ms, default_answer: {approve: true}"
GOOD = {"answer": {"approve": True}}
WHOLE = ["start", "review", "one", "two"]

Says = Callable[[LiveServer, str, str], Awaitable[dict[str, Any]]]


def write(server: LiveServer) -> None:
    server.workflow(ASK % "", name="ask", otherwise={"reply": "done"})
    server.workflow(
        ASK.replace("ask.yaml", "slow.yaml") % "", name="slow", otherwise={"reply": "done", "delay": "200ms"}
    )
    server.workflow(ASK.replace("ask.yaml", "soon.yaml") % SOON, name="soon", otherwise={"reply": "done"})
    server.workflow(BOTH, name="both", otherwise={"reply": "done", "delay": "500ms"})
    server.workflow(TWICE, name="twice")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[LiveServer]:
    server = LiveServer(tmp_path)
    write(server)
    async with server:
        yield server


async def asked(server: LiveServer, name: str) -> tuple[str, list[str]]:
    """A session whose run waits for answers, and where each is to be given."""
    session_id = await server.session(f"workflows/{name}.yaml")
    run = await server.run(session_id, "go")
    assert (run["status"], run["held"]) == ("paused", False)
    return session_id, [f"/sessions/{session_id}/interrupts/{each['interrupt_id']}" for each in run["interrupts"]]


async def by_rest(server: LiveServer, session_id: str, action: str) -> dict[str, Any]:
    return await server.post(f"/sessions/{session_id}/{action}?wait=true", status=200)


async def by_status(server: LiveServer, session_id: str, action: str) -> dict[str, Any]:
    status = {"pause": "paused", "resume": "active"}[action]
    answer = await server.client.put(f"/sessions/{session_id}", json={"status": status})
    assert answer.status_code == 200, answer.text
    [run] = (await server.get(f"/sessions/{session_id}/runs"))["runs"]
    await server.runtime.runs.wait(run["run_id"])
    return await server.get(f"/sessions/{session_id}/runs/{run['run_id']}")


async def by_socket(server: LiveServer, session_id: str, action: str) -> dict[str, Any]:
    async with server.socket() as client:
        await client.send("control", id="x", session_id=session_id, data={"action": action})
        return (await client.until("result", id="x"))["data"]


async def controls(server: LiveServer, session_id: str) -> list[str]:
    return [record["action"] for record in await server.records(session_id, "control")]


async def stays(server: LiveServer, session_id: str, *, seconds: float = 0.2) -> dict[str, Any]:
    """The session's run, which is paused and does nothing."""
    count = len(await server.records(session_id))
    await asyncio.sleep(seconds)
    assert len(await server.records(session_id)) == count
    [run] = (await server.get(f"/sessions/{session_id}/runs"))["runs"]
    assert run["status"] == "paused"
    return run


async def until_answered(server: LiveServer, session_id: str) -> dict[str, Any]:
    """The record of the answer, once it is in the log."""
    async with asyncio.timeout(10):
        while (record := (await server.records(session_id, "interrupt"))[-1])["phase"] != "answered":
            await asyncio.sleep(0.02)
    return record


# -- a run that waits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("says", [by_rest, by_status, by_socket])
async def test_a_run_that_waits_for_an_answer_is_held(server: LiveServer, says: Says) -> None:
    session_id, [question] = await asked(server, "ask")
    for _ in range(2):  # once in the log, however often it is said
        run = await says(server, session_id, "pause")
        assert (run["status"], run["held"], len(run["interrupts"])) == ("paused", True, 1)
        assert await controls(server, session_id) == ["pause"]
    refused = await server.client.post(question, json={"answer": {"approve": "x"}})
    assert (refused.status_code, refused.json()["code"]) == (400, "answer_invalid")
    run = await server.post(f"{question}?wait=true", GOOD, status=200)
    assert (run["status"], run["held"], run["interrupts"]) == ("paused", True, [])
    assert (await stays(server, session_id))["held"]
    run = await says(server, session_id, "resume")
    assert (run["status"], run["execution_path"], run["held"]) == ("completed", WHOLE, False)
    assert await controls(server, session_id) == ["pause", "resume"]


async def test_a_run_that_waits_for_the_clock_is_held(server: LiveServer) -> None:
    session_id, _ = await asked(server, "soon")
    assert (await by_rest(server, session_id, "pause"))["held"]
    assert (await until_answered(server, session_id))["by"] == "timer"
    await stays(server, session_id)
    assert (await by_rest(server, session_id, "resume"))["status"] == "completed"


@pytest.mark.parametrize(("verb", "rest"), [("resume", WHOLE), ("step", WHOLE[:2])])
async def test_resume_of_a_held_run_whose_question_is_open_lifts_the_hold(
    server: LiveServer, verb: str, rest: list[str]
) -> None:
    session_id, [question] = await asked(server, "ask")
    await by_rest(server, session_id, "pause")
    run = await by_rest(server, session_id, verb)
    assert (run["status"], run["held"], len(run["interrupts"])) == ("paused", False, 1)
    refused = await server.client.post(f"/sessions/{session_id}/{verb}")
    assert (refused.status_code, refused.json()["code"]) == (409, "questions_open")
    assert await controls(server, session_id) == ["pause", verb]
    run = await server.post(f"{question}?wait=true", GOOD, status=200)
    assert (run["execution_path"], run["held"]) == (rest, verb == "step")


async def test_the_answers_to_several_questions_do_not_end_a_hold(server: LiveServer) -> None:
    session_id, [first, second] = await asked(server, "twice")
    await server.post(first, {"answer": "a"})
    await by_rest(server, session_id, "pause")
    assert (await server.post(f"{second}?wait=true", {"answer": "b"}))["held"]
    await stays(server, session_id)
    assert (await by_rest(server, session_id, "resume"))["status"] == "completed"


async def test_a_held_run_can_be_stopped_and_is_not_held_when_it_is_taken_up(server: LiveServer) -> None:
    session_id, _ = await asked(server, "ask")
    await by_rest(server, session_id, "pause")
    assert (await by_rest(server, session_id, "stop"))["status"] == "stopped"
    run = await by_rest(server, session_id, "retry")
    assert (run["status"], run["held"]) == ("paused", False)
    [question] = run["interrupts"]
    answered = f"/sessions/{session_id}/interrupts/{question['interrupt_id']}?wait=true"
    assert (await server.post(answered, GOOD))["status"] == "completed"


async def test_a_change_of_the_state_does_not_end_a_hold(server: LiveServer) -> None:
    session_id, [question] = await asked(server, "ask")
    await by_rest(server, session_id, "pause")
    await edited(server, session_id)
    assert (await server.post(f"{question}?wait=true", GOOD))["held"]
    run = await by_rest(server, session_id, "resume")
    assert (run["status"], run["result"]["state"]["note"]) == ("completed", "edited")


async def edited(server: LiveServer, session_id: str) -> None:
    answer = await server.client.patch(f"/sessions/{session_id}/state", json={"state": {"note": "edited"}})
    assert answer.status_code == 200


# -- a run that executes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_answered_first", [False, True])
async def test_a_pause_while_a_branch_has_asked_holds(server: LiveServer, is_answered_first: bool) -> None:
    session_id = await server.session("workflows/both.yaml")
    await server.run(session_id, "go", mode="background")
    async with asyncio.timeout(10):
        while not (found := (await server.get(f"/sessions/{session_id}/interrupts"))["interrupts"]):
            await asyncio.sleep(0.01)
    question = f"/sessions/{session_id}/interrupts/{found[0]['interrupt_id']}"
    if is_answered_first:
        await server.post(question, GOOD)
    await server.post(f"/sessions/{session_id}/pause")
    if not is_answered_first:
        await server.post(question, GOOD)
    await server.status(session_id, "paused")
    assert (await stays(server, session_id))["held"]
    run = await by_rest(server, session_id, "resume")
    assert (run["status"], run["result"]["state"]) == ("completed", {"approve": True, "done": "done"})


async def test_a_pause_at_any_moment_is_a_hold_also_when_the_run_asks_just_then(server: LiveServer) -> None:
    for n in range(24):
        session_id = await server.session("workflows/ask.yaml")
        await server.run(session_id, "go", mode="background")
        await asyncio.sleep(0.001 * n)
        run = await by_rest(server, session_id, "pause")
        assert (run["status"], run["held"]) == ("paused", True), n
        assert await controls(server, session_id) == ["pause"]


async def test_a_pause_while_it_is_written_that_the_run_waits_comes_after_that(server: LiveServer) -> None:
    session_id = await server.session("workflows/slow.yaml")
    run_id = (await server.run(session_id, "go", mode="background"))["run_id"]
    runtime, session = server.runtime, await server.runtime.sessions.get(session_id)
    run, execution = await runtime.runs.get(session.ref, run_id), runtime.supervisor._executions[run_id]
    while not execution.is_ending:
        await asyncio.sleep(0)
    is_held = await runtime.control._is_held(session, run, control_record(run, "pause", "test"), wait=False)
    assert not is_held, "it was too late for this look at the run"
    run = await runtime.runs.get(session.ref, run_id)
    assert (run.status, run.hold) == ("paused", None), "it has come to rest"
    assert (await runtime.control.pause(session, by="test", wait=False)).hold == "pause"
    assert await controls(server, session_id) == ["pause"]


@pytest.mark.parametrize("name", ["slow", "soon"])
async def test_a_pause_and_an_answer_at_once_come_one_after_the_other(server: LiveServer, name: str) -> None:
    for n in range(4 if name == "slow" else 12):
        session_id, questions = await asked(server, name)
        if name == "slow":
            pause, _ = await asyncio.gather(
                server.client.post(f"/sessions/{session_id}/pause?wait=true"), server.post(questions[0], GOOD)
            )
        else:  # the clock's answer comes 300 ms after the question
            await asyncio.sleep(0.28 + 0.003 * n)
            pause = await server.client.post(f"/sessions/{session_id}/pause?wait=true")
        if pause.status_code == 409 or pause.json()["status"] == "completed":
            assert name == "soon", "it had slow steps to go"  # the clock was quicker
            continue
        assert (pause.json()["status"], pause.json()["held"]) == ("paused", True)
        await until_answered(server, session_id)
        await stays(server, session_id, seconds=0.05)
        assert (await by_rest(server, session_id, "resume"))["status"] == "completed"


# -- a single step ---------------------------------------------------------------------------------------------


async def stepping(server: LiveServer) -> tuple[str, str]:
    """A session whose run has met a question in a single step, and where to answer it."""
    session_id = await server.session("workflows/slow.yaml")
    await server.run(session_id, "go", mode="background")
    assert (await by_rest(server, session_id, "pause"))["execution_path"] == ["start"]
    await edited(server, session_id)  # which is applied in the step, and leaves it a step
    run = await by_rest(server, session_id, "step")
    assert (run["status"], run["held"]) == ("paused", False)
    [question] = run["interrupts"]
    return session_id, f"/sessions/{session_id}/interrupts/{question['interrupt_id']}"


async def test_the_answer_to_a_question_met_in_a_step_finishes_that_step(server: LiveServer) -> None:
    session_id, question = await stepping(server)
    run = await server.post(f"{question}?wait=true", GOOD, status=200)
    assert (run["status"], run["held"], run["execution_path"]) == ("paused", True, ["start", "review"])
    await stays(server, session_id)
    run = await by_rest(server, session_id, "step")
    assert (run["status"], run["execution_path"]) == ("paused", ["start", "review", "one"])
    run = await by_rest(server, session_id, "resume")
    assert (run["status"], run["execution_path"]) == ("completed", WHOLE)


async def test_who_resumes_at_a_question_met_in_a_step_lets_it_go_on_to_the_end(server: LiveServer) -> None:
    session_id, question = await stepping(server)
    assert (await by_rest(server, session_id, "resume"))["status"] == "paused"
    assert (await server.post(f"{question}?wait=true", GOOD))["execution_path"] == WHOLE


async def test_a_step_that_was_answered_just_before_a_restart_is_finished_after_it(
    server: LiveServer, tmp_path: Path
) -> None:
    session_id, question = await stepping(server)
    await stored(server, session_id, question)
    await server.__aexit__()
    async with LiveServer(tmp_path) as later:
        async with asyncio.timeout(10):
            while not (found := (await later.get(f"/sessions/{session_id}/runs"))["runs"][0])["held"]:
                await asyncio.sleep(0.02)
        run = await later.get(f"/sessions/{session_id}/runs/{found['run_id']}")
        assert (run["status"], run["execution_path"]) == ("paused", ["start", "review"])
    async with LiveServer(tmp_path) as again:  # and no further one
        assert (await stays(again, session_id))["held"]
        run = await by_rest(again, session_id, "resume")
        assert run["status"] == "completed", run["error"]
    await server.__aenter__()


async def stored(server: LiveServer, session_id: str, question: str) -> None:
    """Stores an answer, as it is when the process dies before the run goes on."""
    session = await server.runtime.sessions.get(session_id)
    row = await server.runtime.runs.interrupts.get(question.rpartition("/")[2])
    assert row is not None
    run = await server.runtime.runs.get(session.ref, row.run_id)
    await server.runtime.control._store_answer(session, run, row, {"approve": True}, "test")


# -- a crash ---------------------------------------------------------------------------------------------------


async def test_a_hold_outlives_a_kill_between_the_pause_and_the_moment_of_the_clock(tmp_path: Path) -> None:
    async with ServerProcess(tmp_path, workflows={"wait": WAIT}) as server:
        held, free = [await server.create_session("wait") for _ in range(2)]
        for session_id in (held, free):
            await server.start_run(session_id, "go", mode="wait")
        await server.post(f"/sessions/{held}/pause", wait=True)
        await server.kill()
        await server.start()
        async with asyncio.timeout(20):
            while (await server.session(free))["status"] != "completed":
                await asyncio.sleep(0.05)
            while (await server.records(held))[-1].get("phase") != "answered":
                await asyncio.sleep(0.05)
        await server.kill()  # with the answer stored
        await server.start()
        await asyncio.sleep(0.3)
        assert (await server.session(held))["status"] == "paused"
        assert (await server.post(f"/sessions/{held}/resume", wait=True))["status"] == "completed"
