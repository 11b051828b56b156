"""Pause, resume, step, stop, retry and answers over HTTP: what is said to have happened has happened."""

import asyncio
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from servers.live_server import LiveServer, calls
from servers.model_server import Behaviour, ModelServer

TOOLS = '''
import asyncio
import pathlib
import time

LOG = pathlib.Path("{log}")


def _note(text):
    with LOG.open("a") as file:
        file.write(text + "\\n")


async def patient(seconds: float = 30.0) -> str:
    """Waits without blocking, and notes each moment."""
    for _ in range(int(seconds * 100)):
        _note("patient")
        await asyncio.sleep(0.01)
    return "waited"


def busy() -> str:
    """Never ends and never yields."""
    while True:
        _note("busy")
        time.sleep(0.01)


def quick(name: str = "x") -> str:
    """Notes its name."""
    _note("quick " + name)
    return name
'''
STEPS = """
models: {main: {provider: scripted, script: scripts/steps.yaml}}
state: {schema: {type: object, properties: {seen: {type: array}}}, reducers: {seen: append}}
nodes:
  one: {type: llm, model: main, writes: seen}
  two: {type: llm, model: main, writes: seen}
  three: {type: llm, model: main, writes: seen}
edges: [{from: START, to: one}, {from: one, to: two}, {from: two, to: three}, {from: three, to: END}]
"""
CALL = """
models: {main: {provider: scripted, script: scripts/call.yaml}}
tools:
  patient: {ref: "tools.slow:patient", effect: read}
  busy: {ref: "tools.slow:busy", effect: read}
  quick: {ref: "tools.slow:quick", effect: read}
nodes:
  think: {type: llm, model: main, tools: [patient, busy, quick]}
  act: {type: tools}
edges:
  - {from: START, to: think}
  - {from: think, to: act, when: has_tool_calls}
  - {from: think, to: END}
  - {from: act, to: think}
"""
ASK = """
models: {main: {provider: scripted, script: scripts/steps.yaml}}
nodes:
  review: {type: human, question: "Send this?", form: {approve: {type: boolean}}}
  answer: {type: llm, model: main}
edges: [{from: START, to: review}, {from: review, to: answer}, {from: answer, to: END}]
"""
BOTH = """
state: {schema: {type: object, properties: {approve: {type: boolean}, done: {type: string}}}}
nodes:
  review: {type: human, question: "Good?", form: {approve: {type: boolean}}}
  slow: {type: function, ref: "tools.slow:patient", input: {seconds: "1.0"}, writes: done}
edges: [{from: START, to: review}, {from: START, to: slow}, {from: review, to: END}, {from: slow, to: END}]
"""
WAIT = """
nodes: {rest: {type: wait, duration: 1h}}
edges: [{from: START, to: rest}, {from: rest, to: END}]
"""
NETWORK = """
models: {main: {provider: openai, model: m, base_url: "%s", timeout: 60s}}
nodes: {answer: {type: llm, model: main}}
edges: [{from: START, to: answer}, {from: answer, to: END}]
"""
BRANCHES = """
models: {main: {provider: scripted, script: scripts/branches.yaml}}
state: {schema: {type: object, properties: {left: {type: string}, right: {type: string}}}}
tools: {quick: {ref: "tools.slow:quick", effect: read}}
nodes:
  left: {type: llm, model: main, prompt: "left side", writes: left}
  right: {type: llm, model: main, prompt: "right side", writes: right}
edges: [{from: START, to: left}, {from: START, to: right}, {from: left, to: END}, {from: right, to: END}]
"""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[LiveServer]:
    server = LiveServer(tmp_path, MAX_PARALLEL_RUNS="3", STOP_GRACE_SECONDS="5")
    write(server)
    async with server:
        yield server


