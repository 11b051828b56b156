"""What people put into runs over HTTP: messages for a run in progress, and changes of a paused one's state."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from integration.api.control_workflows import messages, users, write_steps
from servers.live_server import LiveServer, calls
from servers.model_server import ModelServer

ASK = """
models: {main: {provider: scripted, script: scripts/ask.yaml}}
state: {schema: {type: object, properties: {note: {type: string}, approve: {type: boolean}}}}
nodes:
  review: {type: human, question: "Send {{ note }}?", form: {approve: {type: boolean}}}
  answer: {type: llm, model: main}
edges: [{from: START, to: review}, {from: review, to: answer}, {from: answer, to: END}]
"""
NETWORK = """
models: {main: {provider: openai, model: m, base_url: "%s"}}
nodes: {answer: {type: llm, model: main}}
edges: [{from: START, to: answer}, {from: answer, to: END}]
"""
LOOK = """
models: {main: {provider: scripted, script: scripts/look.yaml}}
tools: {look: {ref: "tools.look:look", effect: read}}
nodes:
  think: {type: llm, model: main, tools: [look]}
  act: {type: tools}
edges:
  - {from: START, to: think}
  - {from: think, to: act, when: has_tool_calls}
  - {from: think, to: END}
  - {from: act, to: think}
"""
RETRY = """
models: {main: {provider: scripted, script: scripts/retry.yaml, retry: {max_attempts: 1}}}
nodes:
  one: {type: llm, model: main}
  two: {type: llm, model: main, retry: {max_attempts: 2, backoff: 10ms}}
