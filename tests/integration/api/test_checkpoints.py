"""Checkpoints over HTTP: listed, saved, gone back to, forked from; sessions moved to another version."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from integration.api.control_workflows import STEPS, messages, users, write_steps
from modular_agent.storage.repositories.checkpoints import CheckpointRepository, put_checkpoint
from modular_agent.storage.unit_of_work import UnitOfWork
from servers.live_server import LiveServer

ASK = """
state: {schema: {type: object, properties: {approve: {type: boolean}, text: {type: string}}}}
models: {main: {provider: scripted, script: scripts/ask.yaml}}
nodes:
  review: {type: human, question: "Send this?", form: {approve: {type: boolean}}}
  answer: {type: llm, model: main}
edges: [{from: START, to: review}, {from: review, to: answer}, {from: answer, to: END}]
"""
OUTER = """
models: {main: {provider: scripted, script: scripts/outer.yaml}}
nodes:
  first: {type: llm, model: main}
  inner: {type: workflow, workflow: workflows/steps.yaml}
  last: {type: llm, model: main}
edges: [{from: START, to: first}, {from: first, to: inner}, {from: inner, to: last}, {from: last, to: END}]
"""
SPEAK = """
models:
  main: {provider: scripted, script: scripts/speak.yaml}
  other: {provider: scripted, script: scripts/other.yaml}
