"""A WebSocket server on a real socket around `Connection`, and the clients that drive it."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from modular_agent.errors import AgentError, IllegalTransition, Kind
from modular_agent.events import SessionRef
from modular_agent.kit.clock import SystemClock
from modular_agent.realtime.connections import Connections
from modular_agent.realtime.errors import Disconnected
from modular_agent.realtime.hub import Hub
from modular_agent.realtime.ports import Control, Query
from modular_agent.realtime.websocket import Connection, ConnectionLimits
from unit.realtime.memory_log import MemoryLog, NoSuchSession


class Socket:
    """`Transport` over a connection of the websockets package."""

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection

    async def receive(self) -> str | bytes:
        try:
            return await self._connection.recv()
        except ConnectionClosed:
            raise Disconnected from None

    async def send(self, payloads: Sequence[bytes]) -> None:
        try:
            for payload in payloads:
                await self._connection.send(payload, text=True)
        except ConnectionClosed:
            raise Disconnected from None

    async def close(self, code: int, reason: str) -> None:
        await self._connection.close(code, reason)


class Forbidden(AgentError):
    code = "forbidden"
    kind = Kind.FORBIDDEN
    english = "Not yours."
    chinese = "无权访问。"


@dataclass
class Handler:
    """Carries out commands as slowly as a test wants."""

    go: asyncio.Event = field(default_factory=asyncio.Event)
    accept: asyncio.Event = field(default_factory=asyncio.Event)
    begun: list[str] = field(default_factory=list[str])
    ended: list[str] = field(default_factory=list[str])

    async def control(self, command: Control, *, accepted: Callable[[Mapping[str, Any]], None]) -> Mapping[str, Any]:
        self.begun.append(command.action)
        try:
            if command.action == "retry":
                raise IllegalTransition(noun="run", status="completed", target="queued")
            if command.action == "step":
                raise RuntimeError("a bug, with a secret in it")
            if command.action == "resume":
                await self.accept.wait()
            accepted({"session_id": "react-new"} if command.action == "start" else {})
            if command.action != "start":
                await self.go.wait()
            self.ended.append(command.action)
            return {"status": "done", "echo": dict(command.data)}
        except asyncio.CancelledError:
            self.ended.append(f"{command.action} cancelled")
            raise

    async def query(self, query: Query) -> Mapping[str, Any]:
        if query.query == "history":
            await self.go.wait()
        return {"query": query.query, "data": dict(query.data)}


class SocketServer:
    def __init__(self, hub: Hub, log: MemoryLog, connections: Connections) -> None:
        self.hub = hub
        self.log = log
        self.connections = connections
        self.handler = Handler()
        self.limits = ConnectionLimits(rate=10_000, burst=10_000)
        self.forbidden: set[str] = set()
        self.send_buffer: int | None = None
        self.served = 0
        self._server: Server | None = None

    async def authorize(self, session_id: str) -> SessionRef:
        if session_id in self.forbidden:
            raise Forbidden
        for n in self.log.records:
            if session_id.endswith(f"-{n:06x}"):
                return self.log.session(n)
        raise NoSuchSession(session_id=session_id)

    async def tenant(self) -> str:
        return "acme"

    async def _serve(self, connection: ServerConnection) -> None:
        if self.send_buffer is not None:
            raw: socket.socket = connection.transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.send_buffer)
        assert connection.request is not None
        _, _, client_id, owner = connection.request.path.split("/")
        self.served += 1
        served = Connection(
            Socket(connection),
            hub=self.hub,
            access=self,
            handler=self.handler,
            clock=SystemClock(),
            client_id=client_id,
            owner=owner,
            limits=self.limits,
        )
        await self.connections.run(served)

    async def __aenter__(self) -> Self:
        self._server = await serve(
            self._serve, "127.0.0.1", 0, compression=None, ping_interval=None, close_timeout=0.2, write_limit=4096
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        assert self._server is not None
        return self._server.sockets[0].getsockname()[1]

    @asynccontextmanager
    async def client(self, client_id: str = "c1", owner: str = "me", **options: Any) -> "AsyncIterator[Client]":
        options = {"compression": None, "ping_interval": None, "close_timeout": 0.2, **options}
        async with connect(f"ws://127.0.0.1:{self.port}/ws/{client_id}/{owner}", **options) as connection:
            yield Client(connection)


class Client:
    """A client that speaks the protocol."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def say(self, kind: str, **fields: Any) -> None:
        await self.connection.send(orjson.dumps({"type": kind, **fields}), text=True)

    async def hear(self, timeout: float = 5.0) -> dict[str, Any]:
        async with asyncio.timeout(timeout):
            return orjson.loads(await self.connection.recv())

    async def ask(self, kind: str, **fields: Any) -> dict[str, Any]:
        await self.say(kind, **fields)
        return await self.hear()

    async def hear_until(self, seq: int) -> list[dict[str, Any]]:
        heard = [await self.hear()]
        while heard[-1]["seq"] != seq:
            heard.append(await self.hear())
        return heard

    async def silent(self, seconds: float = 0.05) -> bool:
        try:
            await self.hear(seconds)
        except TimeoutError:
            return True
        return False

    async def closed(self, timeout: float = 5.0) -> int | None:
        async with asyncio.timeout(timeout):
            await self.connection.wait_closed()
        return self.connection.close_code
