"""How many events a second one server process hands out: `uv run python benchmarks/events.py [--quick] [--rate N]`.

100 sessions with a run each and a WebSocket subscriber each, over real sockets; the server is a process of its own, the
subscribers are this one, on the same machine. Two kinds of events, apart: token deltas (runs whose model streams words)
and records (runs whose function logs lines, each of which is committed to the disk before it is sent). The runs emit
`--rate` events a second all together (6,000). What was sent is counted by the runs, what came by the subscribers: every
record once and in order, every word of every message. Deltas that come within 20 ms of each other share a frame, so
there are fewer frames than deltas; records have a frame each.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import psutil
from websockets.asyncio.client import ClientConnection, connect

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from servers.server_process import ServerProcess

SESSIONS = 100
WORDS = """\
schema: modular-agent/v1
name: words
models: {main: {provider: scripted, script: scripts/words.yaml}}
nodes: {answer: {type: llm, model: main}}
edges: [{from: START, to: answer}, {from: answer, to: END}]
"""
LINES = """\
schema: modular-agent/v1
name: lines
nodes: {talk: {type: function, ref: "tools.lines:talk"}}
edges: [{from: START, to: talk}, {from: talk, to: END}]
"""
TOOL = '''\
import asyncio
import logging
import time

LOGGER = logging.getLogger("lines")
LOGGER.setLevel(logging.INFO)


async def talk(state):
    """Logs lines, as many a second as it is to; late ones are caught up."""
    began = time.monotonic()
    for number in range(COUNT):
        LOGGER.info("line %d of a tool that says what it does", number)
        late = began + (number + 1) * PAUSE - time.monotonic()
        if late > 0:
            await asyncio.sleep(late)
    return {}
'''
LIMITS = {
    "RATE_LIMIT_ENABLED": "false",
    "LOG_LEVEL": "WARNING",
    "WS_MAX_CONNECTIONS": "500",
    "MAX_PARALLEL_RUNS": "100",
}


class Subscriber:
    """What came over one connection: the texts of its messages, read later, when nobody waits for it."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self.came: list[str] = []
        self.at: list[float] = []  # when each came

    async def follow(self) -> None:
        """Reads up to the end of the run."""
        async for message in self._connection:
            self.at.append(time.perf_counter())
            self.came.append(str(message))
            if '"session_status":"completed"' in self.came[-1]:
                return

    def events(self) -> list[dict[str, Any]]:
        return [event for event in map(json.loads, self.came) if event["type"] != "subscribed"]

    def of_kind(self, kind: str) -> list[tuple[float, int]]:
        """When events of a kind came, and how many: a frame of deltas holds the words of its text."""
        found = ((at, json.loads(text)) for at, text in zip(self.at, self.came, strict=True))
        if kind == "log":
            return [(at, 1) for at, event in found if event["type"] == kind]
        return [(at, len(event["data"]["text"].split())) for at, event in found if event["type"] == kind]


def records_in(events: list[dict[str, Any]]) -> int:
    """How many lines of the tool came; fails unless every record came once and in order."""
    seqs = [event["seq"] for event in events if event["seq"] is not None]
    assert seqs == list(range(1, len(seqs) + 1)), "a record was lost, doubled or moved"
    return sum(event["type"] == "log" for event in events)


def words_in(events: list[dict[str, Any]]) -> int:
    """How many words came as deltas; fails unless they are the whole message, in order."""
    text = ""
    for event in events:
        if event["type"] == "message_delta":
            assert event["data"]["offset"] == len(text), "a delta was lost or doubled"
            text += event["data"]["text"]
    whole = next(e["data"]["content"] for e in events if e["data"].get("message_type") == "assistant")
    assert whole.startswith(text), "the deltas are the message"
    return len(text.split())


async def measure(server: ServerProcess, workflow: str, *, each: int, planned: float) -> None:
    """Runs the workflow in all sessions at once and says what came to their subscribers."""
    count = words_in if workflow == "words" else records_in
    async with AsyncExitStack() as stack:
        subscribers: list[Subscriber] = []
        sessions = [await server.create_session(workflow) for _ in range(SESSIONS)]
        for session_id in sessions:
            url = f"ws://127.0.0.1:{server.port}/ws/{session_id}"
            connection = await stack.enter_async_context(connect(url, max_queue=None, compression=None))
            await connection.send(json.dumps({"type": "subscribe", "session_id": session_id, "data": {"after_seq": 0}}))
            subscribers.append(Subscriber(connection))
        readers = [asyncio.create_task(each.follow()) for each in subscribers]
        process = psutil.Process(server.pid)
        cpu = sum(process.cpu_times()[:2])
        await asyncio.gather(*(server.start_run(session_id, "Go.") for session_id in sessions))
        await asyncio.wait_for(asyncio.gather(*readers), 20 * planned + 60)
        cpu = sum(process.cpu_times()[:2]) - cpu
    events = [each.events() for each in subscribers]
    came, frames = sum(map(count, events)), sum(map(len, events))
    assert came >= SESSIONS * (each - 1), f"{SESSIONS * each - came} were lost"
    kind = {"words": "message_delta", "lines": "log"}[workflow]
    times = [each.of_kind(kind) for each in subscribers]
    began, ended = min(t[0][0] for t in times), max(t[-1][0] for t in times)
    all_on, first_off = max(t[0][0] for t in times), min(t[-1][0] for t in times)
    meanwhile = sum(number for t in times for at, number in t if all_on <= at < first_off)
    print(
        f"{kind}: {came} came in {ended - began:.1f} s (planned {planned:.1f} s), {SESSIONS * each - came} not as such;"
        f" {meanwhile / (first_off - all_on):,.0f} events/s in the {first_off - all_on:.1f} s in which all"
        f" {SESSIONS} runs emitted, {came / (ended - began):,.0f} from the first to the last of all; {frames} frames;"
        f" server CPU {1e6 * cpu / came:.0f} us an event",
        flush=True,
    )


async def main(*, rate: int, seconds: float) -> None:
    each = int(rate / SESSIONS * seconds)
    pause = seconds / each
    files = {
        "scripts/words.yaml": f"otherwise: {{reply: '{'word ' * each}', token_delay: {1000 * pause:.3f}ms}}\n",
        "tools/lines.py": TOOL.replace("COUNT", str(each)).replace("PAUSE", str(pause)),
    }
    with tempfile.TemporaryDirectory() as folder:
        workflows = {"words": WORDS, "lines": LINES}
        async with ServerProcess(Path(folder), workflows=workflows, files=files, environment=LIMITS) as server:
            for workflow in workflows:
                await measure(server, workflow, each=each, planned=seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 seconds instead of 15")
    parser.add_argument("--rate", type=int, default=6_000, help="events a second that the runs emit all together")
    given = parser.parse_args()
    asyncio.run(main(rate=given.rate, seconds=3.0 if given.quick else 15.0))