def write(server: LiveServer) -> None:
    server.configure({"tools/slow.py": textwrap.dedent(TOOLS.replace("{log}", str(server.path / "noted.txt")))})
    server.workflow(STEPS, name="steps", otherwise={"reply": "step {{ nth }}", "delay": "150ms"})
    server.workflow(
        CALL,
        name="call",
        turns=[
            {"when": {"last_role": "tool"}, "reply": "Done."},
            {"when": {"last_user": "patient"}, **calls(("patient", {}))},
            {"when": {"last_user": "busy"}, **calls(("busy", {}))},
        ],
        otherwise={"reply": "Hello."},
    )
    server.workflow(ASK, name="ask")
    server.workflow(WAIT, name="wait")
    server.workflow(BOTH, name="both")
    soon = '"Good?", answer_within: 50ms, default_answer: {approve: true},'
    server.workflow(BOTH.replace('"Good?",', soon), name="both-soon")
    server.workflow(ASK.replace('"Send this?",', soon.replace("50ms", "200ms")), name="ask-soon")
    server.workflow(
        BRANCHES,
        name="branches",
        turns=[
            {"when": {"system": "left"}, "reply": "left is done"},
            {
                "when": {"system": "right"},
                "fail": {"kind": "authentication", "status": 401, "message": "no", "times": 1},
                "reply": "right is done",
            },
        ],
        otherwise={"reply": "right is done"},
    )


def noted(server: LiveServer) -> list[str]:
    file = server.path / "noted.txt"
    return file.read_text().splitlines() if file.exists() else []


async def until_noted(server: LiveServer, text: str) -> None:
    async with asyncio.timeout(10):
        while text not in noted(server):
            await asyncio.sleep(0.01)


async def call(server: LiveServer, session_id: str, verb: str, **params: Any) -> tuple[int, dict[str, Any]]:
    answer = await server.client.post(f"/sessions/{session_id}/{verb}", params=params)
    return answer.status_code, answer.json()


async def begun(server: LiveServer, name: str, message: str | None = "go") -> tuple[str, str]:
    """A session whose run has started: its id and the run's."""
    session_id = await server.session(f"workflows/{name}.yaml")
    run = await server.run(session_id, message, mode="background")
    return session_id, run["run_id"]


# -- pause, resume, step ---------------------------------------------------------------------------------------


async def test_pause_finishes_the_step_and_holds_and_resume_goes_on(server: LiveServer) -> None:
    session_id, run_id = await begun(server, "steps")
    status, run = await call(server, session_id, "pause", wait=True)
    assert (status, run["status"], run["run_id"]) == (200, "paused", run_id)
    assert run["execution_path"] == ["one"]
    assert run["node_states"] == {"one": "completed"}
    assert (await server.get(f"/sessions/{session_id}"))["status"] == "paused"
    assert (await server.get(f"/sessions/{session_id}"))["current_run_id"] == run_id
    count = len(await server.records(session_id))
    await asyncio.sleep(0.4)
    assert len(await server.records(session_id)) == count
    status, again = await call(server, session_id, "pause", wait=True)
    assert (status, again["status"]) == (200, "paused")
    assert len(await server.records(session_id)) == count
    status, run = await call(server, session_id, "resume", wait=True)
    assert (status, run["status"], run["run_id"]) == (200, "completed", run_id)
    assert run["execution_path"] == ["one", "two", "three"]
    controls = [(r["action"], bool(r["by"])) for r in await server.records(session_id, "control")]
    assert controls == [("pause", True), ("resume", True)]
    statuses = [record["status"] for record in await server.records(session_id, "run")]
    assert statuses == ["running", "pausing", "paused", "running", "completed"]


async def test_without_wait_the_answer_is_that_it_was_accepted(server: LiveServer) -> None:
    session_id, _ = await begun(server, "steps")
    status, run = await call(server, session_id, "pause")
    assert (status, run["status"]) == (202, "pausing")
    await server.status(session_id, "paused")
    status, run = await call(server, session_id, "resume")
    assert (status, run["status"]) == (202, "running")
    status, run = await call(server, session_id, "stop")
    assert status == 202
    assert run["status"] in ("stopping", "stopped")
    await server.status(session_id, "stopped")
    status, run = await call(server, session_id, "retry")
    assert (status, run["status"]) == (202, "running")
    assert (await server.status(session_id, "completed"))["status"] == "completed"


async def test_a_pause_during_the_last_step_answers_completed(server: LiveServer) -> None:
    slow = STEPS.replace("scripts/steps.yaml", "scripts/late.yaml")
    server.workflow(slow, name="late", otherwise={"reply": "step", "delay": "700ms"})  # time to ask within a step
    session_id, run_id = await begun(server, "late")
    async with asyncio.timeout(10):
        while (await server.get(f"/sessions/{session_id}/runs/{run_id}"))["current_node"] != "three":
            await asyncio.sleep(0.02)
    status, run = await call(server, session_id, "pause", wait=True)
    assert (status, run["status"]) == (200, "completed")
    assert len(run["result"]["state"]["seen"]) == 3