nodes: {answer: {type: llm, model: main, prompt: "%s"}}
edges: [{from: START, to: answer}, {from: answer, to: END}]
"""
RENAMED = STEPS.replace("two", "second").replace("steps.yaml", "steps.yaml")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[LiveServer]:
    server = LiveServer(tmp_path)
    write_steps(server, delay="60ms")
    write_steps(
        server, delay="400ms", name="slow"
    )  # so slow that a pause comes in the first step, also on a busy machine
    server.workflow(ASK, name="ask", otherwise={"reply": "sent"})
    server.workflow(OUTER, name="outer", otherwise={"reply": "outer", "delay": "30ms"})
    server.workflow(SPEAK % "Speak kindly.", name="speak", otherwise={"reply": "main says {{ system }}"})
    server.configure({"scripts/other.yaml": 'otherwise: {reply: "other says {{ system }}"}\n'})
    async with server:
        yield server


async def call(server: LiveServer, session_id: str, verb: str, body: Any = None) -> tuple[int, dict[str, Any]]:
    answer = await server.client.post(f"/sessions/{session_id}/{verb}", json=body if body is not None else {})
    return answer.status_code, answer.json()


async def listed(server: LiveServer, session_id: str, **params: Any) -> list[dict[str, Any]]:
    return (await server.get(f"/sessions/{session_id}/checkpoints", **params))["checkpoints"]


async def paused(server: LiveServer, name: str = "slow", **body: Any) -> str:
    session_id = await server.session(f"workflows/{name}.yaml", **body)
    await server.run(session_id, "go", mode="background")
    assert (await server.post(f"/sessions/{session_id}/pause?wait=true"))["status"] == "paused"
    return session_id


# -- listed ----------------------------------------------------------------------------------------------------


async def test_every_step_is_a_checkpoint_that_says_what_changed(server: LiveServer) -> None:
    session_id = await server.session("workflows/steps.yaml", initial_state={"note": "n"})
    run = await server.run(session_id, "go")
    rows = await listed(server, session_id, limit=100)
    assert rows[0]["diff"]["items"] == {"messages": 1}
    assert {row["run_id"] for row in rows} == {run["run_id"]}
    assert [row["parent_id"] for row in rows[:-1]] == [row["checkpoint_id"] for row in rows[1:]]
    assert all(row["size"] > 0 for row in rows)
    page = await server.get(f"/sessions/{session_id}/checkpoints", limit=2)
    assert (page["checkpoints"], page["has_next"]) == (rows[:2], True)
    rest = await listed(server, session_id, limit=100, cursor=page["cursor"])
    assert rest == rows[2:]
    state = await server.get(f"/sessions/{session_id}/state", checkpoint_id=rows[2]["checkpoint_id"])
    assert [message["role"] for message in state["messages"]] == ["user", "assistant"]


# -- saved and gone back to ------------------------------------------------------------------------------------


async def test_a_session_goes_back_to_what_was_saved_and_its_log_keeps_what_happened(server: LiveServer) -> None:
    session_id = await server.session("workflows/steps.yaml")
    await server.run(session_id, "one")
    saved = await messages(server, session_id)
    _, answer = await call(server, session_id, "save", {"name": "before the second"})
    assert (await listed(server, session_id))[0]["saved_name"] == "before the second"
    await server.run(session_id, "two")
    count = len(await server.records(session_id))
    status, session = await call(server, session_id, "restore")
    assert (status, session["session_id"]) == (200, session_id)
    assert await messages(server, session_id) == saved
    records = await server.records(session_id)
    assert [(r["action"], r.get("checkpoint_id")) for r in records[count:]] == [("restore", answer["checkpoint_id"])]
    assert [r["content"] for r in records if r.get("message_type") == "user"] == ["one", "two"]
    await server.run(session_id, "three")
    assert await users(server, session_id) == ["one", "three"]


async def test_what_was_saved_is_found_behind_any_number_of_checkpoints(server: LiveServer) -> None:
    session_id = await server.session("workflows/steps.yaml")
    await server.run(session_id, "one")
    saved = await messages(server, session_id)
    _, answer = await call(server, session_id, "save")
    database = server.runtime.database
    session = await server.runtime.sessions.get(session_id)
    found = await CheckpointRepository(database.readers).load(session.ref)
    assert found is not None
    unit: UnitOfWork[None] = UnitOfWork()
    for n in range(10_001):
        put_checkpoint(unit, replace(found.row, checkpoint_id=f"{answer['checkpoint_id']}-{n:05}", saved_name=None))
    await database.writer.commit(unit)
    await server.run(session_id, "two")
    status, problem = await call(server, session_id, "restore")
    assert status == 200, problem
    assert await messages(server, session_id) == saved


async def test_a_session_goes_back_to_any_checkpoint_and_forth_again(server: LiveServer) -> None:
    session_id = await server.session("workflows/steps.yaml")
    await server.run(session_id, "one")
    first = (await listed(server, session_id))[0]["checkpoint_id"]
    await server.run(session_id, "two")
    second = (await listed(server, session_id))[0]["checkpoint_id"]
    await call(server, session_id, "restore", {"checkpoint_id": first})
    assert await users(server, session_id) == ["one"]
    await call(server, session_id, "restore", {"checkpoint_id": second})
    assert await users(server, session_id) == ["one", "two"]


async def test_going_back_survives_a_restart(server: LiveServer, tmp_path: Path) -> None:
    session_id = await server.session("workflows/steps.yaml")
    await server.run(session_id, "one")
    await call(server, session_id, "save")
    await server.run(session_id, "two")
    await call(server, session_id, "restore")
    await server.__aexit__()
    async with LiveServer(tmp_path) as later:
        assert await users(later, session_id) == ["one"]
        await later.run(session_id, "three")
        assert await users(later, session_id) == ["one", "three"]
    await server.__aenter__()


async def test_what_a_stopped_run_left_over_does_not_come_back_after_a_restore(server: LiveServer) -> None:
    session_id = await server.session("workflows/steps.yaml")
    await server.run(session_id, "one")
    await call(server, session_id, "save")
    await server.run(session_id, "two", mode="background")
    await asyncio.sleep(0.07)
    await server.post(f"/sessions/{session_id}/stop?wait=true")
    await call(server, session_id, "restore")
    await server.run(session_id, "three")
    assert await users(server, session_id) == ["one", "three"]


async def test_what_a_run_was_given_that_failed_at_once_does_not_come_back_after_a_restore(server: LiveServer) -> None:
    session_id = await server.session("workflows/steps.yaml")
    await server.run(session_id, "one")
    await call(server, session_id, "save")
    over = {"limits": {"max_tokens": 1, "on_exceed": "fail"}}
    assert (await server.run(session_id, "two", **over))["status"] == "failed"
    await call(server, session_id, "restore")
    await server.run(session_id, "three")
    assert await users(server, session_id) == ["one", "three"]


async def test_a_run_starts_from_the_checkpoint_that_it_names(server: LiveServer) -> None:
    session_id = await server.session("workflows/steps.yaml")
    await server.run(session_id, "one")
    first = (await listed(server, session_id))[0]["checkpoint_id"]
    await server.run(session_id, "two")
    run = await server.run(session_id, "three", checkpoint_id=first)
    assert run["status"] == "completed", run
    assert await users(server, session_id) == ["one", "three"]
    records = await server.records(session_id)
    restored = [r["checkpoint_id"] for r in records if r["record_type"] == "control" and r["action"] == "restore"]
    assert restored == [first]
    assert [r["content"] for r in records if r.get("message_type") == "user"] == ["one", "two", "three"]


async def test_a_run_from_an_unknown_checkpoint_or_beside_another_changes_nothing(server: LiveServer) -> None:
    session_id = await server.session("workflows/steps.yaml")
    await server.run(session_id, "one")
    first = (await listed(server, session_id))[0]["checkpoint_id"]
    await server.run(session_id, "two")
    for mode in ("reject", "enqueue"):
        body = {"message": "x", "checkpoint_id": "none", "multitask": mode}
        status, problem = await call(server, session_id, "runs", body)
        assert (status, problem["code"]) == (404, "checkpoint_not_found")
    status, problem = await call(server, session_id, "runs", {"message": 3, "checkpoint_id": first})
    assert status == 422
    status, problem = await call(server, session_id, "runs", {"checkpoint_id": first, "limits": {"max_tokens": -1}})
    assert (status, problem["code"]) == (400, "limits_invalid")
    assert await users(server, session_id) == ["one", "two"]
    busy = await paused(server)
    checkpoint = (await listed(server, busy))[0]["checkpoint_id"]
    status, problem = await call(server, busy, "runs", {"message": "x", "checkpoint_id": checkpoint})
    assert (status, problem["code"]) == (409, "run_already_active")


async def test_a_repeated_request_does_not_go_back_again(server: LiveServer) -> None:
    session_id = await server.session("workflows/steps.yaml")
    await server.run(session_id, "one")
    body = {"message": "two", "mode": "wait", "checkpoint_id": (await listed(server, session_id))[0]["checkpoint_id"]}
    for _ in range(2):
        headers = {"Idempotency-Key": "again"}
        answer = await server.client.post(f"/sessions/{session_id}/runs", json=body, headers=headers)
        assert answer.status_code == 200
        await server.run(session_id, "three")
    assert await users(server, session_id) == ["one", "two", "three", "three"]


@pytest.mark.parametrize("cursor", ["zzz", "none", "' OR 1=1", "1f1e9266-6403"])
async def test_a_cursor_that_no_answer_gave_is_refused(server: LiveServer, cursor: str) -> None:
    session_id = await server.session("workflows/steps.yaml")
    answer = await server.client.get(f"/sessions/{session_id}/checkpoints", params={"cursor": cursor})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_cursor")


async def test_what_cannot_be_gone_back_to_is_said(server: LiveServer) -> None:
    session_id = await server.session("workflows/steps.yaml")
    for verb in ("save", "restore"):
        status, problem = await call(server, session_id, verb)
        assert (status, problem["code"]) == (404, "checkpoint_not_found"), verb
    await server.run(session_id, "go")
    status, problem = await call(server, session_id, "restore", {"checkpoint_id": "none"})
    assert (status, problem["code"]) == (404, "checkpoint_not_found")
    status, problem = await call(server, session_id, "restore")
    assert (status, problem["code"]) == (404, "checkpoint_not_found"), "nothing was saved"
    busy = await paused(server)
    await call(server, busy, "save")
    status, problem = await call(server, busy, "restore")
    assert (status, problem["code"]) == (409, "session_busy")


# -- forks -----------------------------------------------------------------------------------------------------


async def test_a_fork_of_a_finished_session_is_a_session_of_its_own(server: LiveServer) -> None:
    session_id = await server.session("workflows/steps.yaml", title="Source", tags=["a"])
    await server.run(session_id, "one")
    before = await server.records(session_id)
    status, fork = await call(server, session_id, "fork", {"metadata": {"why": "test"}})
    assert (status, fork["title"], fork["tags"]) == (201, "Source", ["a"])
    assert fork["metadata"] == {"why": "test", "forked_from": session_id}
    assert await messages(server, fork["session_id"]) == await messages(server, session_id)
    await server.run(fork["session_id"], "two")
    assert await users(server, fork["session_id"]) == ["one", "two"]
    assert await users(server, session_id) == ["one"]
    assert await server.records(session_id) == before
    assert (await server.client.delete(f"/sessions/{session_id}")).status_code in (200, 204)
    assert await users(server, fork["session_id"]) == ["one", "two"]
    await server.run(fork["session_id"], "three")
    assert await users(server, fork["session_id"]) == ["one", "two", "three"]


async def test_the_log_of_a_fork_stands_alone(server: LiveServer) -> None:
    session_id = await server.session("workflows/speak.yaml")
    await server.run(session_id, "one")
    await server.run(session_id, "two")
    _, fork = await call(server, session_id, "fork")
    fork_id = fork["session_id"]
    records = await server.records(fork_id)  # seq from 1 without a gap
    copied = [record for record in records if record["record_type"] == "message"]
    source = await server.records(session_id, "message")
    assert [record["content"] for record in copied] == [record["content"] for record in source]
    assert {record["session_id"] for record in records} == {fork_id}
    origin = [record["metadata"]["copied_from"] for record in copied]
    assert origin == [{"session_id": session_id, "seq": r["seq"], "run_id": r["run_id"]} for r in source]
    state = (await server.get(f"/sessions/{fork_id}/state"))["messages"]
    assert {message["id"] for message in state} <= {record["record_id"] for record in copied}
    assert [(r["action"], r["source"]) for r in records if r["record_type"] == "control"] == [("fork", session_id)]
    await server.run(fork_id, "three")
    [request] = await server.records(fork_id, "llm_request")
    known = {record["record_id"] for record in await server.records(fork_id, "message")}
    assert set(_ids(request["messages"])) <= known


def _ids(value: Any) -> list[str]:
    """Every record id in a request's references."""
    if isinstance(value, str):
        return [value] if value.startswith("rec_") else []
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [each for item in items for each in _ids(item)]


