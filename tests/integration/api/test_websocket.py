"""`/ws/{client_id}` of the whole product: subscriptions, queries, control, and what it refuses."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from servers.live_server import LiveServer

ECHO = """
models: {main: {provider: scripted, script: scripts/test.yaml}}
nodes: {answer: {type: llm, model: main}}
edges: [{from: START, to: answer}, {from: answer, to: END}]
"""
STEPS = """
models: {main: {provider: scripted, script: scripts/test.yaml}}
nodes: {one: {type: llm, model: main}, two: {type: llm, model: main}, three: {type: llm, model: main}}
edges: [{from: START, to: one}, {from: one, to: two}, {from: two, to: three}, {from: three, to: END}]
"""
ASK = """
models: {main: {provider: scripted, script: scripts/test.yaml}}
nodes:
  review: {type: human, question: "Send this?", form: {approve: {type: boolean}}}
  answer: {type: llm, model: main}
edges: [{from: START, to: review}, {from: review, to: answer}, {from: answer, to: END}]
"""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[LiveServer]:
    server = LiveServer(tmp_path, WS_MAX_MESSAGE_BYTES="4096", WS_METRICS_SECONDS="0.2", WS_PING_SECONDS="0.5")
    turns = [
        {"when": {"last_user": "slow"}, "reply": "one two three", "delay": "150ms"},
        {"when": {"last_user": "fail"}, "fail": {"kind": "authentication", "status": 401, "message": "no"}},
    ]
    server.workflow(ECHO, turns=turns, otherwise={"reply": "You said: {{ input }}"})
    server.workflow(STEPS, name="steps")
    server.workflow(ASK, name="ask")
    async with server:
        yield server


async def test_a_subscription_replays_and_goes_on_without_a_gap(server: LiveServer) -> None:
    session_id = await server.session()
    await server.run(session_id, "one")
    first = await server.records(session_id)
    async with server.socket() as client:
        answer = await client.ask("subscribe", session_id=session_id, data={"after_seq": 0})
        assert answer["type"] == "subscribed"
        assert answer["seq"] == len(first)
        await server.run(session_id, "two")
        records = await server.records(session_id)
        while sum("seq" in m and m["type"] != "subscribed" and m["seq"] is not None for m in client.seen) < len(
            records
        ):
            await client.receive()
        events = [m for m in client.seen if m.get("seq") is not None and m["type"] != "subscribed"]
        assert [event["data"] for event in events] == records
        assert [event["seq"] for event in events] == [record["seq"] for record in records]
        answer = await client.ask("unsubscribe", session_id=session_id)
        assert answer["type"] == "unsubscribed"
        await server.run(session_id, "three")
        assert (await client.ask("ping"))["type"] == "pong"
        assert len([m for m in client.seen if m.get("seq") is not None and m["type"] != "subscribed"]) == len(records)


async def test_queries_answer_what_rest_answers(server: LiveServer) -> None:
    session_id = await server.session()
    run = await server.run(session_id, "one")
    async with server.socket() as client:
        asked = await client.ask("query", session_id=session_id, data={"query": "status"})
        assert (asked["type"], asked["session_id"]) == ("result", session_id)
        assert asked["data"]["session"] == await server.get(f"/sessions/{session_id}")
        assert asked["data"]["run"] == run
        assert (await client.ask("status", session_id=session_id))["data"] == asked["data"]
        asked = await client.ask("query", session_id=session_id, data={"query": "state"})
        assert asked["data"] == await server.get(f"/sessions/{session_id}/state")
        asked = await client.ask("query", session_id=session_id, data={"query": "history"})
        assert asked["data"] == await server.get(f"/sessions/{session_id}/history")
        asked = await client.ask("query", session_id=session_id, data={"query": "runs"})
        assert asked["data"]["runs"] == (await server.get(f"/sessions/{session_id}/runs"))["runs"]
        asked = await client.ask("query", session_id=session_id, data={"query": "checkpoints"})
        assert asked["data"]["checkpoints"]
        asked = await client.ask("query", session_id=session_id, data={"query": "weather"})
        assert asked["type"] == "error"


async def test_a_run_is_controlled_from_its_start_to_its_end(server: LiveServer) -> None:
    async with server.socket() as client:

        async def control(action: str, session_id: str | None, **data: object) -> tuple[dict, dict]:  # type: ignore[type-arg]
            where = {} if session_id is None else {"session_id": session_id}
            await client.send("control", id=action, data={"action": action, **data}, **where)
            ack = await client.until("ack", "error", id=action)
            return ack, ack if ack["type"] == "error" else await client.until("result", "error", id=action)

        await client.send(
            "control",
            id="start",
            data={"action": "start", "workflow_config_path": "workflows/steps.yaml", "title": "T", "message": "slow"},
        )
        ack = await client.until("ack", id="start")
        session_id = ack["data"]["session_id"]
        assert ack["data"]["run_id"]
        assert (await server.get(f"/sessions/{session_id}"))["title"] == "T"
        await asyncio.sleep(0.05)
        ack, result = await control("pause", session_id)
        assert ack["type"] == "ack"
        assert (result["type"], result["data"]["status"]) == ("result", "paused")
        _, result = await control("step", session_id)
        assert result["data"]["execution_path"] == ["one", "two"]
        _, result = await control("resume", session_id)
        assert result["data"]["status"] == "completed"
        _, result = await control("resume", session_id)
        assert (result["type"], result["data"]["code"]) == ("error", "run_not_paused")
        _, result = await control("pause", session_id)
        assert (result["type"], result["data"]["code"]) == ("error", "no_active_run")
        await client.send("control", id="s2", session_id=session_id, data={"action": "start", "message": "slow"})
        await client.until("ack", id="s2")
        _, result = await control("stop", session_id)
        assert result["data"]["status"] == "stopped"
        _, result = await control("retry", session_id)
        assert result["data"]["status"] == "completed"


async def test_a_message_is_injected_over_the_socket(server: LiveServer) -> None:
    session_id = await server.session("workflows/steps.yaml")
    async with server.socket() as client:

        async def inject(number: str, **data: object) -> None:
            given = {"action": "inject", **data}
            await client.send("control", id=number, session_id=session_id, data=given)

        await inject("early", message="Too early.")
        assert (await client.until("error", id="early"))["data"]["code"] == "run_not_running"
        await server.run(session_id, "slow", mode="background")
        await inject("empty")
        assert (await client.until("error", id="empty"))["data"]["code"] == "control_invalid"
        await inject("good", message="Use metric units.")
        assert (await client.until("ack", id="good"))["data"]["inbox_id"]
        assert (await client.until("result", id="good"))["data"]["status"] == "consumed"
    state = await server.get(f"/sessions/{session_id}/state")
    assert [m["content"] for m in state["messages"] if m["role"] == "user"] == ["slow", "Use metric units."]


async def test_a_question_is_answered_over_the_socket(server: LiveServer) -> None:
    session_id = await server.session("workflows/ask.yaml")
    async with server.socket() as client:
        await client.ask("subscribe", session_id=session_id, data={"after_seq": 0})
        await server.run(session_id, "go")
        question = await client.until("interrupt")
        interrupt_id = question["data"]["interrupt_id"]
        for data, code in (
            ({}, "control_invalid"),
            ({"interrupt_id": interrupt_id}, "control_invalid"),
            ({"interrupt_id": "none", "answer": 1}, "interrupt_not_found"),
            ({"interrupt_id": interrupt_id, "answer": {"approve": "x"}}, "answer_invalid"),
        ):
            await client.send("control", id="a", session_id=session_id, data={"action": "answer", **data})
            assert (await client.until("error", id="a"))["data"]["code"] == code
        data = {"action": "answer", "interrupt_id": interrupt_id, "answer": {"approve": True}}
        await client.send("control", id="b", session_id=session_id, data=data)
        assert (await client.until("result", id="b"))["data"]["status"] == "completed"
        await client.send("control", id="c", session_id=session_id, data=data)
        assert (await client.until("error", id="c"))["data"]["code"] == "interrupt_closed"


async def test_a_message_is_put_into_a_run_and_its_state_changed_over_the_socket(server: LiveServer) -> None:
    session_id = await server.session("workflows/steps.yaml")
    async with server.socket() as client:

        async def control(number: str, **data: object) -> dict:  # type: ignore[type-arg]
            await client.send("control", id=number, session_id=session_id, data=data)
            ack = await client.until("ack", id=number)
            assert (ack["data"]["action"], ack["data"]["run_id"]) == (data["action"], run_id)
            return (await client.until("result", id=number))["data"]

        run_id = (await server.run(session_id, "slow", mode="background"))["run_id"]
        assert (await control("1", action="pause"))["status"] == "paused"
        assert (await control("2", action="inject", message="slow: more"))["status"] == "waiting"
        said = [message["content"] for message in (await control("3", action="edit", state={}))["messages"]]
        assert said == ["slow", "one two three"]
        kept = await control("4", action="edit", state={"messages": [{"role": "user", "content": "slow: else"}]})
        assert [message["content"] for message in kept["messages"]] == ["slow: else"]
        assert (await control("5", action="resume"))["status"] == "completed"
        state = await server.get(f"/sessions/{session_id}/state")
        assert [message["content"] for message in state["messages"]][:2] == ["slow: else", "slow: more"]
        for action in ("inject", "edit"):
            data = {"action": action, "message": "x"} if action == "inject" else {"action": action, "state": {}}
            answer = await client.ask("control", session_id=session_id, data=data)
            assert answer["data"]["code"] == ("run_not_running" if action == "inject" else "run_not_paused")


async def test_what_a_control_cannot_use_is_told_with_its_place(server: LiveServer) -> None:
    session_id = await server.session("workflows/steps.yaml")
    async with server.socket() as client:
        for data, places in (
            ({"action": "pause", "now": True}, ["now"]),
            ({"action": "retry", "run_id": {"a": 1}}, ["run_id"]),
            ({"action": "answer", "interrupt_id": 5}, ["answer", "interrupt_id"]),
            ({"action": "inject"}, ["message"]),
            ({"action": "edit", "state": 1}, ["state"]),
        ):
            answer = await client.ask("control", session_id=session_id, data=data)
            assert answer["data"]["code"] == "control_invalid", data
            assert sorted(fault["path"] for fault in answer["data"]["errors"]) == [f"/{place}" for place in places]


async def test_a_run_that_another_has_followed_is_not_taken_up(server: LiveServer) -> None:
    session_id = await server.session()
    failed = await server.run(session_id, "fail")
    later = await server.run(session_id, "hello")
    assert (failed["status"], later["status"]) == ("failed", "completed")
    before = await server.get(f"/sessions/{session_id}/state")
    async with server.socket() as client:
        data = {"action": "retry", "run_id": failed["run_id"]}
        answer = await client.ask("control", session_id=session_id, data=data)
    assert answer["data"]["code"] == "run_superseded"
    assert await server.get(f"/sessions/{session_id}/state") == before


async def test_a_start_that_cannot_be_leaves_no_session(server: LiveServer) -> None:
    async with server.socket() as client:
        for data, code in (
            ({}, "workflow_missing"),
            ({"workflow_id": "none", "message": "x"}, "workflow_not_found"),
            ({"workflow_id": "test", "message": "x", "limits": {"max_tokens": -1}}, "limits_invalid"),
            ({"workflow_id": "test", "message": [{"x": 1}]}, "state_invalid"),
            ({"workflow_id": "test", "input": {"messages": [{"role": "robot"}]}}, "state_invalid"),
            ({"workflow_id": "test", "message": 7}, "control_invalid"),
            ({"workflow_id": "test", "nonsense": 7}, "control_invalid"),
            ({"workflow_config_path": "../x.yaml"}, "path_outside_root"),
        ):
            await client.send("control", id="s", data={"action": "start", **data})
            error = await client.until("error", "ack", id="s")
            assert error["data"].get("code") == code, (data, error)
    assert (await server.get("/sessions/"))["total"] == 0


async def test_what_is_malformed_is_told_and_the_connection_lives_on(server: LiveServer) -> None:
    async with server.socket() as client:
        for text in ("", "{", "[]", "7", "null", '{"type": 7}', '{"type": "dance"}', '{"type": "subscribe", "data": 7}',
                     '{"type": "subscribe", "session_id": 7}',
                     '{"type": "control"}', '{"type": "query", "data": []}', "😀"):  # fmt: skip
            await client.connection.send(text)
            error = await client.until("error")
            assert error["data"]["code"], text
            assert error["data"]["message"], text
        await client.connection.send(b"\xff\xfe")
        assert (await client.until("error"))["data"]["code"] == "invalid_message"
        for kind, fields, code in (
            ("subscribe", {"session_id": "none"}, "session_not_found"),
            ("subscribe", {"session_id": "../etc"}, "session_not_found"),
            ("unsubscribe", {"session_id": "none"}, "not_subscribed"),
            ("control", {"data": {"action": "pause"}}, "invalid_message"),
            ("control", {"session_id": "none", "data": {"action": "pause"}}, "session_not_found"),
            ("control", {"session_id": "none", "data": {"action": "explode"}}, "invalid_message"),
        ):
            answer = await client.ask(kind, **fields)
            assert (answer["type"], answer["data"]["code"]) == ("error", code), (kind, fields)
        assert (await client.ask("ping"))["type"] == "pong"


async def test_errors_follow_the_language(server: LiveServer) -> None:
    async with server.socket(additional_headers={"Accept-Language": "zh-CN"}) as client:
        answer = await client.ask("subscribe", session_id="none")
        assert "会话" in answer["data"]["message"]
        answer = await client.ask("control", data={"action": "start", "workflow_id": 5})
        assert answer["data"]["errors"] == [{"code": "wrong_type", "message": "必须是字符串", "path": "/workflow_id"}]


async def test_a_message_too_large_closes_with_1009(server: LiveServer) -> None:
    for size in (4200, 100_000):
        async with server.socket() as client:
            await client.connection.send('{"type": "ping", "data": {"x": "' + "x" * size + '"}}')
            with pytest.raises(ConnectionClosed):
                await client.receive()
            assert client.connection.close_code == 1009


async def test_a_second_connection_takes_the_client_over(server: LiveServer) -> None:
    async with server.socket("same") as first, server.socket("other") as other, server.socket("same") as second:
        with pytest.raises(ConnectionClosed):
            await first.receive()
        assert first.connection.close_code == 4001
        assert (await second.ask("ping"))["type"] == "pong"
        assert (await other.ask("ping"))["type"] == "pong"


async def test_all_sessions_are_watched_live(server: LiveServer) -> None:
    one, two = await server.session(), await server.session()
    await server.run(one, "before")
    async with server.socket() as client:
        assert (await client.ask("subscribe", session_id="*"))["type"] == "subscribed"
        await server.run(one, "x")
        await server.run(two, "y")
        while (await client.until("session_update", session_id=two))["data"].get("status") != "completed":
            pass
        events = [message for message in client.seen if message.get("seq")]
        assert {event["session_id"] for event in events} == {one, two}
        for session_id in (one, two):
            records = await server.records(session_id)
            mine = [event["data"] for event in events if event["session_id"] == session_id]
            assert mine == records[len(records) - len(mine) :]
        assert "before" not in str(events)


async def test_metrics_and_errors_come_to_those_who_asked_for_them(server: LiveServer) -> None:
    session_id = await server.session()
    async with server.socket("watcher") as client, server.socket("other") as other:
        await other.ask("subscribe", session_id="*")
        await client.ask("subscribe", data={"types": ["performance_metrics", "error_event"]})
        run = await server.run(session_id, "fail")
        error = await client.until("error_event")
        assert error["data"]["run_id"] == run["run_id"]
        assert error["data"]["error_id"] == run["error"]["error_id"]
        await server.run(session_id, "hello")
        figures = [await client.until("performance_metrics") for _ in range(3)]
        newest = figures[-1]["data"]
        assert newest["request_count"] >= 1
        assert newest["total_tokens"] > 0
        assert newest["avg_response_time"] is not None
        assert newest["min_response_time"] <= newest["p50"] <= newest["p99"] <= newest["max_response_time"]
        assert newest["sessions"] == {"completed": 1}
        assert newest["runs"] == {"active": 0, "queued": 0}
        assert newest["realtime"]["connections"] == 2
        assert newest["resource_usage"]["memory_bytes"] > 10_000_000
        assert newest["resource_usage"]["cpu_percent"] >= 0
        assert newest["resource_usage"]["uptime_seconds"] > 0
        seen = {message["type"] for message in client.seen} - {"ping"}  # a busy machine makes a client silent
        assert seen == {"subscribed", "performance_metrics", "error_event"}
        await other.ask("ping")
        assert "performance_metrics" not in {message["type"] for message in other.seen}


async def test_a_silent_client_is_pinged(server: LiveServer) -> None:
    async with server.socket() as client:
        assert (await client.until("ping", timeout=5))["type"] == "ping"


async def test_the_connection_that_started_a_run_may_go(server: LiveServer) -> None:
    async with server.socket() as client:
        data = {"action": "start", "workflow_config_path": "workflows/steps.yaml", "message": "slow"}
        await client.send("control", id="s", data=data)
        session_id = (await client.until("ack", id="s"))["data"]["session_id"]
    assert (await server.status(session_id, "completed", "failed", "stopped"))["status"] == "completed"


async def test_a_client_that_does_not_read_slows_nobody(server: LiveServer) -> None:
    session_id = await server.session()
    async with server.socket("deaf", max_queue=1) as deaf, server.socket("quick") as quick:
        for client in (deaf, quick):
            await client.ask("subscribe", session_id=session_id, data={"after_seq": 0})
        for n in range(20):
            await server.run(session_id, f"{n} " + "text " * 5000)
        records = await server.records(session_id)
        for client in (quick, deaf):
            found = [m["data"] for m in client.seen if m.get("seq") is not None and m["type"] != "subscribed"]
            while len(found) < len(records):
                message = await client.receive()
                if message.get("seq") is not None:
                    found.append(message["data"])
            assert found == records
