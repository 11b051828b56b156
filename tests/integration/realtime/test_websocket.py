"""The WebSocket protocol over real sockets."""

import asyncio
from dataclasses import replace

import pytest

from integration.realtime.socket_server import SocketServer
from modular_agent.events import RecordType
from modular_agent.kit.clock import SystemClock
from modular_agent.realtime.connections import Connections
from modular_agent.realtime.hub import Hub
from unit.realtime.memory_log import MemoryLog, delta


async def test_a_subscription_is_answered_with_the_last_seq_then_replays_then_is_live(
    server: SocketServer, hub: Hub, log: MemoryLog
) -> None:
    session = log.session()
    hub.publish(log.append_many(session, 5))
    async with server.client() as client:
        answer = await client.ask("subscribe", session_id=session.session_id, after_seq=2, id="s1")
        assert (answer["type"], answer["id"], answer["seq"]) == ("subscribed", "s1", 5)
        assert answer["session_id"] == session.session_id
        assert [event["seq"] for event in await client.hear_until(5)] == [3, 4, 5]
        hub.publish(log.append_many(session, 1))
        event = await client.hear()
        assert (event["type"], event["seq"], event["data"]["seq"]) == ("log", 6, 6)
        hub.delta(delta(session, "Hi", 0))
        assert (await client.hear())["data"]["text"] == "Hi"
        assert (await client.ask("unsubscribe", session_id=session.session_id, id=2))["type"] == "unsubscribed"
        hub.publish(log.append_many(session, 1))
        assert await client.silent()


async def test_ping_gets_pong_with_the_id_and_a_timestamp(server: SocketServer) -> None:
    async with server.client() as client:
        pong = await client.ask("ping", id="p1")
    assert (pong["type"], pong["id"]) == ("pong", "p1")
    assert pong["timestamp"].endswith("Z")


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("nonsense", "invalid_message"),
        (b"\x00\xff", "invalid_message"),
        ("[]", "invalid_message"),
        ('{"type":"sing","id":"x"}', "unknown_message_type"),
        ('{"type":"unsubscribe","session_id":"react-nobody","id":"x"}', "not_subscribed"),
        ('{"type":"subscribe","session_id":"react-nobody","id":"x"}', "session_not_found"),
    ],
)
async def test_a_bad_message_gets_an_error_and_the_connection_lives_on(
    server: SocketServer, message: str | bytes, code: str
) -> None:
    async with server.client() as client:
        await client.connection.send(message)
        error = await client.hear()
        assert (error["type"], error["data"]["code"]) == ("error", code)
        assert error["id"] == ("x" if b'"x"' in (message if isinstance(message, bytes) else message.encode()) else None)
        assert (await client.ask("ping"))["type"] == "pong"


async def test_a_session_that_is_not_the_callers_is_refused(server: SocketServer, log: MemoryLog) -> None:
    session = log.session()
    server.forbidden.add(session.session_id)
    async with server.client() as client:
        error = await client.ask("subscribe", session_id=session.session_id)
    assert error["data"]["code"] == "forbidden"


async def test_a_message_too_large_closes_with_1009(server: SocketServer) -> None:
    server.limits = replace(server.limits, message_bytes=1000)
    async with server.client() as client:
        assert (await client.ask("ping", data={"x": "y" * 900}))["type"] == "pong"
        await client.say("ping", data={"x": "好" * 400})
        assert await client.closed() == 1009


async def test_who_sends_too_fast_is_told_and_a_flood_is_closed(server: SocketServer) -> None:
    server.limits = replace(server.limits, rate=2, burst=3, violations=10)
    async with server.client() as client:
        for _ in range(5):
            await client.say("ping")
        kinds = [await client.hear() for _ in range(5)]
        assert [kind["type"] for kind in kinds] == ["pong"] * 3 + ["error"] * 2
        assert kinds[-1]["data"]["code"] == "rate_limited"
        assert 0 < kinds[-1]["data"]["retry_after"] <= 0.5
        await asyncio.sleep(0.6)
        assert (await client.ask("ping"))["type"] == "pong"
        for _ in range(30):
            await client.say("ping")
        assert await client.closed() == 1008


async def test_subscriptions_are_limited_and_the_same_one_may_be_renewed(server: SocketServer, log: MemoryLog) -> None:
    server.limits = replace(server.limits, subscriptions=2)
    sessions = [log.session(n) for n in (1, 2, 3)]
    async with server.client() as client:
        for session in sessions[:2]:
            assert (await client.ask("subscribe", session_id=session.session_id))["type"] == "subscribed"
        error = await client.ask("subscribe", session_id=sessions[2].session_id)
        assert error["data"]["code"] == "too_many_subscriptions"
        log.append_many(sessions[0], 3)
        answer = await client.ask("subscribe", session_id=sessions[0].session_id, after_seq=0)
        assert answer["type"] == "subscribed"
        assert [event["seq"] for event in await client.hear_until(3)] == [1, 2, 3]


