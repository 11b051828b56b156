"""The whole product on a real socket, in the test's event loop: `async with LiveServer(path) as server`.

`server.configure({...})` writes files below the configs root; `server.client` is an HTTP client; `server.runtime` are
the parts behind it, for what a client cannot see.
"""

import asyncio
import socket
import textwrap
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import httpx
import orjson
import uvicorn
import yaml
from websockets.asyncio.client import ClientConnection, connect

from modular_agent.runtime import Runtime
from modular_agent.server import create_app, web_server
from modular_agent.settings import load_settings

QUICK: Final = {"LOG_FILE": "none", "SHUTDOWN_GRACE_SECONDS": "0.2"}  # unless a test says otherwise
__all__ = ["Event", "Events", "LiveServer", "Socket", "calls", "script"]


def script(**parts: Any) -> str:
    """A script of the offline model: `turns`, `otherwise`, `defaults`."""
    return yaml.safe_dump(parts, allow_unicode=True)


def calls(*named: tuple[str, Mapping[str, Any] | str]) -> dict[str, Any]:
    """A scripted answer that asks for tools by name, with their arguments."""
    return {"tool_calls": [{"name": name, "arguments": arguments} for name, arguments in named]}


@dataclass(frozen=True)
class Event:
    """One server-sent event; `data` is parsed."""

    id: str | None
    type: str
    data: Any


