import asyncio
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import structlog
from fastapi import FastAPI, Request, WebSocket
from starlette.responses import StreamingResponse

from modular_agent.api.middleware.drain import Gate
from modular_agent.api.middleware.stack import EdgeOptions


class Routes:
    """Routes that stream, echo and hang, and note what happened to them."""

    def __init__(self) -> None:
        self.noted: list[str] = []
        self.cancelled = asyncio.Event()
        self.go_on = asyncio.Event()

    def __call__(self, app: FastAPI) -> None:
        @app.get("/stream")
        async def stream() -> StreamingResponse:
            return StreamingResponse(self.events(), media_type="text/event-stream")

        @app.post("/echo")
        async def echo(request: Request) -> dict[str, int]:
            return {"size": len(await request.body())}

        @app.get("/hang")
        async def hang() -> None:
            await asyncio.sleep(60)

        @app.get("/half")
        async def half() -> StreamingResponse:
            return StreamingResponse(self.half(), media_type="text/plain")

        @app.websocket("/ws")
        async def socket(websocket: WebSocket) -> None:
            await websocket.accept()
            async for text in websocket.iter_text():
                if text == "crash":
                    raise LookupError("inside")
                await websocket.send_text(text)

    async def events(self) -> AsyncIterator[bytes]:
        try:
            for number in range(1000):
                yield b"id: %d\n\n" % number
                await self.go_on.wait()
                self.go_on.clear()
        finally:
            self.noted.append("stream closed")
            self.cancelled.set()

    async def half(self) -> AsyncIterator[bytes]:
        yield b"half"
        raise LookupError("inside")


@pytest.fixture
def routes() -> Routes:
    return Routes()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        yield session


async def test_a_stream_arrives_piece_by_piece(serving: Any, routes: Routes, http: aiohttp.ClientSession) -> None:
    async with serving(routes) as port, http.get(f"http://127.0.0.1:{port}/stream") as answer:
        for number in range(5):
            assert await answer.content.readuntil(b"\n\n") == b"id: %d\n\n" % number
            routes.go_on.set()


async def test_a_client_that_leaves_ends_its_stream_and_the_log_says_so(
    serving: Any, routes: Routes, http: aiohttp.ClientSession
) -> None:
    with structlog.testing.capture_logs() as lines:
        async with serving(routes) as port:
            async with http.get(f"http://127.0.0.1:{port}/stream?token=secret") as answer:
                await answer.content.readuntil(b"\n\n")
                answer.close()
            await asyncio.wait_for(routes.cancelled.wait(), 5)
    (line,) = [line for line in lines if line["event"] == "request"]
    assert (line["path"], line["status"], line["aborted"]) == ("/stream", 200, True)
    assert "secret" not in str(lines)


async def test_an_answer_that_fails_in_the_middle_is_cut_off_not_completed(
    serving: Any, routes: Routes, http: aiohttp.ClientSession
) -> None:
    async with serving(routes) as port, http.get(f"http://127.0.0.1:{port}/half") as answer:
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()


async def test_a_body_is_let_in_up_to_the_limit(serving: Any, routes: Routes, http: aiohttp.ClientSession) -> None:
    async with serving(routes, EdgeOptions(max_body_bytes=100_000)) as port:
        for size, status in ((0, 200), (100_000, 200), (100_001, 413)):
            async with http.post(f"http://127.0.0.1:{port}/echo", data=b"x" * size) as answer:
                assert answer.status == status


async def test_a_body_without_a_length_is_refused_when_it_gets_too_long(
    serving: Any, routes: Routes, http: aiohttp.ClientSession
) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(10_000):
            sent += 10_000
            yield b"x" * 10_000
            await asyncio.sleep(0)

    async with serving(routes, EdgeOptions(max_body_bytes=50_000)) as port:
        try:
            async with http.post(f"http://127.0.0.1:{port}/echo", data=endless()) as answer:
                assert answer.status == 413
                assert (await answer.json(content_type=None))["code"] == "body_too_large"
        except aiohttp.ClientOSError:
            pass  # the server hung up while the client was still sending
    assert sent < 100_000_000