async def test_a_fork_from_the_middle_goes_on_from_there(server: LiveServer) -> None:
    session_id = await server.session("workflows/steps.yaml")
    await server.run(session_id, "go")
    [middle] = [
        row["checkpoint_id"]
        for row in await listed(server, session_id, limit=100)
        if len((await server.get(f"/sessions/{session_id}/state", checkpoint_id=row["checkpoint_id"]))["messages"]) == 2
    ]
    status, fork = await call(server, session_id, "fork", {"checkpoint_id": middle})
    assert (status, fork["status"]) == (201, "paused")
    assert [role for role, _ in await messages(server, fork["session_id"])] == ["user", "assistant"]
    assert (await server.get(f"/sessions/{fork['session_id']}/runs"))["total"] == 1
    run = await server.post(f"/sessions/{fork['session_id']}/resume?wait=true")
    assert (run["status"], run["execution_path"]) == ("completed", ["two", "three"])
    assert await messages(server, fork["session_id"]) == await messages(server, session_id)


async def test_a_fork_of_a_paused_session_leaves_the_source_as_it_was(server: LiveServer) -> None:
    session_id = await paused(server)
    _, fork = await call(server, session_id, "fork")
    assert fork["status"] == "paused"
    run = await server.post(f"/sessions/{fork['session_id']}/resume?wait=true")
    assert run["status"] == "completed"
    assert (await server.get(f"/sessions/{session_id}"))["status"] == "paused"
    assert (await server.post(f"/sessions/{session_id}/resume?wait=true"))["status"] == "completed"
    for each in (session_id, fork["session_id"]):
        assert len(await messages(server, each)) == 4


