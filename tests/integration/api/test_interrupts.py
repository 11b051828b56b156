"""Questions to people over HTTP: listed over all sessions, answered one by one, by time, and after a crash."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from integration.api.control_workflows import TWICE, messages
from modular_agent.storage.readers import CALLS_LIMIT
from servers.live_server import LiveServer, calls

ASK = """
models: {main: {provider: scripted, script: scripts/ask.yaml}}
nodes:
  review: {type: human, question: "Send this?", form: {approve: {type: boolean}}}
  answer: {type: llm, model: main}
edges: [{from: START, to: review}, {from: review, to: answer}, {from: answer, to: END}]
"""
TIMED = """
state: {schema: {type: object, properties: {approve: {type: boolean}}}}
nodes:
  review:
    type: human
    question: "Quick?"
    form: {approve: {type: boolean}}
    answer_within: 300ms
    default_answer: {approve: false}
edges: [{from: START, to: review}, {from: review, to: END}]
"""
PAY = """
models: {main: {provider: scripted, script: scripts/pay.yaml}}
tools:
  pay: {ref: "tools.pay:pay", effect: irreversible, approval: "%s"}
nodes:
  think: {type: llm, model: main, tools: [pay]}
  act: {type: tools}
edges:
  - {from: START, to: think}
  - {from: think, to: act, when: has_tool_calls}
  - {from: think, to: END}
  - {from: act, to: think}