async def test_a_body_too_large_by_its_own_word_is_not_read(serving: Any, routes: Routes) -> None:
    async with serving(routes, EdgeOptions(max_body_bytes=1000)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert head.startswith(b"HTTP/1.1 413")
        assert b"application/problem+json" in head
        assert b"connection: close" in head.lower()
        writer.close()


async def test_a_client_that_sends_all_before_it_reads_gets_the_refusal(serving: Any, routes: Routes) -> None:
    def send_all(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6000000\r\n\r\n")
            client.sendall(b"x" * 6_000_000)
            return client.recv(1000)

    async with serving(routes, EdgeOptions(max_body_bytes=1_000_000)) as port:
        assert (await asyncio.to_thread(send_all, port)).startswith(b"HTTP/1.1 413")


async def websocket_status(http: aiohttp.ClientSession, port: int, **headers: str) -> int:
    try:
        async with http.ws_connect(f"http://127.0.0.1:{port}/ws", headers=headers) as socket:
            await socket.send_str("hello")
            assert await socket.receive_str() == "hello"
            return 101
    except aiohttp.WSServerHandshakeError as error:
        return error.status


async def test_a_websocket_opens_with_a_request_id(serving: Any, routes: Routes, http: aiohttp.ClientSession) -> None:
    async with (
        serving(routes) as port,
        http.ws_connect(f"http://127.0.0.1:{port}/ws", headers={"X-Request-ID": "mine-1"}) as socket,
    ):
        assert socket._response.headers["X-Request-ID"] == "mine-1"


async def test_a_websocket_of_a_foreign_page_is_refused(
    serving: Any, routes: Routes, http: aiohttp.ClientSession
) -> None:
    async with serving(routes) as port:
        assert await websocket_status(http, port, Origin="https://evil.example") == 403
        assert await websocket_status(http, port, Host="evil.example") == 403
        assert await websocket_status(http, port, Origin="null") == 403
        assert await websocket_status(http, port, Origin=f"http://127.0.0.1:{port}") == 101
        assert await websocket_status(http, port) == 101


async def test_a_websocket_whose_code_crashes_is_closed_with_1011(
    serving: Any, routes: Routes, http: aiohttp.ClientSession
) -> None:
    with structlog.testing.capture_logs() as lines:
        async with serving(routes) as port, http.ws_connect(f"http://127.0.0.1:{port}/ws") as socket:
            await socket.send_str("crash")
            message = await socket.receive()
            assert (message.type, message.data, message.extra) == (aiohttp.WSMsgType.CLOSE, 1011, "internal_error")
    assert [line["log_level"] for line in lines if "exc_info" in line] == ["error"]


async def test_a_draining_server_refuses_new_work_and_serves_the_rest(
    serving: Any, routes: Routes, http: aiohttp.ClientSession
) -> None:
    gate = Gate()
    async with serving(routes, gate=gate) as port, http.get(f"http://127.0.0.1:{port}/stream") as running:
        await running.content.readuntil(b"\n\n")
        gate.close(retry_after=7)
        async with http.post(f"http://127.0.0.1:{port}/echo", data=b"x") as answer:
            assert answer.status == 503
            assert answer.headers["Retry-After"] == "7"
            assert (await answer.json(content_type=None))["code"] == "server_stopping"
        assert await websocket_status(http, port) == 503
        routes.go_on.set()
        assert await running.content.readuntil(b"\n\n") == b"id: 1\n\n"
        async with http.get(f"http://127.0.0.1:{port}/openapi.json") as answer:
            assert answer.status == 200
        gate.open()
        async with http.post(f"http://127.0.0.1:{port}/echo", data=b"x") as answer:
            assert answer.status == 200


async def test_a_request_in_progress_is_cancelled_with_the_server_and_logged(
    serving: Any, routes: Routes, http: aiohttp.ClientSession
) -> None:
    with structlog.testing.capture_logs() as lines:
        async with serving(routes) as port:
            request = asyncio.create_task(http.get(f"http://127.0.0.1:{port}/hang"))
            await asyncio.sleep(0.1)
            started = time.monotonic()
        assert time.monotonic() - started < 5
        await asyncio.gather(request, return_exceptions=True)
    assert [line["path"] for line in lines if line.get("aborted")] == ["/hang"]
