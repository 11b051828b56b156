"""Very many WebSocket clients of a whole server, some slow, some deaf: bounded memory, and nobody is slowed.

CHAOS_CLIENTS=1000 uv run pytest tests/chaos/test_many_clients.py -s     # 1,000 of one session, 1,000 of others
"""

import asyncio
import json
import os
import resource
import socket
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from servers.server_process import ServerProcess

CLIENTS = int(os.environ.get("CHAOS_CLIENTS", "100"))
DEAF = max(2, CLIENTS // 20)  # never read
SLOW = max(2, CLIENTS // 20)  # read seldom, a little at a time
LINES = 300
KIB = 1024
WORKFLOW = """\
schema: modular-agent/v1
name: lines
nodes: {talk: {type: function, ref: "tools.lines:talk"}}
edges: [{from: START, to: talk}, {from: talk, to: END}]
"""
TOOL = f'''\
import asyncio
import logging

LOGGER = logging.getLogger("lines")
LOGGER.setLevel(logging.INFO)


async def talk(state):
    """Logs lines of two kilobytes."""
    for number in range({LINES}):
        LOGGER.info("%d %s", number, "x" * 2000)
        await asyncio.sleep(0.005)
    return {{}}
'''
LIMITS = {"RATE_LIMIT_ENABLED": "false", "LOG_LEVEL": "ERROR", "WS_MAX_CONNECTIONS": "5000"}


@pytest.fixture(autouse=True)
def many_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * CLIENTS + 1_000
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))


def deaf_socket(port: int) -> socket.socket:
    """A connected socket that takes in little."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect(("127.0.0.1", port))
    raw.setblocking(False)
    return raw


async def subscribed(
    stack: AsyncExitStack, server: ServerProcess, name: str, session_id: str, *, deaf: bool = False, slow: bool = False
) -> ClientConnection:
    options: dict[str, Any] = {"sock": deaf_socket(server.port)} if deaf else {}
    address = f"ws://127.0.0.1:{server.port}/ws/{name}"
    queue = 1 if deaf or slow else None
    connection = await stack.enter_async_context(
        connect(address, proxy=None, compression=None, max_queue=queue, close_timeout=0.1, **options)
    )
    message = {"type": "subscribe", "session_id": session_id, "data": {"after_seq": 0}}
    await connection.send(json.dumps(message))
    return connection


async def follow(connection: ClientConnection, *, pause: float = 0.0) -> list[int]:
    """The seqs of what comes, up to the end of the run."""
    seqs: list[int] = []
    async for text in connection:
        event = json.loads(text)
        if event.get("seq") is not None and event["type"] != "subscribed":
            seqs.append(event["seq"])
        if event["data"].get("session_status") == "completed":
            break
        if pause and len(seqs) % 20 == 0:
            await asyncio.sleep(pause)
    return seqs


@pytest.mark.timeout(300)
async def test_many_clients_of_one_session_and_of_as_many(tmp_path: Path) -> None:
    files = {"tools/lines.py": TOOL}
    async with (
        ServerProcess(tmp_path, workflows={"lines": WORKFLOW}, files=files, environment=LIMITS) as server,
        AsyncExitStack() as stack,
    ):
        one = await server.create_session("lines")
        await server.start_run(await server.create_session("lines"), mode="wait")  # warm
        others = [await server.create_session("lines") for _ in range(CLIENTS)]
        sizes = [server.resident_bytes()]
        keen = [await subscribed(stack, server, f"keen{n}", one) for n in range(CLIENTS)]
        slow = [await subscribed(stack, server, f"slow{n}", one, slow=True) for n in range(SLOW)]
        for n in range(DEAF):
            await subscribed(stack, server, f"deaf{n}", one, deaf=True)
        apart = [await subscribed(stack, server, f"apart{n}", each) for n, each in enumerate(others)]
        sizes.append(server.resident_bytes())

        readers = [asyncio.create_task(follow(each)) for each in (*keen, *apart[:10])]
        laggards = [asyncio.create_task(follow(each, pause=0.1)) for each in slow]
        for session_id in (one, *others[:10]):
            await server.start_run(session_id)
        last = (await server.get(f"/sessions/{one}/runs"))["runs"][0]["run_id"]
        came = await asyncio.gather(*readers)
        sizes.append(server.resident_bytes())
        assert (await server.get(f"/sessions/{one}/runs/{last}"))["status"] == "completed"
        whole = list(range(1, len(await server.records(one)) + 1))
        assert len(whole) > LINES
        assert all(seqs == whole for seqs in came), "a client lost, doubled or moved an event"
        assert all(seqs == whole for seqs in await asyncio.gather(*laggards)), "a slow client lost an event"
        sizes.append(server.resident_bytes())
    told = [size // (KIB * KIB) for size in sizes]
    print(f"\n{CLIENTS} of one session, {CLIENTS} of others, {SLOW} slow, {DEAF} deaf: resident {told} MiB (before,")
    print("connected, when all had everything, when the slow had it)")
    assert (sizes[1] - sizes[0]) / (2 * CLIENTS + SLOW + DEAF) < 128 * KIB, "a connection costs little"
    assert max(sizes[2:]) - sizes[1] < 64 * KIB * KIB + DEAF * 600 * KIB, "what waits for the slow is bounded"