async def test_steps_are_run_one_at_a_time_to_the_end(server: LiveServer) -> None:
    session_id, _ = await begun(server, "steps")
    await call(server, session_id, "pause", wait=True)
    status, run = await call(server, session_id, "step", wait=True)
    assert (status, run["status"], run["execution_path"]) == (200, "paused", ["one", "two"])
    _, run = await call(server, session_id, "step", wait=True)
    if run["status"] == "paused":  # the end itself may be found by one more step
        assert run["execution_path"] == ["one", "two", "three"]
        _, run = await call(server, session_id, "step", wait=True)
    assert run["status"] == "completed"
    assert run["execution_path"] == ["one", "two", "three"]
    status, problem = await call(server, session_id, "step", wait=True)
    assert (status, problem["code"]) == (409, "run_not_paused")


async def test_controls_without_a_fitting_run_are_conflicts(server: LiveServer) -> None:
    session_id = await server.session("workflows/call.yaml")
    for verb, code in (
        ("pause", "no_active_run"), ("stop", "no_active_run"), ("resume", "run_not_paused"),
        ("step", "run_not_paused"), ("retry", "no_active_run"),
    ):  # fmt: skip
        status, problem = await call(server, session_id, verb)
        assert (status, problem["code"]) == (409, code), verb
    await server.run(session_id, "hello")
    status, problem = await call(server, session_id, "retry")
    assert (status, problem["code"]) == (409, "illegal_transition")
    assert len(await server.records(session_id, "control")) == 0


async def test_a_paused_run_is_the_active_one_and_goes_on_after_a_restart(server: LiveServer, tmp_path: Path) -> None:
    session_id, run_id = await begun(server, "steps")
    await call(server, session_id, "pause", wait=True)
    second = await server.client.post(f"/sessions/{session_id}/runs", json={"message": "x"})
    assert (second.status_code, second.json()["code"]) == (409, "run_already_active")
    await server.__aexit__()
    async with LiveServer(tmp_path) as later:
        assert (await later.get(f"/sessions/{session_id}"))["status"] == "paused"
        status, run = await call(later, session_id, "resume", wait=True)
        assert (status, run["status"], run["run_id"]) == (200, "completed", run_id)
        assert run["execution_path"] == ["one", "two", "three"]
        assert len((await later.get(f"/sessions/{session_id}/state"))["seen"]) == 3
        messages = [record["record_id"] for record in await later.records(session_id, "message")]
        assert len(messages) == len(set(messages)) == 4
    await server.__aenter__()


@pytest.mark.parametrize(("delay", "executed"), [("100ms", ["one", "two"]), ("5s", ["one"])])
async def test_of_a_single_step_no_more_is_done_when_the_process_ends_in_it(
    tmp_path: Path, delay: str, executed: list[str]
) -> None:
    server = LiveServer(tmp_path)  # it interrupts a step that takes longer than 0.2 s
    slow = {"when": {"system": "two"}, "reply": "two", "delay": delay}
    text = STEPS.replace("two: {type: llm,", "two: {type: llm, prompt: two,")
    server.workflow(text, name="steps", turns=[slow], otherwise={"reply": "step", "delay": "150ms"})
    async with server:
        session_id, _ = await begun(server, "steps")
        await call(server, session_id, "pause", wait=True)
        await call(server, session_id, "step")
    async with LiveServer(tmp_path) as later:
        await asyncio.sleep(0.3)
        run = (await later.get(f"/sessions/{session_id}/runs"))["runs"][0]
        assert run["status"] == "paused"
        steps = await later.records(session_id, "step")
        assert [step["node"] for step in steps if step.get("status") == "completed"] == executed


# -- stop ------------------------------------------------------------------------------------------------------


async def _stopped_for_good(server: LiveServer, session_id: str) -> None:
    status, run = await call(server, session_id, "stop", wait=True)
    assert (status, run["status"]) == (200, "stopped")
    count = len(noted(server))
    records = await server.records(session_id)
    assert records[-1]["record_type"] == "run"
    assert records[-1]["status"] == "stopped"
    await asyncio.sleep(0.3)
    assert len(noted(server)) == count  # nothing of it executes any more
    assert len(await server.records(session_id)) == len(records)
    assert server.runtime.supervisor.running == 0
    assert (await server.get(f"/sessions/{session_id}"))["status"] == "stopped"