class Events:
    """Reads a stream of server-sent events."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.comments: list[str] = []
        self._lines = response.aiter_lines()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self._read()

    async def _read(self) -> AsyncIterator[Event]:
        fields: dict[str, str] = {}
        async for line in self._lines:
            if line.startswith(":"):
                self.comments.append(line)
            elif line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "data" in fields:
                yield Event(fields.get("id"), fields["event"], orjson.loads(fields["data"]))
                fields = {}
            else:
                fields = {}

    async def take(self, count: int, *, timeout: float = 10.0) -> list[Event]:
        """The next `count` events."""
        found: list[Event] = []
        async with asyncio.timeout(timeout):
            async for event in self:
                found.append(event)
                if len(found) == count:
                    return found
        return found

    async def until(self, kind: str, *, timeout: float = 10.0, **data: Any) -> list[Event]:
        """The events up to the first of a type whose record has these fields."""
        found: list[Event] = []
        async with asyncio.timeout(timeout):
            async for event in self:
                found.append(event)
                inner = event.data["data"]
                if event.type == kind and all(inner.get(key) == value for key, value in data.items()):
                    return found
        raise AssertionError(f"the stream ended without {kind} {data}: {[each.type for each in found]}")


class Socket:
    """A WebSocket client that speaks JSON."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.seen: list[dict[str, Any]] = []

    async def send(self, kind: str, **fields: Any) -> None:
        await self.connection.send(orjson.dumps({"type": kind, **fields}).decode())

    async def receive(self, *, timeout: float = 10.0) -> dict[str, Any]:
        async with asyncio.timeout(timeout):
            message: dict[str, Any] = orjson.loads(await self.connection.recv())
        self.seen.append(message)
        return message

    async def until(self, *types: str, timeout: float = 10.0, **fields: Any) -> dict[str, Any]:
        """The next message of one of the types that has these fields."""
        async with asyncio.timeout(timeout):
            while True:
                message = await self.receive(timeout=timeout)
                if message["type"] in types and all(message.get(key) == value for key, value in fields.items()):
                    return message

    async def ask(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Sends a message and waits for what answers it."""
        await self.send(kind, id="ask", **fields)
        async with asyncio.timeout(10):
            while (message := await self.receive()).get("id") != "ask":
                pass
        return message


class LiveServer:
    """The server; `variables` are settings by the names of their variables."""

    def __init__(self, path: Path, *, configs: Path | None = None, **variables: str) -> None:
        self.path = path
        self.configs = configs or path / "configs"
        self.configs.mkdir(exist_ok=True)
        self.settings = load_settings(
            {
                "DATA_PATH": str(path / "data"),
                "CONFIG_PATH": str(self.configs),
                "LOG_FILE": "none",
                "SHUTDOWN_GRACE_SECONDS": "0.2",
                **variables,
            },
            env_file=None,
        )
        self.app = create_app(self.settings)
        self._stack = AsyncExitStack()

    @property
    def runtime(self) -> Runtime:
        return self.app.state.runtime

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        config = web_server(self.app, self.settings)
        config.timeout_graceful_shutdown = 3
        self._server = uvicorn.Server(config)
        listening = self._listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        self.port: int = listening.getsockname()[1]
        self._task = asyncio.create_task(self._server._serve([listening]))  # `serve` takes the test runner's signals
        while not self._server.started:
            assert not self._task.done(), self._task.result()
            await asyncio.sleep(0.005)
        self.client = await self._stack.enter_async_context(httpx.AsyncClient(base_url=self.url, timeout=20))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
        self._server.should_exit = True
        await self._task
        self._listening.close()

    # -- what is there -----------------------------------------------------------------------------------------

    def configure(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            file = self.configs / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(textwrap.dedent(text), encoding="utf-8")

    def workflow(self, text: str, *, name: str = "test", **turns: Any) -> str:
        """Writes a workflow (its file without the first two lines) and its script; answers its path."""
        head = f"schema: modular-agent/v1\nname: {name}\n"
        self.configure({f"workflows/{name}.yaml": head + textwrap.dedent(text)})
        if turns:
            self.configure({f"scripts/{name}.yaml": script(**turns)})
        return f"workflows/{name}.yaml"

    async def session(self, path: str = "workflows/test.yaml", **body: Any) -> str:
        """Makes a session; answers its id."""
        answer = await self.client.post("/sessions/", json={"workflow_config_path": path, **body})
        assert answer.status_code == 201, answer.text
        return answer.json()["session_id"]

    # -- calls that must succeed -------------------------------------------------------------------------------

    async def get(self, path: str, **params: Any) -> Any:
        answer = await self.client.get(path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def post(self, path: str, body: Any = None, *, status: int | tuple[int, ...] = (200, 201, 202)) -> Any:
        answer = await self.client.post(path, json=body) if body is not None else await self.client.post(path)
        assert answer.status_code in ((status,) if isinstance(status, int) else status), answer.text
        return answer.json()

    async def run(self, session_id: str, message: Any = None, **body: Any) -> dict[str, Any]:
        """Runs the session until its run has ended or paused (or as `mode` says); answers the run."""
        body.setdefault("mode", "wait")
        if message is not None:
            body["message"] = message
        return await self.post(f"/sessions/{session_id}/runs", body)

    async def records(self, session_id: str, *types: str) -> list[dict[str, Any]]:
        """The session's records, oldest first; `seq` must be 1, 2, 3, ..."""
        session = await self.runtime.sessions.get(session_id)
        found = await self.runtime.database.records.after(session.ref, seq=0, limit=100_000)
        records: list[dict[str, Any]] = [orjson.loads(record.line) for record in found]
        assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
        return [record for record in records if not types or record["record_type"] in types]

    async def status(self, session_id: str, *wanted: str, timeout: float = 10.0) -> dict[str, Any]:
        """Waits until the session's newest run has one of the statuses; answers the run."""
        async with asyncio.timeout(timeout):
            while True:
                runs = (await self.get(f"/sessions/{session_id}/runs"))["runs"]
                if runs and runs[0]["status"] in wanted:
                    return runs[0]
                await asyncio.sleep(0.01)

    @asynccontextmanager
    async def events(
        self, path: str, *, method: str = "GET", body: Any = None, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Events]:
        """A stream of server-sent events, on a connection of its own."""
        async with (
            httpx.AsyncClient(base_url=self.url, timeout=30) as client,
            client.stream(method, path, json=body, headers=headers) as response,
        ):
            if response.status_code != 200:
                await response.aread()
                raise AssertionError(f"{response.status_code}: {response.text}")
            yield Events(response)

    @asynccontextmanager
    async def socket(self, client_id: str = "c1", **options: Any) -> AsyncIterator[Socket]:
        async with connect(f"ws://127.0.0.1:{self.port}/ws/{client_id}", **options) as connection:
            yield Socket(connection)