edges: [{from: START, to: one}, {from: one, to: two}, {from: two, to: END}]
"""
UNSTEADY = [{"when": {"last_user": "metric"}, "fail": {"kind": "overloaded", "times": 1}, "reply": "better"}]
TOOL = '''
import asyncio


async def look() -> str:
    """Looks for a moment."""
    await asyncio.sleep(0.3)
    return "seen"
'''


@pytest.fixture
async def model() -> AsyncIterator[ModelServer]:
    async with ModelServer() as model:
        yield model


@pytest.fixture
async def server(tmp_path: Path, model: ModelServer) -> AsyncIterator[LiveServer]:
    server = LiveServer(tmp_path)
    server.workflow(NETWORK % model.openai_url, name="network")
    write_steps(server)
    write_steps(server, name="slow-steps", delay="500ms")
    server.workflow(ASK, name="ask", otherwise={"reply": "sent"})
    server.configure({"tools/look.py": TOOL})
    server.workflow(
        LOOK, name="look", turns=[{"when": {"last_user": "go"}, **calls(("look", {}))}], otherwise={"reply": "Done."}
    )
    async with server:
        yield server


async def begun(server: LiveServer, name: str = "steps") -> tuple[str, str]:
    session_id = await server.session(f"workflows/{name}.yaml")
    return session_id, (await server.run(session_id, "go", mode="background"))["run_id"]


async def paused(server: LiveServer) -> tuple[str, str]:
    session_id, run_id = await begun(server)
    assert (await server.post(f"/sessions/{session_id}/pause?wait=true"))["status"] == "paused"
    return session_id, run_id


async def refused(server: LiveServer, method: str, path: str, body: Any) -> tuple[int, str]:
    answer = await server.client.request(method, path, json=body)
    return answer.status_code, answer.json()["code"]


# -- messages --------------------------------------------------------------------------------------------------


async def test_a_message_is_put_before_the_next_model_call(server: LiveServer) -> None:
    session_id, run_id = await begun(server, "slow-steps")
    waiting = await server.post(f"/sessions/{session_id}/messages", {"message": "metric, please"}, status=202)
    assert (waiting["status"], waiting["run_id"]) == ("waiting", run_id)
    await server.status(session_id, "completed")
    assert await messages(server, session_id) == [
        ("user", "go"), ("assistant", "answer"), ("user", "metric, please"), ("assistant", "answer"),
        ("assistant", "answer"),
    ]  # fmt: skip
    [record] = await server.records(session_id, "control")
    assert (record["action"], record["run_id"]) == ("inject", run_id)
    records = await server.records(session_id, "message")
    logged = [record["content"] for record in records if record["message_type"] == "user"]
    assert logged == ["go", "metric, please"]


async def test_a_message_outlasts_the_question_of_the_call_that_was_to_take_it(server: LiveServer) -> None:
    session_id = await server.session("workflows/steps.yaml")
    await server.run(session_id, "go", mode="background", limits={"max_iterations": 1})
    await server.post(f"/sessions/{session_id}/messages", {"message": "metric, please"}, status=202)
    await server.status(session_id, "paused")
    [question] = (await server.get(f"/sessions/{session_id}/interrupts"))["interrupts"]
    assert question["kind"] == "budget"
    answer = {"answer": {"max_iterations": 9}}
    await server.post(f"/sessions/{session_id}/interrupts/{question['interrupt_id']}", answer)
    await server.status(session_id, "completed")
    assert await users(server, session_id) == ["go", "metric, please"]
    assert (await server.get(f"/sessions/{session_id}/runs"))["total"] == 1, "the call that asked has taken it"


async def test_a_message_outlasts_an_attempt_that_failed(server: LiveServer) -> None:
    server.workflow(RETRY, name="retry", turns=UNSTEADY, otherwise={"reply": "answer", "delay": "200ms"})
    session_id = await server.session("workflows/retry.yaml")
    await server.run(session_id, "go", mode="background")
    await server.post(f"/sessions/{session_id}/messages", {"message": "metric, please"}, status=202)
    await server.status(session_id, "completed")
    assert await users(server, session_id) == ["go", "metric, please"]
    assert (await server.get(f"/sessions/{session_id}/runs"))["total"] == 1, "the second attempt has taken it"


async def test_several_messages_keep_their_order_and_content_parts_are_kept(server: LiveServer) -> None:
    session_id, _ = await begun(server)
    parts = [{"type": "text", "text": "second"}]
    for message in ("first", parts, "third"):
        await server.post(f"/sessions/{session_id}/messages", {"message": message})
    await server.status(session_id, "completed")
    assert await users(server, session_id) == ["go", "first", parts, "third"]


async def test_with_wait_it_is_said_whether_a_call_took_it(server: LiveServer) -> None:
    session_id, run_id = await begun(server)
    told = await server.post(f"/sessions/{session_id}/messages?wait=true", {"message": "more"}, status=200)
    assert (told["status"], told["run_id"]) == ("consumed", run_id)


async def test_a_message_that_came_after_the_last_call_starts_the_next_run(server: LiveServer) -> None:
    session_id, run_id = await begun(server)
    async with asyncio.timeout(10):
        while (await server.get(f"/sessions/{session_id}/runs/{run_id}"))["current_node"] != "three":
            await asyncio.sleep(0.005)
    told = await server.post(f"/sessions/{session_id}/messages?wait=true", {"message": "late"}, status=200)
    assert told["status"] == "not_consumed"
    assert told["run_id"] != run_id
    await server.status(session_id, "completed")
    assert (await server.get(f"/sessions/{session_id}"))["status"] == "completed"
    assert await users(server, session_id) == ["go", "late"]
    assert [run["run_id"] for run in (await server.get(f"/sessions/{session_id}/runs"))["runs"]] == [
        told["run_id"],
        run_id,
    ]


async def test_a_message_for_a_paused_run_waits_with_it(server: LiveServer) -> None:
    session_id, run_id = await paused(server)
    told = await server.post(f"/sessions/{session_id}/messages?wait=true", {"message": "meanwhile"}, status=200)
    assert told["status"] == "waiting"
    run = await server.post(f"/sessions/{session_id}/resume?wait=true")
    assert (run["run_id"], run["status"]) == (run_id, "completed")
    assert await users(server, session_id) == ["go", "meanwhile"]


async def test_a_message_never_comes_between_a_tool_call_and_its_result(server: LiveServer) -> None:
    session_id, _ = await begun(server, "look")
    async with asyncio.timeout(10):
        while not await server.records(session_id, "tool_call"):
            await asyncio.sleep(0.005)
    await server.post(f"/sessions/{session_id}/messages", {"message": "hurry"})
    await server.status(session_id, "completed")
    assert [role for role, _ in await messages(server, session_id)] == [
        "user", "assistant", "tool", "user", "assistant",
    ]  # fmt: skip


async def test_an_idle_session_takes_no_message(server: LiveServer) -> None:
    session_id = await server.session("workflows/steps.yaml")
    path = f"/sessions/{session_id}/messages"
    assert await refused(server, "POST", path, {"message": "x"}) == (409, "run_not_running")
    await server.run(session_id, "go")
    assert await refused(server, "POST", path, {"message": "x"}) == (409, "run_not_running")
    for wrong in ({}, {"message": 1}, {"message": "x", "more": 1}):
        assert (await server.client.post(path, json=wrong)).status_code == 422
    assert await server.records(session_id, "control") == []


async def test_a_message_whose_parts_no_model_could_read_is_refused(server: LiveServer) -> None:
    session_id, _ = await paused(server)
    path = f"/sessions/{session_id}/messages"
    assert await refused(server, "POST", path, {"message": [{"text": "no type"}]}) == (400, "state_invalid")
    assert (await server.post(f"/sessions/{session_id}/resume?wait=true"))["status"] == "completed"


async def test_messages_of_a_stopped_run_are_there_when_it_is_retried(server: LiveServer) -> None:
    session_id, _ = await paused(server)
    await server.post(f"/sessions/{session_id}/messages", {"message": "kept"})
    await server.post(f"/sessions/{session_id}/stop?wait=true")
    run = await server.post(f"/sessions/{session_id}/retry?wait=true")
    assert run["status"] == "completed", run["error"]
    assert await users(server, session_id) == ["go", "kept"]


async def test_messages_of_a_stopped_run_are_there_in_the_next_run(server: LiveServer) -> None:
    session_id, _ = await paused(server)
    await server.post(f"/sessions/{session_id}/messages", {"message": "kept"})
    await server.post(f"/sessions/{session_id}/stop?wait=true")
    for _ in range(2):  # once, not again
        assert (await server.run(session_id, "next"))["status"] == "completed"
    assert await users(server, session_id) == ["go", "kept", "next", "next"]
    logged = [r["content"] for r in await server.records(session_id, "message") if r["message_type"] == "user"]
    assert logged == ["go", "kept", "next", "next"]


async def test_messages_of_a_run_that_is_rolled_back_are_dropped_with_it(server: LiveServer) -> None:
    session_id, _ = await paused(server)
    await server.post(f"/sessions/{session_id}/messages", {"message": "gone"})
    assert (await server.run(session_id, "next", multitask="rollback"))["status"] == "completed"
    assert await users(server, session_id) == ["next"]


async def test_a_message_survives_a_restart(server: LiveServer, tmp_path: Path) -> None:
    session_id, _ = await paused(server)
    await server.post(f"/sessions/{session_id}/messages", {"message": "durable"})
    await server.__aexit__()
    async with LiveServer(tmp_path) as later:
        assert (await later.post(f"/sessions/{session_id}/resume?wait=true"))["status"] == "completed"
        assert await users(later, session_id) == ["go", "durable"]
    await server.__aenter__()


# -- changes of the state --------------------------------------------------------------------------------------


async def test_a_change_is_shown_at_once_and_applied_when_the_run_goes_on(server: LiveServer) -> None:
    session_id, run_id = await paused(server)
    answer = await server.client.patch(f"/sessions/{session_id}/state", json={"state": {"note": "n", "score": 0.5}})
    assert (answer.status_code, answer.json()["note"], answer.json()["score"]) == (200, "n", 0.5)
    answer = await server.client.patch(f"/sessions/{session_id}/state", json={"state": {"score": 0.9}})
    assert (answer.json()["note"], answer.json()["score"]) == ("n", 0.9)
    run = await server.post(f"/sessions/{session_id}/resume?wait=true")
    assert (run["status"], run["execution_path"]) == ("completed", ["one", "two", "three"])
    state = await server.get(f"/sessions/{session_id}/state")
    assert (state["note"], state["score"]) == ("n", 0.9)
    controls = [(r["action"], r.get("keys"), r["run_id"]) for r in await server.records(session_id, "control")]
    assert controls[1:3] == [("edit", ["note", "score"], run_id), ("edit", ["score"], run_id)]


async def test_a_change_of_nothing_changes_nothing(server: LiveServer) -> None:
    session_id, _ = await paused(server)
    answer = await server.client.patch(f"/sessions/{session_id}/state", json={"state": {}})
    assert answer.status_code == 200
    run = await server.post(f"/sessions/{session_id}/resume?wait=true")
    assert run["status"] == "completed", run["error"]


async def test_a_list_with_a_reducer_is_replaced_and_not_added_to(server: LiveServer) -> None:
    session_id, _ = await paused(server)
    await server.client.patch(f"/sessions/{session_id}/state", json={"state": {"seen": ["a"]}})
    await server.client.patch(f"/sessions/{session_id}/state", json={"state": {"seen": ["b"]}})
    await server.post(f"/sessions/{session_id}/resume?wait=true")
    assert (await server.get(f"/sessions/{session_id}/state"))["seen"] == ["b"]


async def test_the_conversation_can_be_rewritten(server: LiveServer) -> None:
    session_id, _ = await paused(server)
    kept = (await server.get(f"/sessions/{session_id}/state"))["messages"][0]
    changed = [kept, {"role": "user", "content": "another course"}]
    await server.client.patch(f"/sessions/{session_id}/state", json={"state": {"messages": changed}})
    await server.post(f"/sessions/{session_id}/resume?wait=true")
    assert await messages(server, session_id) == [
        ("user", "go"), ("user", "another course"), ("assistant", "answer"), ("assistant", "answer"),
    ]  # fmt: skip
    logged = [(r["message_type"], r["content"]) for r in await server.records(session_id, "message")]
    assert logged.count(("user", "another course")) == 1
    assert logged.count(("user", "go")) == 1


async def test_a_change_survives_a_restart_and_is_applied_once(server: LiveServer, tmp_path: Path) -> None:
    session_id, _ = await paused(server)
    await server.client.patch(f"/sessions/{session_id}/state", json={"state": {"note": "kept", "seen": ["x"]}})
    await server.__aexit__()
    async with LiveServer(tmp_path) as later:
        run = await later.post(f"/sessions/{session_id}/step?wait=true")
        assert run["status"] == "paused"
        state = await later.get(f"/sessions/{session_id}/state")
        assert (state["note"], state["seen"]) == ("kept", ["x"])
        await later.client.patch(f"/sessions/{session_id}/state", json={"state": {"note": "newer"}})
        await later.post(f"/sessions/{session_id}/resume?wait=true")
        state = await later.get(f"/sessions/{session_id}/state")
        assert (state["note"], state["seen"]) == ("newer", ["x"])
    await server.__aenter__()


async def test_only_a_paused_run_can_be_changed_and_only_with_what_fits(server: LiveServer) -> None:
    session_id, _ = await begun(server)
    path = f"/sessions/{session_id}/state"
    assert await refused(server, "PATCH", path, {"state": {"note": "x"}}) == (409, "run_not_paused")
    await server.post(f"/sessions/{session_id}/pause?wait=true")
    for wrong in ({"note": 1}, {"unknown": 1}, {"messages": [{"role": "nobody", "content": "x"}]}):
        assert await refused(server, "PATCH", path, {"state": wrong}) == (400, "state_invalid"), wrong
    before = len(await server.records(session_id))
    assert (await server.client.patch(path, json={"state": 1})).status_code == 422
    assert len(await server.records(session_id)) == before
    await server.post(f"/sessions/{session_id}/stop?wait=true")
    assert await refused(server, "PATCH", path, {"state": {"note": "x"}}) == (409, "run_not_paused")


async def test_the_state_can_be_changed_while_a_question_is_open(server: LiveServer) -> None:
    session_id = await server.session("workflows/ask.yaml", initial_state={"note": "this"})
    [question] = (await server.run(session_id, "go"))["interrupts"]
    await server.client.patch(f"/sessions/{session_id}/state", json={"state": {"note": "that"}})
    run = await server.post(
        f"/sessions/{session_id}/interrupts/{question['interrupt_id']}?wait=true", {"answer": {"approve": True}}
    )
    assert run["status"] == "completed", run["error"]
    state = await server.get(f"/sessions/{session_id}/state")
    assert (state["note"], state["approve"]) == ("that", True)


async def test_what_tears_calls_and_results_apart_is_mended_for_the_model(
    server: LiveServer, model: ModelServer
) -> None:
    session_id = await server.session("workflows/network.yaml")
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    torn = [
        {"role": "tool", "content": "whose?", "tool_call_id": "c0"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "user", "content": "go"},
    ]
    assert (await server.run(session_id, input={"messages": torn}))["status"] == "completed"
    sent = model.requests[-1].body["messages"]
    assert [(m["role"], m.get("tool_call_id")) for m in sent] == [
        ("assistant", None), ("tool", "c1"), ("user", None),
    ]  # fmt: skip
    [asked] = await server.records(session_id, "llm_request")
    assert asked["messages"]["mended"] is True
    path = f"/sessions/{session_id}/runs"
    for wrong in ({**call, "id": ""}, {"id": "c"}, 7, {**call, "function": {"name": "x", "arguments": {}}}):
        body = {"input": {"messages": [{"role": "assistant", "tool_calls": [wrong]}]}}
        assert await refused(server, "POST", path, body) == (400, "state_invalid"), wrong
    body = {"input": {"messages": [{"role": "tool", "content": "x"}]}}
    assert await refused(server, "POST", path, body) == (400, "state_invalid")


async def test_two_people_who_change_different_keys_at_once_keep_both(server: LiveServer) -> None:
    session_id, _ = await paused(server)
    path = f"/sessions/{session_id}/state"
    changes = [{"note": "n"}, {"score": 0.25}, {"seen": ["s"]}]
    answers = await asyncio.gather(*(server.client.patch(path, json={"state": change}) for change in changes))
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    await server.post(f"/sessions/{session_id}/resume?wait=true")
    state = await server.get(path)
    assert (state["note"], state["score"], state["seen"]) == ("n", 0.25, ["s"])
