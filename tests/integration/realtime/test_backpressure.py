"""Clients that do not read, and many that do, over real sockets with real TCP backpressure."""

import asyncio
import socket
import time
from dataclasses import replace

import pytest

from integration.realtime.socket_server import Client, SocketServer
from modular_agent.realtime.hub import Hub
from modular_agent.realtime.websocket import ConnectionLimits
from unit.realtime.memory_log import MemoryLog

FILLER = "x" * 2_000


def small_socket(port: int) -> socket.socket:
    """A connected socket that takes in little before its peer must wait."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect(("127.0.0.1", port))
    raw.setblocking(False)
    return raw


@pytest.fixture
def stalling(server: SocketServer) -> SocketServer:
    server.send_buffer = 4096
    server.limits = replace(server.limits, send_timeout=0.5, close_timeout=0.2)
    return server


async def test_a_client_that_stops_reading_is_closed_and_holds_up_nobody(
    stalling: SocketServer, hub: Hub, log: MemoryLog
) -> None:
    session = log.session()
    raw = small_socket(stalling.port)
    async with (
        stalling.client("deaf", sock=raw, max_queue=1) as deaf,
        stalling.client("keen") as keen,
    ):
        for client in (deaf, keen):
            await client.ask("subscribe", session_id=session.session_id)
        began, slowest = time.monotonic(), 0.0
        for index in range(1, 301):
            at = time.thread_time()
            hub.publish([log.append(session, filler=FILLER)])
            slowest = max(slowest, time.thread_time() - at)
            assert (await keen.hear())["seq"] == index
        assert slowest < 0.05
        async with asyncio.timeout(10):
            while len(stalling.connections) > 1:
                await asyncio.sleep(0.02)
        assert 0.3 < time.monotonic() - began < 10
        assert hub._topics[session.n].subscribers == 1
        assert (await keen.ask("ping"))["type"] == "pong"


async def test_a_slow_client_is_caught_up_from_the_log_and_loses_nothing(
    stalling: SocketServer, hub: Hub, log: MemoryLog
) -> None:
    stalling.limits = replace(stalling.limits, send_timeout=10)
    session = log.session()
    async with stalling.client("slow", sock=small_socket(stalling.port), max_queue=1) as slow:
        await slow.ask("subscribe", session_id=session.session_id)
        for _ in range(60):
            hub.publish([log.append(session, filler=FILLER) for _ in range(10)])
            await asyncio.sleep(0)
        assert log.reads == 0
        assert [event["seq"] for event in await slow.hear_until(600)] == list(range(1, 601))
        assert log.reads > 0


async def test_what_is_waiting_for_a_deaf_client_does_not_grow(
    stalling: SocketServer, hub: Hub, log: MemoryLog
) -> None:
    stalling.limits = replace(stalling.limits, send_timeout=10, outbox_bytes=10_000)
    session = log.session()
    async with stalling.client("deaf", sock=small_socket(stalling.port), max_queue=1) as deaf:
        await deaf.ask("subscribe", session_id=session.session_id)
        hub.publish([log.append(session, filler=FILLER) for _ in range(300)])

        async def babble() -> None:
            for _ in range(20_000):
                await deaf.say("ping", data={"filler": "y" * 500})

        talker = asyncio.ensure_future(babble())
        await asyncio.sleep(0.5)
        [connection] = stalling.connections._all
        assert connection._outbox._bytes < 11_000
        assert not talker.done()  # the server has stopped reading, so that the client cannot send any more
        talker.cancel()
        await asyncio.gather(talker, return_exceptions=True)
        deaf.connection.transport.abort()


async def test_two_hundred_clients_of_one_session_all_get_everything_in_order(
    server: SocketServer, hub: Hub, log: MemoryLog
) -> None:
    session = log.session()
    hub.publish(log.append_many(session, 10))
    server.limits = ConnectionLimits()

    async def follow(index: int) -> list[int]:
        async with server.client(f"c{index}") as client:
            await client.ask("subscribe", session_id=session.session_id, after_seq=index % 11)
            return [event["seq"] for event in await client.hear_until(110)]

    clients = [asyncio.ensure_future(follow(index)) for index in range(200)]
    for _ in range(100):
        hub.publish(log.append_many(session, 1))
        await asyncio.sleep(0.005)
    for index, seqs in enumerate(await asyncio.gather(*clients)):
        assert seqs == list(range(index % 11 + 1, 111))


async def test_a_client_that_reconnects_with_its_cursor_misses_nothing(
    server: SocketServer, hub: Hub, log: MemoryLog
) -> None:
    session = log.session()
    got: list[int] = []

    async def visit(client: Client, count: int) -> None:
        await client.ask("subscribe", session_id=session.session_id, after_seq=got[-1] if got else 0)
        for _ in range(count):
            got.append((await client.hear())["seq"])

    async def write() -> None:
        for _ in range(300):
            hub.publish(log.append_many(session, 1))
            await asyncio.sleep(0.001)

    writer = asyncio.ensure_future(write())
    for index in range(30):
        async with server.client("roamer") as client:
            await visit(client, 10)
            if index % 3 == 0:
                client.connection.transport.abort()
    await writer
    assert got == list(range(1, 301))
