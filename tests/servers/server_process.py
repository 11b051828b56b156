"""The server as a process of its own, on real sockets: started, killed, stopped and started again on the same data.

    async with ServerProcess(tmp_path, workflows={"hello": YAML}, environment={"OPENAI_BASE_URL": ...}) as server:
        session = await server.create_session("hello")
        run = await server.start_run(session, "Hello!", mode="wait")
        await server.kill()                      # SIGKILL
        await server.start()                     # the same port and data
        async for event in server.events(session, after_seq=0): ...

It waits for what it can see (an answer of `/health`, the end of the process), never for a guessed time.
"""

import asyncio
import json
import os
import signal
import socket
import sqlite3
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import psutil
from websockets.asyncio.client import ClientConnection, connect

__all__ = ["SERVE", "ServerProcess", "SseEvent", "StartFailed", "eventually", "free_port", "read_sse"]

SERVE = (sys.executable, "-m", "modular_agent", "serve")
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH")


class StartFailed(AssertionError):
    """The process ended, or did not answer in time; the message has what it said."""


@dataclass(frozen=True)
class SseEvent:
    """One server-sent event. `id` is "" where the frame has none; `data` is parsed JSON."""

    id: str
    event: str
    data: Any


def free_port() -> int:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


async def eventually(
    what: str, probe: Callable[[], Awaitable[Any]], *, within: float = 30.0, every: float = 0.02
) -> Any:
    """The first true value of `probe`; fails after `within` seconds and says what it waited for."""
    deadline = time.monotonic() + within
    while True:
        value = await probe()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: {what} (last: {value!r})")
        await asyncio.sleep(every)


async def read_sse(chunks: AsyncIterator[bytes]) -> AsyncGenerator[SseEvent]:
    """The events in a body, whole frames only: of a body that is cut, the piece of a frame is dropped."""
    rest = b""
    async for chunk in chunks:
        *blocks, rest = (rest + chunk).split(b"\n\n")
        for block in blocks:
            fields: dict[str, str] = {}
            for line in block.decode().split("\n"):
                name, _, value = line.partition(":")
                if name:
                    fields[name] = value.removeprefix(" ")
            if "data" in fields:
                yield SseEvent(fields.get("id", ""), fields.get("event", "message"), json.loads(fields["data"]))