async def test_a_fork_while_the_run_executes(server: LiveServer) -> None:
    session_id = await server.session("workflows/slow.yaml")
    await server.run(session_id, "go", mode="background")
    async with asyncio.timeout(10):
        while not await listed(server, session_id):  # the first step has ended
            await asyncio.sleep(0.02)
    status, fork = await call(server, session_id, "fork")
    assert (status, fork["status"]) == (201, "paused")
    run = await server.post(f"/sessions/{fork['session_id']}/resume?wait=true")
    assert run["status"] == "completed"
    await server.status(session_id, "completed")
    assert await messages(server, fork["session_id"]) == await messages(server, session_id)


async def test_a_fork_of_an_open_question_asks_it_itself(server: LiveServer) -> None:
    session_id = await server.session("workflows/ask.yaml")
    [question] = (await server.run(session_id, "go"))["interrupts"]
    _, fork = await call(server, session_id, "fork")
    fork_id = fork["session_id"]
    assert fork["status"] == "paused"
    run = await server.post(f"/sessions/{fork_id}/resume?wait=true")
    assert run["status"] == "paused"
    [asked] = (await server.get(f"/sessions/{fork_id}/interrupts"))["interrupts"]
    assert asked["question"] == question["question"]
    assert asked["interrupt_id"] != question["interrupt_id"]
    run = await server.post(
        f"/sessions/{fork_id}/interrupts/{asked['interrupt_id']}?wait=true", {"answer": {"approve": False}}
    )
    assert run["status"] == "completed"
    assert (await server.get(f"/sessions/{fork_id}/state"))["approve"] is False
    run = await server.post(
        f"/sessions/{session_id}/interrupts/{question['interrupt_id']}?wait=true", {"answer": {"approve": True}}
    )
    assert (await server.get(f"/sessions/{session_id}/state"))["approve"] is True


