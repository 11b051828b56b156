"""Our side of HTTP says what uvicorn's says, with fewer writes, and tells who streams that a client has gone."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import aiohttp
import pytest
import uvicorn
from fastapi import FastAPI, Request, Response, WebSocket
from starlette.responses import JSONResponse, StreamingResponse
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from modular_agent.api.event_stream import EventStream
from modular_agent.api.http_protocol import Departure, HttpProtocol
from modular_agent.api.websocket_protocol import WebSocketProtocol
from modular_agent.realtime.sse import Last

BOTH = pytest.mark.parametrize("protocol", [HttpProtocol, HttpToolsProtocol])


class Routes:
    """Answers of every kind, and streams that note their end."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.gone = asyncio.Event()
        self.closed = asyncio.Event()

    def __call__(self, app: FastAPI) -> None:
        @app.get("/json")
        async def json() -> JSONResponse:
            return JSONResponse({"a": "b"})

        @app.delete("/nothing")
        async def nothing() -> Response:
            return Response(status_code=204)

        @app.get("/large")
        async def large() -> Response:
            return Response(b"x" * 3_000_000)

        @app.get("/misleading")
        async def misleading() -> Response:
            return Response(b"HTTP/1.1 200 OK\r\n\r\n")

        @app.post("/echo")
        async def echo(request: Request) -> Response:
            return Response(await request.body())

        @app.get("/pieces")
        async def pieces() -> StreamingResponse:
            async def body() -> AsyncIterator[bytes]:
                for piece in (b"one", b"HTTP/1.1 two", b"three"):
                    yield piece

            return StreamingResponse(body())

        @app.get("/late")
        async def late() -> StreamingResponse:
            async def body() -> AsyncIterator[bytes]:
                await self.go_on.wait()
                yield b"late"

            return StreamingResponse(body())

        @app.websocket("/ws")
        async def socket(websocket: WebSocket) -> None:
            await websocket.accept()
            await websocket.send_text(await websocket.receive_text())
            await websocket.close()

        @app.get("/events")
        async def events(*, fails: bool = False, last: bool = False) -> EventStream:
            return EventStream(self.events(fails=fails, last=last), on_gone=self.gone.set, headers={"X-Run": "1"})

    async def events(self, *, fails: bool, last: bool) -> AsyncGenerator[bytes]:
        try:
            yield b"first\n"
            await asyncio.wait(
                [asyncio.ensure_future(self.gone.wait()), asyncio.ensure_future(self.go_on.wait())],
                return_when=asyncio.FIRST_COMPLETED,
            )
            if fails:
                raise LookupError("inside")
            if last:
                yield Last(b"last\n")
        finally:
            self.closed.set()


def asked(method: str, path: str, *more: str, body: bytes = b"") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "X-Request-ID: r1", *more]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


REQUESTS = [
    asked("GET", "/json"),
    asked("HEAD", "/json"),
    asked("DELETE", "/nothing"),
    asked("GET", "/large"),
    asked("GET", "/misleading"),
    asked("GET", "/pieces"),
    asked("GET", "/nowhere"),
    asked("POST", "/echo", body=b"abc"),
    asked("POST", "/echo", "Expect: 100-continue", body=b"abc"),
    asked("POST", "/echo", "Connection: close", body=b"abc"),
    asked("GET", "/json") + asked("GET", "/pieces") + asked("GET", "/json"),
    b"nonsense\r\n\r\n",
]


async def said(port: int, request: bytes) -> bytes:
    """All that is answered until the server has nothing more to say."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    got = bytearray()
    with pytest.raises(TimeoutError) if b"close" not in request and b"nonsense" not in request else nullcontext():
        async with asyncio.timeout(0.5):
            while data := await reader.read(1 << 20):
                got += data
    writer.close()
    lines = bytes(got).split(b"\r\n")
    return b"\r\n".join(line for line in lines if not line.startswith((b"date", b"server-timing")))


@asynccontextmanager
async def asking(
    serving: Any, routes: Routes, protocol: type[HttpToolsProtocol], request: bytes
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection on which `request` was sent."""
    async with serving(routes, http=protocol) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        async with asyncio.timeout(5):
            yield reader, writer
        writer.close()