@pytest.mark.parametrize("kind", ["patient", "busy"])
async def test_stop_ends_a_tool_whatever_it_does(server: LiveServer, kind: str) -> None:
    session_id, _ = await begun(server, "call", kind)
    await until_noted(server, kind)
    await _stopped_for_good(server, session_id)
    for _ in range(2):  # what became of the call is said before the run is said to have ended, of a retry too
        [called, last] = (await server.records(session_id))[-2:]
        assert (called["record_type"], called["phase"], called["success"]) == ("tool_call", "interrupted", None)
        assert (called["tool_name"], last["status"]) == (kind, "stopped")
        await call(server, session_id, "retry")
        async with asyncio.timeout(10):
            while (await server.records(session_id, "tool_call"))[-1]["phase"] != "intent":
                await asyncio.sleep(0.01)
        await call(server, session_id, "stop", wait=True)
    run = await server.run(session_id, "hello again")  # the conversation is still one that models take
    assert run["status"] == "completed"
    state = await server.get(f"/sessions/{session_id}/state")
    asked = [c["id"] for m in state["messages"] for c in m.get("tool_calls") or []]
    answered = [m["tool_call_id"] for m in state["messages"] if m["role"] == "tool"]
    assert asked == answered


async def test_stop_closes_the_connection_to_the_model(server: LiveServer) -> None:
    async with ModelServer(Behaviour(tokens=500, token_delay=0.02)) as models:
        server.workflow(NETWORK % models.openai_url, name="network")
        session_id, _ = await begun(server, "network")
        async with server.events(f"/sessions/{session_id}/events?after_seq=0") as events:
            await events.until("message_delta")
        assert models.connections_lost == 0
        await _stopped_for_good(server, session_id)
        async with asyncio.timeout(2):
            while models.connections_lost == 0:
                await asyncio.sleep(0.01)


async def test_stop_ends_a_node_that_waits(server: LiveServer) -> None:
    session_id, _ = await begun(server, "wait", None)
    await asyncio.sleep(0.1)
    await _stopped_for_good(server, session_id)


async def test_stop_of_a_run_that_waits_for_a_place(server: LiveServer) -> None:
    others = [await begun(server, "call", "patient") for _ in range(3)]
    session_id, run_id = await begun(server, "steps")
    assert (await server.get(f"/sessions/{session_id}/runs/{run_id}"))["status"] == "queued"
    status, run = await call(server, session_id, "stop", wait=True)
    assert (status, run["status"], run["execution_path"]) == (200, "stopped", [])
    assert [record["status"] for record in await server.records(session_id, "run")] == ["queued", "stopped"]
    for other, _ in others:
        await call(server, other, "stop", wait=True)
    assert (await server.get(f"/sessions/{session_id}/runs/{run_id}"))["status"] == "stopped"
    assert (await server.run(session_id, "again"))["status"] == "completed"


async def test_a_run_that_waits_for_a_place_can_be_paused(server: LiveServer) -> None:
    others = [await begun(server, "call", "patient") for _ in range(3)]
    session_id, run_id = await begun(server, "steps")
    status, run = await call(server, session_id, "pause", wait=True)
    assert (status, run["status"], run["execution_path"]) == (200, "paused", [])
    for other, _ in others:
        await call(server, other, "stop", wait=True)
    await asyncio.sleep(0.1)
    assert (await server.get(f"/sessions/{session_id}/runs/{run_id}"))["status"] == "paused"
    status, run = await call(server, session_id, "resume", wait=True)
    assert (status, run["status"], run["execution_path"]) == (200, "completed", ["one", "two", "three"])


async def test_stop_of_a_paused_run_withdraws_its_questions(server: LiveServer) -> None:
    session_id = await server.session("workflows/ask.yaml")
    run = await server.run(session_id, "go")
    [question] = run["interrupts"]
    status, run = await call(server, session_id, "stop", wait=True)
    assert (status, run["status"], run["interrupts"]) == (200, "stopped", [])
    assert (await server.get(f"/sessions/{session_id}/interrupts")) == {"interrupts": []}
    answer = await server.client.post(
        f"/sessions/{session_id}/interrupts/{question['interrupt_id']}", json={"answer": {"approve": True}}
    )
    assert (answer.status_code, answer.json()["code"]) == (409, "interrupt_closed")