async def test_a_wildcard_shows_all_sessions_and_repeats_none_that_is_subscribed_by_itself(
    server: SocketServer, hub: Hub, log: MemoryLog
) -> None:
    one, two, foreign = log.session(1), log.session(2), log.session(3, tenant="globex")
    async with server.client() as client:
        assert (await client.ask("subscribe", session_id="*"))["type"] == "subscribed"
        assert (await client.ask("subscribe", types=["error_event"]))["type"] == "subscribed"
        assert (await client.ask("subscribe", session_id=one.session_id))["type"] == "subscribed"
        for index in range(20):
            hub.publish([*log.append_many(one, 1), log.append(two, RecordType.ERROR, error_id=f"e{index}")])
            hub.publish(log.append_many(foreign, 1))
            await asyncio.sleep(0.001)
        heard = [await client.hear() for _ in range(40)]
        assert await client.silent()
        await client.ask("unsubscribe", session_id=one.session_id)
        hub.publish(log.append_many(one, 1))
        assert (await client.hear())["seq"] == 21
    for session in (one, two):
        assert [event["seq"] for event in heard if event["session_id"] == session.session_id] == list(range(1, 21))


async def test_a_control_is_acknowledged_then_answered_and_does_not_hold_up_pings(server: SocketServer) -> None:
    async with server.client() as client:
        ack = await client.ask("control", session_id="react-1", id="c", data={"action": "pause", "why": "lunch"})
        assert (ack["type"], ack["id"]) == ("ack", "c")
        assert (await client.ask("ping"))["type"] == "pong"
        server.handler.go.set()
        result = await client.hear()
    assert (result["type"], result["id"], result["data"]["echo"]) == ("result", "c", {"why": "lunch"})


async def test_a_start_without_a_session_answers_the_new_ones_id(server: SocketServer) -> None:
    async with server.client() as client:
        ack = await client.ask("control", data={"action": "start", "workflow_id": "react"})
    assert (ack["type"], ack["session_id"], ack["data"]["session_id"]) == ("ack", "react-new", "react-new")


async def test_queries_and_status_are_answered(server: SocketServer) -> None:
    async with server.client() as client:
        result = await client.ask("query", session_id="react-1", id=1, data={"query": "runs", "limit": 3})
        assert (result["type"], result["data"]) == ("result", {"query": "runs", "data": {"limit": 3}})
        assert (await client.ask("status", session_id="react-1"))["data"]["query"] == "status"