"""
TOOL = '''
def pay(amount: float = 1.0) -> str:
    """Pays."""
    return f"paid {amount}"
'''
REST = """
nodes: {rest: {type: wait, duration: 1h}}
edges: [{from: START, to: rest}, {from: rest, to: END}]
"""
LIMITED = """
models: {main: {provider: scripted, script: scripts/ask.yaml}}
limits: {max_iterations: 1}
nodes: {one: {type: llm, model: main}, two: {type: llm, model: main}}
edges: [{from: START, to: one}, {from: one, to: two}, {from: two, to: END}]
"""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[LiveServer]:
    server = LiveServer(tmp_path)
    server.workflow(ASK, name="ask", otherwise={"reply": "sent"})
    server.workflow(TWICE, name="twice")
    server.workflow(TIMED, name="timed")
    server.workflow(LIMITED, name="limited")
    server.workflow(REST, name="rest")
    server.configure({"tools/pay.py": TOOL})
    script = {
        "turns": [
            {"when": {"last_role": "tool"}, "reply": "{{ tool_results | map(attribute='content') | join(', ') }}"},
            {"when": {"last_user": "both"}, **calls(("pay", {"amount": 5.0}), ("pay", {"amount": 50.0}))},
            {"when": {"last_user": "two"}, **calls(("pay", {"amount": 20.0}), ("pay", {"amount": 50.0}))},
        ],
        "otherwise": {"reply": "nothing"},
    }
    for name, approval in (("always", "always"), ("never", "never"), ("over", "input.amount > 10.0")):
        server.workflow(PAY.replace("pay.yaml", f"{name}.yaml") % approval, name=name, **script)
    async with server:
        yield server


async def asked(server: LiveServer, name: str, message: str = "go") -> tuple[str, list[dict[str, Any]]]:
    session_id = await server.session(f"workflows/{name}.yaml", title=f"About {name}")
    return session_id, (await server.run(session_id, message))["interrupts"]


async def answer(server: LiveServer, session_id: str, question: dict[str, Any], given: Any) -> dict[str, Any]:
    path = f"/sessions/{session_id}/interrupts/{question['interrupt_id']}?wait=true"
    return await server.post(path, {"answer": given})


# -- over all sessions -----------------------------------------------------------------------------------------


async def test_what_waits_for_people_is_listed_over_all_sessions_oldest_first(server: LiveServer) -> None:
    assert (await server.get("/interrupts"))["interrupts"] == []
    first, [question] = await asked(server, "ask")
    second, both = await asked(server, "twice")
    third, [approval] = await asked(server, "over", "both")
    fourth, [budget] = await asked(server, "limited")
    await asked(server, "rest")
    page = await server.get("/interrupts")
    assert [(each["session_id"], each["kind"]) for each in page["interrupts"]] == [
        (first, "question"), (second, "question"), (second, "question"), (third, "approval"), (fourth, "budget"),
    ]  # fmt: skip
    assert (page["total"], page["has_next"], page["page"]) == (5, False, 1)
    place = {"session_id": first, "workflow_id": "ask", "session_title": "About ask"}
    assert page["interrupts"][0] == {**question, **place}
    assert {each["interrupt_id"] for each in page["interrupts"]} == {
        each["interrupt_id"] for each in (question, *both, approval, budget)
    }
    await answer(server, first, question, {"approve": True})
    assert (await server.get("/interrupts"))["total"] == 4
    await server.post(f"/sessions/{second}/stop?wait=true")
    assert (await server.get("/interrupts"))["total"] == 2


async def test_the_list_has_pages_and_filters(server: LiveServer) -> None:
    ids = [(await asked(server, "ask"))[0] for _ in range(5)]
    limited, _ = await asked(server, "limited")
    await asked(server, "rest")
    pages = [await server.get("/interrupts", page=n, page_size=4) for n in (1, 2, 3)]
    assert [[each["session_id"] for each in page["interrupts"]] for page in pages] == [ids[:4], [ids[4], limited], []]
    assert [page["has_next"] for page in pages] == [True, False, False]
    behind = await server.get("/interrupts", page_size=4, cursor=pages[0]["cursor"])
    assert (behind["interrupts"], behind["total"], behind["cursor"]) == (pages[1]["interrupts"], 6, None)
    assert (await server.get("/interrupts", kind="budget"))["total"] == 1
    assert (await server.get("/interrupts", kind=["budget", "wait"]))["total"] == 2
    assert (await server.get("/interrupts", workflow_id="ask"))["total"] == 5
    assert (await server.get("/interrupts", workflow_id="none"))["total"] == 0
    [one] = (await server.get("/interrupts", session_id=ids[2]))["interrupts"]
    assert one["session_id"] == ids[2]
    for wrong in ("kind=unknown", "page=0", "page_size=101", "cursor=x"):
        assert (await server.client.get(f"/interrupts?{wrong}")).status_code == 422


# -- several questions, approvals, times -----------------------------------------------------------------------


async def test_several_open_questions_are_answered_one_by_one_in_any_order(server: LiveServer) -> None:
    session_id, questions = await asked(server, "twice")
    left, right = sorted(questions, key=lambda each: each["node"])
    refused = await server.client.post(f"/sessions/{session_id}/resume")
    assert (refused.status_code, refused.json()["code"]) == (409, "questions_open")
    run = await answer(server, session_id, right, "r")
    assert (run["status"], [each["interrupt_id"] for each in run["interrupts"]]) == ("paused", [left["interrupt_id"]])
    run = await answer(server, session_id, left, "l")
    assert run["status"] == "completed"
    state = await server.get(f"/sessions/{session_id}/state")
    assert (state["a"], state["b"]) == ("l", "r")


async def test_the_last_two_answers_at_once_have_the_run_go_on_once(server: LiveServer) -> None:
    for _ in range(5):
        session_id, questions = await asked(server, "twice")
        await asyncio.gather(*(answer(server, session_id, question, question["node"]) for question in questions))
        await server.status(session_id, "completed")
        state = await server.get(f"/sessions/{session_id}/state")
        assert (state["a"], state["b"]) == ("left", "right")
        statuses = [record["status"] for record in await server.records(session_id, "run")]
        assert statuses == ["running", "paused", "running", "completed"]


async def test_approval_is_asked_always_never_or_when_its_condition_holds(server: LiveServer) -> None:
    for name, count in (("never", 0), ("over", 1), ("always", 2)):
        session_id, questions = await asked(server, name, "both")
        assert [each["kind"] for each in questions] == ["approval"] * count
        for question in questions:
            assert question["question"]["tool_name"] == "pay"
            await answer(server, session_id, question, {"approve": True})
        run = await server.status(session_id, "completed")
        assert run["result"]["output"] == "paid 5.0, paid 50.0"


@pytest.mark.parametrize(
    ("more", "paid"), [({}, 50.0), ({"arguments": {"amount": 2.0}}, 2.0), ({"arguments": {}}, 1.0)]
)
async def test_an_approved_call_has_the_arguments_that_were_given_also_none(
    server: LiveServer, more: dict[str, Any], paid: float
) -> None:
    session_id, [question] = await asked(server, "over", "both")
    run = await answer(server, session_id, question, {"approve": True, **more})
    assert run["result"]["output"] == f"paid 5.0, paid {paid}"


async def test_of_two_approvals_one_may_be_refused(server: LiveServer) -> None:
    session_id, questions = await asked(server, "over", "two")
    small, large = sorted(questions, key=lambda each: each["question"]["tool_input"]["amount"])
    await answer(server, session_id, large, {"approve": False, "reason": "too much"})
    run = await answer(server, session_id, small, {"approve": True})
    assert run["status"] == "completed"
    results = [content for role, content in await messages(server, session_id) if role == "tool"]
    assert results[0] == "paid 20.0"
    assert "too much" in results[1]


async def test_a_question_whose_time_is_over_has_its_default_answer(server: LiveServer) -> None:
    session_id, [question] = await asked(server, "timed")
    assert question["due_at"]
    await server.status(session_id, "completed")
    assert (await server.get(f"/sessions/{session_id}/state"))["approve"] is False
    answered = (await server.records(session_id, "interrupt"))[-1]
    assert (answered["phase"], answered["by"], answered["answer"]) == ("answered", "timer", {"approve": False})


async def test_a_time_that_ran_out_while_the_server_was_down_counts_at_the_start(
    server: LiveServer, tmp_path: Path
) -> None:
    session_id, _ = await asked(server, "timed")
    await server.__aexit__()
    await asyncio.sleep(0.4)
    async with LiveServer(tmp_path) as later:
        await later.status(session_id, "completed")
        assert (await later.get(f"/sessions/{session_id}/state"))["approve"] is False
    await server.__aenter__()


async def test_questions_answer_themselves_after_a_moment_in_which_the_database_could_not_be_asked(
    server: LiveServer,
) -> None:
    session_id, _ = await asked(server, "timed")
    free = threading.Event()
    readers = server.runtime.database.readers
    reading = [asyncio.create_task(readers.run(lambda _: free.wait())) for _ in range(CALLS_LIMIT)]
    try:
        await asyncio.sleep(0.5)  # the time of the question passes
    finally:
        free.set()
        await asyncio.gather(*reading)
    await server.status(session_id, "completed")


# -- a crash between the last answer and going on --------------------------------------------------------------


async def test_a_run_whose_last_answer_was_stored_goes_on_by_itself_after_a_crash(
    server: LiveServer, tmp_path: Path
) -> None:
    session_id, questions = await asked(server, "twice")
    for question in questions:
        await stored(server, session_id, question, "yes")
    assert (await server.status(session_id, "paused"))["status"] == "paused"
    await server.__aexit__()
    async with LiveServer(tmp_path) as later:
        await later.status(session_id, "completed")
        state = await later.get(f"/sessions/{session_id}/state")
        assert (state["a"], state["b"]) == ("yes", "yes")
    await server.__aenter__()


async def test_with_a_question_still_open_it_waits(server: LiveServer, tmp_path: Path) -> None:
    session_id, [first, second] = await asked(server, "twice")
    await stored(server, session_id, first, "yes")
    await server.__aexit__()
    async with LiveServer(tmp_path) as later:
        await asyncio.sleep(0.1)
        assert (await later.status(session_id, "paused"))["status"] == "paused"
        assert (await answer(later, session_id, second, "no"))["status"] == "completed"
    await server.__aenter__()


async def test_a_run_that_a_person_paused_after_an_answer_stays_paused(server: LiveServer, tmp_path: Path) -> None:
    server.configure({"scripts/slow.yaml": "otherwise: {reply: slow, delay: 300ms}\n"})
    server.workflow(
        """
        models: {main: {provider: scripted, script: scripts/slow.yaml}}
        nodes:
          review: {type: human, question: "Go?"}
          one: {type: llm, model: main}
          two: {type: llm, model: main}
        edges: [{from: START, to: review}, {from: review, to: one}, {from: one, to: two}, {from: two, to: END}]
        """,
        name="held",
    )
    session_id, [question] = await asked(server, "held")
    await server.post(f"/sessions/{session_id}/interrupts/{question['interrupt_id']}", {"answer": "yes"})
    assert (await server.post(f"/sessions/{session_id}/pause?wait=true"))["status"] == "paused"
    await server.__aexit__()
    async with LiveServer(tmp_path) as later:
        await asyncio.sleep(0.2)
        assert (await later.status(session_id, "paused"))["status"] == "paused"
        assert (await later.post(f"/sessions/{session_id}/resume?wait=true"))["status"] == "completed"
    await server.__aenter__()


# -- no place for the run --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ask", "later"])
async def test_a_run_that_was_answered_while_there_was_no_place_goes_on_when_there_is(
    server: LiveServer, tmp_path: Path, name: str
) -> None:
    server.workflow(TIMED.replace("300ms", "3s"), name="later")  # not before the place is taken
    session_id, [question] = await asked(server, name)
    await server.__aexit__()
    async with LiveServer(tmp_path, MAX_PARALLEL_RUNS="1", MAX_QUEUED_RUNS="0") as small:
        small.configure({"scripts/hang.yaml": "otherwise: {hang: true}"})
        small.workflow(LIMITED.replace("ask.yaml", "hang.yaml"), name="hanging")
        other = await small.session("workflows/hanging.yaml")
        await small.run(other, "go", mode="background")
        if name == "ask":
            path = f"/sessions/{session_id}/interrupts/{question['interrupt_id']}?wait=true"
            told = await small.client.post(path, json={"answer": {"approve": True}})
            assert (told.status_code, told.json()["status"]) == (200, "paused"), "the answer is taken, and says so"
        async with asyncio.timeout(10):
            while (await small.records(session_id, "interrupt"))[-1]["phase"] != "answered":
                await asyncio.sleep(0.02)
        await small.post(f"/sessions/{other}/stop?wait=true")
        await small.status(session_id, "completed")
    await server.__aenter__()


async def stored(server: LiveServer, session_id: str, question: dict[str, Any], given: Any) -> None:
    """Stores an answer, as it is when the process dies before the run goes on."""
    session = await server.runtime.sessions.get(session_id)
    row = await server.runtime.runs.interrupts.get(question["interrupt_id"])
    assert row is not None
    run = await server.runtime.runs.get(session.ref, row.run_id)
    await server.runtime.control._store_answer(session, run, row, given, "test")