async def test_every_answer_is_the_same_as_uvicorn_s_own(serving: Any) -> None:
    answers: list[list[bytes]] = []
    for protocol in (HttpProtocol, HttpToolsProtocol):
        async with serving(Routes(), http=protocol) as port:
            answers.append(await asyncio.gather(*(said(port, request) for request in REQUESTS)))
    ours, theirs = answers
    assert all(ours)
    assert ours == theirs


async def test_a_head_does_not_wait_for_a_body_that_is_late(serving: Any) -> None:
    routes = Routes()
    async with asking(serving, routes, HttpProtocol, asked("GET", "/late")) as (reader, _):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
        routes.go_on.set()
        assert await reader.readuntil(b"0\r\n\r\n") == b"4\r\nlate\r\n0\r\n\r\n"


@BOTH
async def test_a_stream_whose_client_goes_is_ended(serving: Any, protocol: type[HttpToolsProtocol]) -> None:
    routes = Routes()
    async with asking(serving, routes, protocol, asked("GET", "/events")) as (reader, writer):
        assert b"x-run: 1" in await reader.readuntil(b"first\n")
        writer.close()
        await routes.closed.wait()
    assert routes.gone.is_set()


@BOTH
async def test_a_stream_ends_with_its_last_piece(serving: Any, protocol: type[HttpToolsProtocol]) -> None:
    routes = Routes()
    routes.go_on.set()
    async with asking(serving, routes, protocol, asked("GET", "/events?last=1") + asked("GET", "/json")) as (reader, _):
        assert (await reader.readuntil(b"0\r\n\r\n")).endswith(b"6\r\nfirst\n\r\n5\r\nlast\n\r\n0\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")


@BOTH
async def test_a_stream_that_fails_is_cut_off(serving: Any, protocol: type[HttpToolsProtocol]) -> None:
    routes = Routes()
    routes.go_on.set()
    async with asking(serving, routes, protocol, asked("GET", "/events?fails=1")) as (reader, _):
        assert (await reader.read()).endswith(b"6\r\nfirst\n\r\n")
    assert routes.closed.is_set()


@BOTH
async def test_a_websocket_is_opened_over_it(serving: Any, protocol: type[HttpToolsProtocol]) -> None:
    async with (
        serving(Routes(), http=protocol, ws=WebSocketProtocol) as port,
        aiohttp.ClientSession() as http,
        http.ws_connect(f"http://127.0.0.1:{port}/ws") as socket,
    ):
        await socket.send_str("hello")
        assert (await socket.receive_str(timeout=5), (await socket.receive(timeout=5)).data) == ("hello", 1000)


class _Transport(asyncio.Transport):
    """Notes each write."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def is_closing(self) -> bool:
        return False


@pytest.mark.parametrize(("protocol", "writes"), [(HttpProtocol, 1), (HttpToolsProtocol, 2)])
async def test_a_head_and_its_body_are_one_write(protocol: type[HttpToolsProtocol], writes: int) -> None:
    app = FastAPI()
    Routes()(app)
    config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_keep_alive=0)
    config.load()
    transport = _Transport()
    connection = protocol(config=config, server_state=ServerState(), app_state={})
    connection.connection_made(transport)
    connection.data_received(asked("GET", "/json"))
    async with asyncio.timeout(5):
        while not b"".join(transport.written).endswith(b'{"a":"b"}'):
            await asyncio.sleep(0)
    assert len(transport.written) == writes
    connection.connection_lost(RuntimeError("gone"))


def test_who_asks_after_the_end_is_told_at_once() -> None:
    departure, told = Departure(), list[str]()
    departure.call(lambda: told.append("before"))
    forgotten = lambda: told.append("forgotten")  # noqa: E731
    departure.call(forgotten)
    departure.forget(forgotten)
    departure.happen()
    departure.call(lambda: told.append("after"))
    departure.forget(forgotten)
    departure.happen()
    assert told == ["before", "after"]