async def test_a_run_that_was_stopped_at_a_question_asks_again_when_it_is_taken_up(server: LiveServer) -> None:
    session_id = await server.session("workflows/ask.yaml")
    [first] = (await server.run(session_id, "go"))["interrupts"]
    for _ in range(2):
        await call(server, session_id, "stop", wait=True)
        status, run = await call(server, session_id, "retry", wait=True)
        assert (status, run["status"]) == (200, "paused")
        [question] = run["interrupts"]
        assert question["question"] == first["question"]
    answer = {"answer": {"approve": True}}
    run = await server.post(f"/sessions/{session_id}/interrupts/{question['interrupt_id']}?wait=true", answer)
    assert (run["status"], run["execution_path"][-1]) == ("completed", "answer")


async def asked(server: LiveServer, session_id: str) -> str:
    """The id of the session's open question, once there is one."""
    async with asyncio.timeout(10):
        while not (found := (await server.get(f"/sessions/{session_id}/interrupts"))["interrupts"]):
            await asyncio.sleep(0.01)
    return found[0]["interrupt_id"]


async def test_a_question_is_answered_at_once_while_other_branches_execute(server: LiveServer) -> None:
    session_id, run_id = await begun(server, "both")
    path = f"/sessions/{session_id}/interrupts/{await asked(server, session_id)}"
    run = await server.post(path, {"answer": {"approve": True}}, status=202)
    assert (run["run_id"], run["status"], run["node_states"]["slow"]) == (run_id, "running", "running")
    run = await server.status(session_id, "completed")  # nobody waited: it has gone on by itself
    assert run["result"]["state"] == {"approve": True, "done": "waited"}
    session_id, _ = await begun(server, "both")
    path = f"/sessions/{session_id}/interrupts/{await asked(server, session_id)}?wait=true"
    assert (await server.post(path, {"answer": {"approve": True}}, status=200))["status"] == "completed"


async def test_a_default_answer_beside_a_slow_branch_holds_up_no_other(server: LiveServer) -> None:
    slow, _ = await begun(server, "both-soon")
    quick, _ = await begun(server, "ask-soon")
    assert (await server.status(quick, "completed"))["status"] == "completed"
    assert (await server.get(f"/sessions/{slow}/runs"))["runs"][0]["status"] == "running"
    assert (await server.status(slow, "completed"))["result"]["state"]["approve"] is True


async def test_the_question_of_a_branch_is_withdrawn_when_the_run_is_stopped(server: LiveServer) -> None:
    session_id, _ = await begun(server, "both")
    await asked(server, session_id)
    assert (await call(server, session_id, "stop", wait=True))[1]["status"] == "stopped"
    assert (await server.get("/interrupts"))["interrupts"] == []
    run = await server.run(session_id, "again")
    assert (run["status"], len(run["interrupts"])) == ("paused", 1)
    assert (await server.get("/interrupts"))["total"] == 1


# -- retry -----------------------------------------------------------------------------------------------------


async def test_retry_starts_at_what_failed_and_repeats_nothing_else(server: LiveServer) -> None:
    session_id = await server.session("workflows/branches.yaml")
    run = await server.run(session_id, "go")
    assert run["status"] == "failed"
    assert run["node_states"] == {"left": "completed", "right": "failed"}
    calls_before = run["performance_metrics"]["llm_calls"]
    status, again = await call(server, session_id, "retry", wait=True)
    assert (status, again["status"], again["run_id"]) == (200, "completed", run["run_id"]), again
    assert again["error"] is None
    assert again["node_states"] == {"left": "completed", "right": "completed"}
    assert again["performance_metrics"]["llm_calls"] == calls_before + 1
    assert again["result"]["state"] == {"left": "left is done", "right": "right is done"}


# -- questions -------------------------------------------------------------------------------------------------


