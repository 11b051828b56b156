"""Several people at the same instant: of what they ask one thing comes after the other, and the log says which."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from integration.api.control_workflows import users
from modular_agent.storage.unit_of_work import UnitOfWork
from servers.live_server import LiveServer

QUICK = """
models: {main: {provider: scripted, script: scripts/quick.yaml}}
nodes: {answer: {type: llm, model: main}, again: {type: llm, model: main}}
edges: [{from: START, to: answer}, {from: answer, to: again}, {from: again, to: END}]
"""
ONE = """
models: {main: {provider: scripted, script: scripts/one.yaml}}
nodes: {answer: {type: llm, model: main}}
edges: [{from: START, to: answer}, {from: answer, to: END}]
"""
WIDE = """
models: {main: {provider: scripted, script: scripts/wide.yaml}}
nodes:
  fast: {type: llm, model: main, prompt: "Be fast."}
  slow: {type: llm, model: main, prompt: "Be slow."}
edges: [{from: START, to: fast}, {from: START, to: slow}, {from: fast, to: END}, {from: slow, to: END}]
"""
ROUNDS = 5


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[LiveServer]:
    server = LiveServer(tmp_path)
    server.workflow(QUICK, name="quick", otherwise={"reply": "answer", "delay": "5ms"})
    fast = {"when": {"system": "fast"}, "reply": "fast", "delay": "150ms"}
    server.workflow(WIDE, name="wide", turns=[fast], otherwise={"reply": "slow", "delay": "800ms"})
    server.workflow(ONE, name="one", otherwise={"reply": "answer", "delay": "150ms"})
    async with server:
        yield server


async def ask(server: LiveServer, session_id: str, verb: str, **body: Any) -> tuple[int, str]:
    answer = await server.client.post(f"/sessions/{session_id}/{verb}", json=body)
    return answer.status_code, "" if answer.is_success else answer.json()["code"]


async def at_rest(server: LiveServer, session_id: str) -> None:
    async with asyncio.timeout(20):
        while (await server.get(f"/sessions/{session_id}"))["current_run_id"] is not None:
            await asyncio.sleep(0.01)


async def with_checkpoints(server: LiveServer) -> tuple[str, dict[str, list[str]]]:
    """A session of three runs, and what had been said at the checkpoint that each of them left."""
    session_id = await server.session("workflows/quick.yaml")
    said: dict[str, list[str]] = {}
    for word in ("one", "two", "three"):
        await server.run(session_id, word)
        newest = (await server.get(f"/sessions/{session_id}/checkpoints"))["checkpoints"][0]["checkpoint_id"]
        said[newest] = await users(server, session_id)
    return session_id, said


def told(records: list[dict[str, Any]], said: dict[str, list[str]]) -> list[str]:
    """What the log says that the state holds of what people said."""
    now: list[str] = []
    for record in records:
        if record["record_type"] == "control" and record["action"] == "restore":
            now = said[record["checkpoint_id"]]
        elif record.get("message_type") == "user":
            now = [*now, record["content"]]
    return now


def check_alone(records: list[dict[str, Any]]) -> None:
    """Nothing was taken back while a run was active."""
    active = False
    for record in records:
        if record["record_type"] == "run":
            active = record["status"] not in {"completed", "stopped", "failed"}
        elif record["record_type"] == "control" and record["action"] in {"restore", "rollback", "migrate"}:
            assert not active, f"{record['action']} beside a run, at {record['seq']}"


async def test_restores_and_starts_at_the_same_instant_come_one_after_the_other(server: LiveServer) -> None:
    session_id, said = await with_checkpoints(server)
    first, second, third = said
    for number in range(ROUNDS):
        answers = await asyncio.gather(
            ask(server, session_id, "restore", checkpoint_id=first),
            ask(server, session_id, "restore", checkpoint_id=third),
            ask(server, session_id, "runs", message=f"new {number}"),
            ask(server, session_id, "runs", message=f"from there {number}", checkpoint_id=second),
            ask(server, session_id, "restore", checkpoint_id=second),
        )
        assert {code for _, code in answers} <= {"", "session_busy", "run_already_active"}, answers
        await at_rest(server, session_id)
        records = await server.records(session_id)
        check_alone(records)
        assert await users(server, session_id) == told(records, said)


async def test_a_retry_and_a_restore_at_the_same_instant_come_one_after_the_other(server: LiveServer) -> None:
    session_id, said = await with_checkpoints(server)
    first, *_ = said
    for number in range(ROUNDS):
        await ask(server, session_id, "runs", message=f"to be stopped {number}")
        await ask(server, session_id, "stop?wait=true")
        answers = await asyncio.gather(
            ask(server, session_id, "retry"), ask(server, session_id, "restore", checkpoint_id=first)
        )
        assert {code for _, code in answers} <= {"", "session_busy", "illegal_transition"}, answers
        await at_rest(server, session_id)
        check_alone(await server.records(session_id))
        await ask(server, session_id, "restore", checkpoint_id=first)
        assert await users(server, session_id) == ["one"]


async def test_a_rollback_and_a_start_at_the_same_instant_lose_nothing_of_the_start(server: LiveServer) -> None:
    session_id = await server.session("workflows/quick.yaml")
    await server.run(session_id, "kept")
    for number in range(ROUNDS):
        await ask(server, session_id, "runs", message=f"dropped {number}")
        over = asyncio.Event()

        async def insist(who: int, number: int = number, over: asyncio.Event = over) -> None:
            while not over.is_set():
                await ask(server, session_id, "runs", message=f"beside {number}.{who}")

        async with asyncio.TaskGroup() as group:
            for who in range(3):
                group.create_task(insist(who))
            await ask(server, session_id, "runs", message=f"instead {number}", multitask="rollback")
            over.set()
        await at_rest(server, session_id)
        records = await server.records(session_id)
        check_alone(records)
        gone = {r["run_id"] for r in records if r["record_type"] == "control" and r["action"] == "rollback"}
        left = [r["content"] for r in records if r.get("message_type") == "user" and r["run_id"] not in gone]
        assert await users(server, session_id) == left


async def test_a_message_that_comes_behind_the_end_of_its_run_is_refused(server: LiveServer) -> None:
    session_id = await asking(server, "one", models=1)
    async with written_later(server) as writes:
        await writes(1)  # the run's end
        injected = asyncio.create_task(ask(server, session_id, "messages", message="too late"))
        await writes(2)
    assert await injected == (409, "run_not_running")
    assert await users(server, session_id) == ["go"]
    assert not await server.runtime.runs.rows.inbox((await server.runtime.sessions.get(session_id)).ref)


async def test_a_fork_that_comes_behind_the_end_of_a_branch_is_whole(server: LiveServer) -> None:
    session_id = await asking(server, "wide", models=2)
    async with written_later(server) as writes:
        await writes(1)  # what the fast branch has said
        forked = asyncio.create_task(server.post(f"/sessions/{session_id}/fork", {}))
        await writes(2)
    fork = (await forked)["session_id"]
    state = await server.get(f"/sessions/{fork}/state")
    assert [message["content"] for message in state["messages"]] == ["go", "fast"]
    logged = {record["record_id"] for record in await server.records(fork, "message")}
    assert {message["id"] for message in state["messages"]} <= logged


async def asking(server: LiveServer, name: str, *, models: int) -> str:
    """A session whose run has asked its models; its id."""
    session_id = await server.session(f"workflows/{name}.yaml")
    await ask(server, session_id, "runs", message="go")
    async with asyncio.timeout(10):
        while len(await server.records(session_id, "llm_request")) < models:
            await asyncio.sleep(0.005)
    return session_id


@contextlib.asynccontextmanager
async def written_later(server: LiveServer) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
    """While it is entered, what is to be written waits, in the order of its coming; gives what waits for so many."""
    writer = server.runtime.database.writer
    begun, released = threading.Event(), threading.Event()

    def hold(_: object) -> None:
        begun.set()
        released.wait(20)

    held = writer.submit(UnitOfWork(then=hold))

    async def writes(count: int) -> None:
        async with asyncio.timeout(10):
            while writer.waiting < count:
                await asyncio.sleep(0.001)

    await asyncio.to_thread(begun.wait, 10)
    try:
        yield writes
    finally:
        released.set()
        await held