async def test_a_fork_inside_a_sub_workflow_goes_on_inside_it(server: LiveServer) -> None:
    session_id = await server.session("workflows/outer.yaml")
    await server.run(session_id, "go", mode="background")
    async with asyncio.timeout(10):
        while not [
            r for r in await server.records(session_id, "step") if r["node"] == "inner/one" and r["phase"] == "end"
        ]:
            await asyncio.sleep(0.005)
    assert (await server.post(f"/sessions/{session_id}/pause?wait=true"))["status"] == "paused"
    _, fork = await call(server, session_id, "fork")
    run = await server.post(f"/sessions/{fork['session_id']}/resume?wait=true")
    assert run["status"] == "completed", run
    assert "inner/one" not in run["execution_path"]
    assert run["execution_path"][-1] == "last"
    await server.post(f"/sessions/{session_id}/resume?wait=true")
    assert await messages(server, fork["session_id"]) == await messages(server, session_id)


async def test_a_fork_can_have_another_model_prompt_or_version(server: LiveServer, tmp_path: Path) -> None:
    session_id = await server.session("workflows/speak.yaml")
    await server.run(session_id, "hello")
    for config, expected in (
        ({"model": "other"}, "other says Speak kindly."),
        ({"prompt": "Be rude."}, "main says Be rude."),
    ):
        _, fork = await call(server, session_id, "fork", {"agent_config": config})
        run = await server.run(fork["session_id"], "again")
        assert run["result"]["output"] == expected
    status, problem = await call(server, session_id, "fork", {"agent_config": {"modle": "x"}})
    assert (status, problem["code"]) == (400, "agent_config_invalid")
    server.workflow(SPEAK % "Speak briefly.", name="speak2")
    (server.configs / "workflows/speak2.yaml").write_text(
        (server.configs / "workflows/speak2.yaml").read_text().replace("name: speak2", "name: speak")
    )
    _, fork = await call(server, session_id, "fork", {"workflow_config_path": "workflows/speak2.yaml"})
    assert (await server.run(fork["session_id"], "x"))["result"]["output"] == "main says Speak briefly."
    newer = fork["workflow_version"]
    _, fork = await call(server, session_id, "fork", {"workflow_version": newer})
    assert fork["workflow_version"] == newer
    status, problem = await call(server, session_id, "fork", {"workflow_version": "none"})
    assert (status, problem["code"]) == (404, "workflow_version_not_found")