async def test_a_question_is_answered_once_and_has_the_run_go_on(server: LiveServer, tmp_path: Path) -> None:
    session_id = await server.session("workflows/ask.yaml")
    run = await server.run(session_id, "go")
    assert run["status"] == "paused"
    [question] = run["interrupts"]
    assert question["kind"] == "question"
    assert question["node"] == "review"
    assert question["question"] == {"text": "Send this?"}
    assert question["form"]["properties"] == {"approve": {"type": "boolean"}}
    await server.__aexit__()
    async with LiveServer(tmp_path) as later:  # questions survive a restart
        assert (await later.get(f"/sessions/{session_id}/interrupts"))["interrupts"] == [question]
        url = f"/sessions/{session_id}/interrupts/{question['interrupt_id']}"
        for answer in ({"approve": "yes"}, {}, {"approve": True, "more": 1}, None, [], "yes"):
            refused = await later.client.post(url, json={"answer": answer})
            assert (refused.status_code, refused.json()["code"]) == (400, "answer_invalid"), answer
            assert refused.json()["errors"]
        for body in ({}, {"answr": 1}, []):
            assert (await later.client.post(url, json=body)).status_code == 422
        other = await later.session("workflows/ask.yaml")
        for wrong in (
            f"/sessions/{other}/interrupts/{question['interrupt_id']}",
            f"/sessions/{session_id}/interrupts/x",
        ):
            unknown = await later.client.post(wrong, json={"answer": {"approve": True}})
            assert (unknown.status_code, unknown.json()["code"]) == (404, "interrupt_not_found")
        twins = await asyncio.gather(
            *(later.client.post(f"{url}?wait=true", json={"answer": {"approve": True}}) for _ in range(2))
        )
        assert sorted(answer.status_code for answer in twins) == [200, 409]
        done = next(answer.json() for answer in twins if answer.status_code == 200)
        assert (done["status"], done["interrupts"]) == ("completed", [])
        records = await later.records(session_id, "interrupt")
        assert [(record["phase"], record.get("answer")) for record in records] == [
            ("asked", None),
            ("answered", {"approve": True}),
        ]
    await server.__aenter__()


# -- two operators at once -------------------------------------------------------------------------------------


@pytest.mark.parametrize("verbs", [("pause", "pause"), ("stop", "stop"), ("pause", "stop"), ("stop", "pause")])
async def test_two_operators_at_once_do_no_harm(server: LiveServer, verbs: tuple[str, str]) -> None:
    session_id, _ = await begun(server, "steps")
    await asyncio.sleep(0.05)
    answers = await asyncio.gather(*(call(server, session_id, verb, wait=True) for verb in verbs))
    final = "stopped" if "stop" in verbs else "paused"
    for status, answer in answers:
        assert status in (200, 409), answer
        if status == 200:
            assert answer["status"] == final
    assert any(status == 200 for status, _ in answers)
    assert (await server.get(f"/sessions/{session_id}/runs"))["runs"][0]["status"] == final
    if final == "paused":
        pair = await asyncio.gather(*(call(server, session_id, "resume", wait=True) for _ in range(2)))
        assert sorted(status for status, _ in pair) == [200, 409]
        assert [answer["code"] for status, answer in pair if status == 409] == ["run_not_paused"]
        assert (await server.status(session_id, "completed"))["status"] == "completed"
        statuses = [record["status"] for record in await server.records(session_id, "run")]
        assert statuses == ["running", "pausing", "paused", "running", "completed"]
    else:
        pair = await asyncio.gather(*(call(server, session_id, "retry", wait=True) for _ in range(2)))
        assert sorted(status for status, _ in pair) == [200, 409]
    assert server.runtime.supervisor.running == 0


async def test_controls_at_every_moment_leave_a_run_that_can_be_told(server: LiveServer) -> None:
    """Whenever a stop or pause comes, also while the run is ending: the run ends, and the log says how."""
    for n in range(24):
        session_id, _ = await begun(server, "call", "hello")
        await asyncio.sleep(0.002 * n)
        verb = "stop" if n % 2 else "pause"
        status, answer = await call(server, session_id, verb, wait=True)
        assert status in (200, 409), answer
        run = (await server.get(f"/sessions/{session_id}/runs"))["runs"][0]
        assert run["status"] in ("completed", "stopped", "paused")
        last = (await server.records(session_id, "run"))[-1]
        assert last["status"] == run["status"]
        if run["status"] == "paused":
            assert (await call(server, session_id, "resume", wait=True))[1]["status"] == "completed"
    assert server.runtime.supervisor.running == 0