async def test_a_refused_control_has_its_stable_code_and_a_bug_shows_nothing(
    server: SocketServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with server.client() as client:
        error = await client.ask("control", session_id="react-1", id="c", data={"action": "retry"})
        assert (error["type"], error["id"], error["data"]["code"]) == ("error", "c", "illegal_transition")
        error = await client.ask("control", session_id="react-1", data={"action": "step"})
        assert error["data"]["code"] == "internal_error"
        assert "secret" not in str(error)
    assert "a bug" in caplog.text


async def test_commands_are_limited_but_accepted_ones_do_not_keep_others_out(server: SocketServer) -> None:
    server.limits = replace(server.limits, commands=2, waiting=10)
    async with server.client() as client:
        for index in range(5):
            assert (await client.ask("control", session_id=f"r-{index}", data={"action": "pause"}))["type"] == "ack"
        for _ in range(2):
            await client.say("query", session_id="r", data={"query": "history"})
        error = await client.ask("control", session_id="r-1", data={"action": "stop"})
        assert error["data"]["code"] == "too_many_commands"


async def test_a_client_that_leaves_never_interrupts_a_control_that_is_half_done(server: SocketServer) -> None:
    async with server.client() as client:
        await client.say("control", session_id="r", data={"action": "resume"})
        await client.say("control", session_id="r", data={"action": "pause"})
        assert (await client.hear())["type"] == "ack"
    await asyncio.sleep(0.05)
    assert server.handler.ended == ["pause cancelled"]
    server.handler.accept.set()
    await asyncio.sleep(0.05)
    assert server.handler.ended == ["pause cancelled", "resume cancelled"]  # accepted: the rest is only waiting
    assert len(server.connections) == 0


async def test_a_silent_client_is_pinged_and_one_that_once_answered_is_missed(server: SocketServer) -> None:
    server.limits = replace(server.limits, ping_interval=0.05, idle_timeout=0.3)
    session = server.log.session()
    async with (
        server.client("listener") as listener,
        server.client("speaker") as speaker,
        server.client("idle") as idle,
    ):
        await listener.ask("subscribe", session_id=session.session_id)
        await speaker.ask("subscribe", session_id=session.session_id)
        assert (await speaker.hear(1))["type"] == "ping"
        await speaker.say("pong")
        assert await speaker.closed(2) == 4408
        assert await idle.closed(2) == 4408
        assert (await listener.hear(1))["type"] == "ping"
        server.hub.publish(server.log.append_many(session, 1))
        while (event := await listener.hear(1))["type"] == "ping":
            pass
        assert event["seq"] == 1


async def test_a_second_connection_of_the_same_client_takes_over(
    server: SocketServer, hub: Hub, log: MemoryLog
) -> None:
    session = log.session()
    async with server.client("c1") as first, server.client("c1", owner="somebody-else") as stranger:
        await first.ask("subscribe", session_id=session.session_id)
        async with server.client("c1") as second:
            assert await first.closed() == 4001
            await second.ask("subscribe", session_id=session.session_id)
            await asyncio.sleep(0.05)
            assert len(server.connections) == 2
            hub.publish(log.append_many(session, 1))
            assert (await second.hear())["seq"] == 1
            async with server.client("c1") as third:
                assert await second.closed() == 4001
                assert (await third.ask("ping"))["type"] == "pong"
        assert (await stranger.ask("ping"))["type"] == "pong"


async def test_of_many_racing_connections_of_one_client_exactly_the_last_stays(server: SocketServer) -> None:
    async def come() -> int | None:
        async with server.client("c1") as client:
            return await client.closed(10)

    tasks = [asyncio.ensure_future(come()) for _ in range(30)]
    async with asyncio.timeout(5):
        while server.served < 30 or len(server.connections) > 1:
            await asyncio.sleep(0.01)
    server.connections.close_owner("me", 4401, "The key was revoked.")
    codes = sorted(code or 0 for code in await asyncio.gather(*tasks))
    assert codes == [4001] * 29 + [4401]
    assert len(server.connections) == 0


async def test_shutdown_sends_what_there_is_and_closes_with_1001(hub: Hub, log: MemoryLog) -> None:
    session = log.session()
    async with Connections(clock=SystemClock()) as connections, SocketServer(hub, log, connections) as server:
        async with server.client() as client:
            await client.ask("subscribe", session_id=session.session_id)
            hub.publish(log.append_many(session, 500))
            await connections.__aexit__(None, None, None)
            assert [event["seq"] for event in await client.hear_until(500)] == list(range(1, 501))
            assert await client.closed() == 1001
            assert len(connections) == 0
        async with server.client() as late:
            assert await late.closed() == 1001


async def test_a_stale_cursor_is_answered_then_reset(server: SocketServer, log: MemoryLog) -> None:
    session = log.session()
    log.append_many(session, 2)
    async with server.client() as client:
        assert (await client.ask("subscribe", session_id=session.session_id, after_seq=9))["type"] == "subscribed"
        reset = await client.hear()
        assert (reset["type"], reset["data"]) == ("log_reset", {"last_seq": 2, "generation": 0})
        assert (await client.ask("unsubscribe", session_id=session.session_id))["data"]["code"] == "not_subscribed"


async def test_a_slow_log_holds_up_neither_pings_nor_other_subscriptions(
    server: SocketServer, hub: Hub, log: MemoryLog
) -> None:
    old, new = log.session(1), log.session(2)
    log.append_many(old, 100)
    async with server.client() as client:
        await client.ask("subscribe", session_id=new.session_id)
        log.gate.clear()
        await client.ask("subscribe", session_id=old.session_id, after_seq=0)
        assert (await client.ask("ping"))["type"] == "pong"
        hub.publish(log.append_many(new, 1))
        assert (await client.hear())["session_id"] == new.session_id
        log.gate.set()
        assert len(await client.hear_until(100)) == 100
        log.gate.clear()
        await client.ask("subscribe", session_id=old.session_id, after_seq=0)
        await client.ask("unsubscribe", session_id=old.session_id)
        log.gate.set()
        assert await client.silent()


async def test_a_log_that_fails_costs_the_subscription_and_not_the_connection(hub: Hub, server: SocketServer) -> None:
    session = server.log.session()
    server.log.append_many(session, 100)
    async with server.client() as client:
        server.log.gate.clear()
        await client.ask("subscribe", session_id=session.session_id, after_seq=0)
        error = await client.hear()
        assert (error["data"]["code"], error["session_id"]) == ("log_unavailable", session.session_id)
        server.log.gate.set()
        await client.ask("subscribe", session_id=session.session_id, after_seq=0)
        assert len(await client.hear_until(100)) == 100