async def test_a_fork_into_a_version_without_the_pending_node_says_which(server: LiveServer) -> None:
    session_id = await paused(server)
    server.configure({"workflows/renamed.yaml": "schema: modular-agent/v1\nname: renamed\n" + RENAMED})
    body = {"workflow_config_path": "workflows/renamed.yaml"}
    head = await listed(server, session_id)
    status, problem = await call(server, session_id, "fork", body)
    assert (status, problem["code"]) == (409, "fork_node_missing")
    assert "two" in problem["detail"]
    assert await listed(server, session_id) == head
    status, problem = await call(server, session_id, "fork", {**body, "as_node": "nowhere"})
    assert (status, problem["code"]) == (409, "fork_node_missing")
    status, fork = await call(server, session_id, "fork", {**body, "as_node": "second"})
    assert (status, fork["status"]) == (201, "paused"), fork
    run = await server.post(f"/sessions/{fork['session_id']}/resume?wait=true")
    assert (run["status"], run["execution_path"]) == ("completed", ["three"])


async def test_what_cannot_be_forked_makes_no_session(server: LiveServer) -> None:
    session_id = await server.session("workflows/steps.yaml")
    status, problem = await call(server, session_id, "fork")
    assert (status, problem["code"]) == (404, "checkpoint_not_found")
    await server.run(session_id, "go")
    total = (await server.get("/sessions/"))["total"]
    status, problem = await call(server, session_id, "fork", {"checkpoint_id": "none"})
    assert (status, problem["code"]) == (404, "checkpoint_not_found")
    status, problem = await call(server, session_id, "fork", {"workflow_config_path": "workflows/none.yaml"})
    assert (status, problem["code"]) == (400, "file_not_found")
    assert (await server.get("/sessions/"))["total"] == total


# -- other versions --------------------------------------------------------------------------------------------


async def test_a_session_moves_to_the_newest_version(server: LiveServer) -> None:
    session_id = await server.session("workflows/speak.yaml")
    await server.run(session_id, "hello")
    server.workflow(SPEAK % "Speak loudly.", name="speak")
    assert (await server.run(session_id, "still"))["result"]["output"] == "main says Speak kindly."
    before = (await server.get(f"/sessions/{session_id}"))["workflow_version"]
    async with asyncio.timeout(10):
        while (await server.get("/workflows/speak"))["content_hash"] == before:  # the change has not been seen yet
            await asyncio.sleep(0.02)
    status, session = await call(server, session_id, "migrate")
    assert status == 200, session
    assert session["workflow_version"] != before
    assert (await server.run(session_id, "now"))["result"]["output"] == "main says Speak loudly."
    [record] = await server.records(session_id, "control")
    assert (record["action"], record["from_version"]) == ("migrate", before)
    await call(server, session_id, "migrate", {"workflow_version": before})
    assert (await server.run(session_id, "back"))["result"]["output"] == "main says Speak kindly."
    assert await users(server, session_id) == ["hello", "still", "now", "back"]


async def test_a_busy_session_does_not_move(server: LiveServer) -> None:
    session_id = await paused(server)
    status, problem = await call(server, session_id, "migrate")
    assert (status, problem["code"]) == (409, "session_busy")
    status, problem = await call(server, session_id, "migrate", {"workflow_version": "none"})
    assert (status, problem["code"]) == (404, "workflow_version_not_found")
