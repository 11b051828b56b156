"""Asks a server on a large store one question after the other, and says how long each answer took.

The server runs on one core, the client on another, and a bare FastAPI endpoint (`GET`, an object of 1 kB) on the
server's: it is asked in turn with every question, so that a table says how fast the machine was at that moment. Where
Linux says it, the CPU time that the threads of both took for each answer is measured too: other work on the machine
makes answers late by far more than it makes them dear.
"""

import asyncio
import contextlib
import os
import sqlite3
import statistics
import sys
import time
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from servers.server_process import ServerProcess, free_port

__all__ = ["Asked", "Question", "ask_all", "known", "running"]

WARM_UP: Final = 5  # of each question, not counted
BARE: Final = """
import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse
app = FastAPI()
@app.get("/")
async def answer() -> JSONResponse:
    return JSONResponse({f"field_{n}": "some text of a field" for n in range(25)})
uvicorn.run(app, port=%d, log_level="error")
"""

Query = tuple[str, dict[str, Any]]


class Question(NamedTuple):
    """What is asked, other parameters each time; `target` is what its 95th percentile is to stay below, in ms."""

    target: int | None
    ask: Callable[[], Query]


class Asked(NamedTuple):
    """Milliseconds (median, 95th percentile): the answers and the CPU time they took, and the same of the bare
    endpoint."""

    wall: tuple[float, float]
    cpu: tuple[float, float]
    bare: tuple[float, float]
    bare_cpu: tuple[float, float]


class Clients(NamedTuple):
    server: aiohttp.ClientSession
    bare: aiohttp.ClientSession
    pid: int  # the server's
    bare_pid: int


@contextlib.contextmanager
def on_core(number: int) -> Generator[None]:
    """What is started meanwhile stays on that core, where the system can do that and has another one."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    mine = os.sched_getaffinity(0)
    if len(mine) < 2:
        yield
        return
    os.sched_setaffinity(0, {sorted(mine)[number]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, mine)


@contextlib.asynccontextmanager
async def running(data_path: Path) -> AsyncGenerator[Clients]:
    """A server on the store, and the bare endpoint. Waits until the search index is complete."""
    (data_path / "configs").mkdir(exist_ok=True)
    environment = {"DATA_PATH": str(data_path), "RATE_LIMIT_PER_MINUTE": "1000000", "LOG_LEVEL": "WARNING"}
    environment |= {name: os.environ[name] for name in ("CACHE_ENABLED", "CACHE_TTL") if name in os.environ}
    port = free_port()
    async with contextlib.AsyncExitStack() as stack:
        with on_core(0):
            server = ServerProcess(data_path, configs=data_path / "configs", environment=environment)
            await server.spawn()
            bare = await asyncio.create_subprocess_exec(sys.executable, "-c", BARE % port)
        stack.push_async_callback(bare.wait)
        stack.callback(bare.kill)
        stack.push_async_exit(server)
        clients = Clients(
            await stack.enter_async_context(aiohttp.ClientSession(f"http://127.0.0.1:{server.port}")),
            await stack.enter_async_context(aiohttp.ClientSession(f"http://127.0.0.1:{port}")),
            server.pid,
            bare.pid,
        )
        await answers(clients.bare, "/")
        await answers(clients.server, "/health")
        print(f"server {server.pid} on {data_path}", flush=True)
        while await behind(clients.server):
            await asyncio.sleep(0.5)
        with on_core(1):
            yield clients


async def answers(client: aiohttp.ClientSession, path: str, *, within: float = 60.0) -> None:
    """Returns when somebody answers."""
    async with asyncio.timeout(within):
        while True:
            with contextlib.suppress(aiohttp.ClientConnectionError):
                async with client.get(path):
                    return
            await asyncio.sleep(0.05)


async def behind(client: aiohttp.ClientSession) -> int:
    """How many records the search index has to take in yet."""
    async with client.get("/ready") as answer:
        return (await answer.json())["checks"]["search_index"]["behind"]


def cpu_ms(pid: int) -> float:
    """The CPU time of a process so far, all its threads that live."""
    taken = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # a thread that has just ended
            taken += int(path.read_text().split()[0])
    return taken / 1e6


async def timed(clients: Clients, ask: Callable[[], Query], times: int) -> Asked:
    took: list[float] = []
    cpu: list[float] = []
    bare: list[float] = []
    bare_cpu: list[float] = []
    for number in range(times + WARM_UP):
        before = cpu_ms(clients.bare_pid)
        began = time.perf_counter()
        async with clients.bare.get("/") as answer:
            await answer.read()
        plain = time.perf_counter() - began
        plain_cpu = cpu_ms(clients.bare_pid) - before
        path, params = ask()
        before = cpu_ms(clients.pid)
        began = time.perf_counter()
        async with clients.server.get(path, params=params) as answer:
            body = await answer.read()
        seconds = time.perf_counter() - began
        if answer.status != 200:
            raise SystemExit(f"{path}: {answer.status} {body[:500]!r}")
        if number >= WARM_UP:
            took.append(seconds * 1000)
            bare.append(plain * 1000)
            cpu.append(cpu_ms(clients.pid) - before)
            bare_cpu.append(plain_cpu)
    return Asked(
        *((statistics.median(each), statistics.quantiles(each, n=20)[-1]) for each in (took, cpu, bare, bare_cpu))
    )


async def ask_all(clients: Clients, questions: Mapping[str, Question], *, times: int, only: Sequence[str] = ()) -> int:
    """Prints a line for each question, those whose name holds one of `only`; how many missed their target."""
    print(f"{'ms, median and p95':40} {'answer':>15} {'its CPU':>15} {'bare endpoint':>15} {'its CPU':>15}  target")
    missed = 0
    for name, (target, ask) in questions.items():
        if only and not any(part in name for part in only):
            continue
        asked = await timed(clients, ask, times)
        late = target is not None and asked.wall[1] > target
        missed += late
        figures = " ".join(f"{median:7.2f} {p95:7.2f}" for median, p95 in asked)
        aim = "" if target is None else f"{target:3} {'MISSED' if late else 'ok'}"
        print(f"{name:40} {figures}  {aim}", flush=True)
    return missed


def known(database: Path) -> tuple[list[str], str]:
    """The ids of all sessions, and of the one with most messages."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        ids = [row[0] for row in connection.execute("SELECT session_id FROM sessions")]
        (longest,) = connection.execute("SELECT session_id FROM sessions ORDER BY messages DESC LIMIT 1").fetchone()
    return ids, longest
