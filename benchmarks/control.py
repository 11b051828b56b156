"""How soon control and events arrive: `uv run python benchmarks/control.py [--quick]`.

The server is a process of its own; the clients are this process, on the same machine, so their own work is part of what
is measured. Measured: a stop (until the answer that says `stopped`) of one of 100 streaming runs while the others go
on; the time from a record's commit to its arrival at the last of 1,000 WebSocket subscribers of its session; and how
long after a `kill -9` the server answers, and has taken up 500 interrupted runs.
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from servers.server_process import ServerProcess

STREAM = """\
schema: modular-agent/v1
name: stream
models: {main: {provider: scripted, script: scripts/stream.yaml}}
nodes: {answer: {type: llm, model: main}}
edges: [{from: START, to: answer}, {from: answer, to: END}]
"""
STEPS = """\
schema: modular-agent/v1
name: steps
models: {main: {provider: scripted, script: scripts/short.yaml}}
nodes: {one: {type: llm, model: main}, two: {type: llm, model: main}, three: {type: llm, model: main}}
edges: [{from: START, to: one}, {from: one, to: two}, {from: two, to: three}, {from: three, to: END}]
"""
FILES = {
    "scripts/stream.yaml": f"otherwise: {{reply: '{'word ' * 6000}', token_delay: 20ms}}\n",
    "scripts/short.yaml": "otherwise: {reply: short, delay: 300ms}\n",
}
LIMITS = {
    "MAX_PARALLEL_RUNS": "600",
    "MAX_QUEUED_RUNS": "1000",
    "RATE_LIMIT_ENABLED": "false",
    "LOG_LEVEL": "WARNING",
    "WS_MAX_CONNECTIONS": "2000",
}


def told(name: str, values: list[float], *, target: float | None = None) -> None:
    """Prints milliseconds."""
    values = sorted(1000 * value for value in values)
    median, p95 = statistics.median(values), values[int(0.95 * (len(values) - 1))]
    aim = "" if target is None else f"  (target: median {target:g} ms)"
    print(
        f"{name}: median {median:.1f} ms, p95 {p95:.1f} ms, most {values[-1]:.1f} ms of {len(values)}{aim}", flush=True
    )


async def begin(server: ServerProcess, workflow: str, count: int) -> list[str]:
    """Sessions whose run has started."""
    ids: list[str] = []

    async def one() -> None:
        session_id = await server.create_session(workflow)
        await server.start_run(session_id, "Go.")
        ids.append(session_id)

    for start in range(0, count, 20):
        await asyncio.gather(*(one() for _ in range(min(20, count - start))))
    return ids


async def stops(server: ServerProcess, times: int) -> None:
    """Stops one run after the other; a new one takes its place each time, so that 100 are active."""
    ids = await begin(server, "stream", 100)
    took: list[float] = []
    for _ in range(times):
        session_id = ids.pop(0)
        began = time.perf_counter()
        answer = await server.client.post(f"/sessions/{session_id}/stop", params={"wait": True})
        took.append(time.perf_counter() - began)
        assert answer.json()["status"] == "stopped", answer.text
        ids += await begin(server, "stream", 1)
    told("stop of a streaming run, 100 active", took, target=50)
    for session_id in ids:
        await server.client.post(f"/sessions/{session_id}/stop", params={"wait": True})


async def arrivals(connection: ClientConnection) -> list[tuple[float, str]]:
    """Every message with when it came, up to the end of the run; read later, when nobody waits for it."""
    came: list[tuple[float, str]] = []
    async for message in connection:
        text = str(message)
        came.append((time.time(), text))
        if '"session_status":"completed"' in text:
            break
    return came


def ages(came: list[tuple[float, str]], seen: dict[int, float]) -> None:
    """How old each record was when its event came; of several clients the last one's time stays."""
    for now, text in came:
        message: dict[str, Any] = json.loads(text)
        if message.get("seq") is not None and message["type"] != "subscribed":
            sent = datetime.fromisoformat(message["timestamp"]).timestamp()
            seen[message["seq"]] = max(seen.get(message["seq"], 0.0), now - sent)


async def fan_out(server: ServerProcess, clients: int, runs: int) -> None:
    """One session with many subscribers: how old a record is when the last of them has it."""
    session_id = await server.create_session("steps")
    took: list[float] = []
    async with AsyncExitStack() as stack:
        connections: list[ClientConnection] = []
        for number in range(clients):
            url = f"ws://127.0.0.1:{server.port}/ws/c{number}"
            connection = await stack.enter_async_context(connect(url, max_queue=None, compression=None))
            await connection.send(json.dumps({"type": "subscribe", "session_id": session_id}))
            connections.append(connection)
        await asyncio.sleep(2)
        for _ in range(runs):
            seen: dict[int, float] = {}
            readers = [asyncio.create_task(arrivals(each)) for each in connections]
            await server.start_run(session_id, "Go.")
            for came in await asyncio.wait_for(asyncio.gather(*readers), 60):
                ages(came, seen)
            took += seen.values()
    told(f"an event to the last of {clients} WebSocket subscribers", took, target=100)


async def recovery(server: ServerProcess, count: int) -> None:
    """Kills the server with that many runs under way, and starts it again."""
    await begin(server, "stream", count)
    before = server.query("SELECT SUM(epoch) FROM runs WHERE status = 'running'")[0][0]
    await server.kill()
    began = time.perf_counter()
    await server.spawn()
    first: float | None = None
    while True:
        (running, epochs) = server.query("SELECT COUNT(*), SUM(epoch) FROM runs WHERE status = 'running'")[0]
        if first is None and epochs > before:
            first = time.perf_counter() - began
        if epochs - before >= running:
            break
        await asyncio.sleep(0.01)
    took = time.perf_counter() - began
    print(
        f"recovery of {running} runs: the first after {first:.2f} s, all after {took:.2f} s (target: begins within 2 s)"
    )


async def main(quick: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        workflows = {"stream": STREAM, "steps": STEPS}
        async with ServerProcess(Path(folder), workflows=workflows, files=FILES, environment=LIMITS) as server:
            await stops(server, 20 if quick else 100)
            await fan_out(server, 100 if quick else 1000, 2 if quick else 5)
            await recovery(server, 100 if quick else 500)


if __name__ == "__main__":
    asyncio.run(main("--quick" in sys.argv))