class ServerProcess:
    """A server below `root`: `root/data`, `root/configs`, and `root/server.log` with what it wrote to standard error.

    `workflows` (name to YAML) and `files` (path below the configs root to text) are written before the first start;
    with `configs` an existing configs root is used. An async context manager: enters started, leaves it dead.
    """

    def __init__(
        self,
        root: Path,
        *,
        workflows: Mapping[str, str] | None = None,
        files: Mapping[str, str] | None = None,
        configs: Path | None = None,
        environment: Mapping[str, str] | None = None,
        port: int | None = None,
    ) -> None:
        self.root = root
        self.data = root / "data"
        self.configs = configs or root / "configs"
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = dict(environment or {})
        self.prefix: tuple[str, ...] = ()  # what the command is started by
        self.starts = 0
        self.healthy_after = 0.0  # seconds from the last start to the first answer
        self._process: asyncio.subprocess.Process | None = None
        self._client: httpx.AsyncClient | None = None
        for name, text in (workflows or {}).items():
            self._write(f"workflows/{name}.yaml", text)
        for name, text in (files or {}).items():
            self._write(name, text)

    def _write(self, name: str, text: str) -> None:
        path = self.configs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.kill()
        if self._client is not None:
            await self._client.aclose()

    # -- the process -------------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def log_file(self) -> Path:
        return self.root / "server.log"

    def log_text(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace") if self.log_file.exists() else ""

    def log_events(self) -> list[dict[str, Any]]:
        """What the process logged (JSON lines), of all starts."""
        return [json.loads(line) for line in self.log_text().splitlines() if line.startswith("{")]

    async def spawn(self) -> None:
        """Starts the process without waiting for it."""
        assert not self.running
        self.root.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.prefix,
                *SERVE,
                env=self._environment(),
                cwd=self.root,
                stdout=log,
                stderr=log,
            )
        self.starts += 1

    def _environment(self) -> dict[str, str]:
        return {
            **{name: os.environ[name] for name in PASSED_ON if name in os.environ},
            "DATA_PATH": str(self.data),
            "CONFIG_PATH": str(self.configs),
            "PORT": str(self.port),
            "LOG_FILE": "none",
            "LOG_FORMAT": "json",
            **self.environment,
        }

    async def start(self, *, within: float = 30.0) -> None:
        """Starts the process and returns when it answers `/health`. Raises `StartFailed`."""
        began = time.monotonic()
        await self.spawn()
        deadline = began + within
        while True:
            if not self.running:
                raise StartFailed(f"the server ended with {self._returncode()}:\n{self.log_text()[-4000:]}")
            try:
                if (await self.client.get("/health", timeout=2.0)).status_code == 200:
                    self.healthy_after = time.monotonic() - began
                    return
            except httpx.TransportError:
                pass
            if time.monotonic() > deadline:
                raise StartFailed(f"no answer within {within} s:\n{self.log_text()[-4000:]}")
            await asyncio.sleep(0.02)

    def _returncode(self) -> int | None:
        return self._process.returncode if self._process is not None else None

    async def wait_until_ended(self, *, within: float = 30.0) -> int:
        """The exit code. Raises `TimeoutError`."""
        assert self._process is not None
        async with asyncio.timeout(within):
            return await self._process.wait()

    async def kill(self) -> None:
        """SIGKILL, as a crash or the operating system would; returns when the process is gone."""
        if self.running:
            assert self._process is not None
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait()

    async def terminate(self, *, within: float = 60.0) -> float:
        """SIGTERM; the seconds that it took to end."""
        assert self._process is not None
        began = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        await self.wait_until_ended(within=within)
        return time.monotonic() - began

    async def restart(self) -> None:
        """Kills it, if it runs, and starts it again on the same data."""
        await self.kill()
        await self.start()

    def resident_bytes(self) -> int:
        return int(psutil.Process(self.pid).memory_info().rss)

    def children(self) -> list[psutil.Process]:
        """Its worker processes."""
        return psutil.Process(self.pid).children(recursive=True)

    # -- HTTP --------------------------------------------------------------------------------------------------

    @property
    def client(self) -> httpx.AsyncClient:
        """A client whose base is this server; connections are kept alive and unlimited."""
        if self._client is None:
            # Let go before the server does (after 5 s): a request on a connection that it is closing would be lost.
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=2.0)
            self._client = httpx.AsyncClient(base_url=self.url, timeout=30.0, limits=limits, trust_env=False)
        return self._client

    async def get(self, path: str, **params: Any) -> Any:
        """The JSON of a GET; fails for every other status than 200."""
        answer = await self.client.get(path, params=params)
        assert answer.status_code == 200, f"GET {path}: {answer.status_code} {answer.text[:2000]}"
        return answer.json()

    async def post(self, path: str, body: Any = None, *, status: int | None = None, **params: Any) -> Any:
        """The JSON of a POST; fails for every other status than `status`, or for one that says no success."""
        answer = await self.client.post(path, json=body, params=params)
        assert answer.is_success if status is None else answer.status_code == status, (
            f"POST {path}: {answer.status_code} {answer.text[:2000]}"
        )
        return answer.json()

    async def create_session(self, workflow: str, **fields: Any) -> str:
        """A session of `configs/workflows/{workflow}.yaml`; its id."""
        body = {"workflow_config_path": f"workflows/{workflow}.yaml", **fields}
        return (await self.post("/sessions/", body, status=201))["session_id"]

    async def start_run(self, session_id: str, message: Any = None, **fields: Any) -> dict[str, Any]:
        """A run (mode background unless `mode` says otherwise), as the API answers it."""
        body = {**({} if message is None else {"message": message}), **fields}
        status = 200 if fields.get("mode") == "wait" else 202
        return await self.post(f"/sessions/{session_id}/runs", body, status=status)

    async def session(self, session_id: str) -> dict[str, Any]:
        return await self.get(f"/sessions/{session_id}")

    async def records(self, session_id: str, *, page: int = 500) -> list[dict[str, Any]]:
        """The whole log, read in pages as a client would."""
        found: list[dict[str, Any]] = []
        while True:
            after = found[-1]["seq"] if found else 0
            part = await self.get(f"/history/sessions/{session_id}/records", limit=page, after_seq=after)
            found += part["records"]
            if len(part["records"]) < page:
                return found

    # -- streams -----------------------------------------------------------------------------------------------

    async def events(
        self, session_id: str, *, last_event_id: str | None = None, **params: Any
    ) -> AsyncGenerator[SseEvent]:
        """The session's events (SSE) until the server ends the stream; closing the generator cuts the connection.

        Raises `httpx.TransportError` when the connection breaks, `httpx.HTTPStatusError` for no stream.
        Use it within `contextlib.aclosing`.
        """
        headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
        path = f"/sessions/{session_id}/events"
        async with self.client.stream("GET", path, params=params, headers=headers, timeout=60.0) as answer:
            if answer.status_code != 200:
                await answer.aread()
                answer.raise_for_status()
            async for event in read_sse(answer.aiter_bytes()):
                yield event

    @asynccontextmanager
    async def websocket(self, client_id: str) -> AsyncGenerator[ClientConnection]:
        """A WebSocket; send and receive JSON text. Leaving closes it."""
        address = f"ws://127.0.0.1:{self.port}/ws/{client_id}"
        async with connect(address, proxy=None, max_size=None, open_timeout=10, close_timeout=2) as connection:
            yield connection

    # -- what is on the disk -----------------------------------------------------------------------------------

    def query(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Rows of the server's SQLite database, read beside it."""
        with closing(sqlite3.connect(f"file:{self.data}/modular_agent.db?mode=ro", uri=True)) as connection:
            return connection.execute(sql, parameters).fetchall()

    def log_bytes(self, session_id: str) -> bytes:
        """The session's JSON Lines files, one after the other."""
        paths = sorted(self.data.glob(f"history/*/{session_id}.jsonl"))
        return b"".join(path.read_bytes() for path in paths)
