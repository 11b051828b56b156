"""Both ways of posting, the short one and aiohttp's own client, send and read the same, byte for byte."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp.streams import EMPTY_PAYLOAD

from modular_agent.engine.providers.endpoint import Endpoint
from modular_agent.engine.providers.errors import ProviderError
from modular_agent.engine.providers.poster import Connector, _Handler, read_any
from modular_agent.kit.clock import SystemClock

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\n"
JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
ONE, TWO, DONE = b"data: one\n\n", b"data: two\n\n", b"data: [DONE]\n\n"
EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
READ = ("_size", "_cursor", "_buffer", "_buffer_offset", "_http_chunk_splits", "total_bytes")
REFUSAL = b'{"error":{"message":"no"}}'


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


WHOLE = {  # answers that say where they end
    "chunked": [STREAM + CHUNKED, chunk(ONE), chunk(TWO), chunk(b"")],
    "chunked, at once": [STREAM + CHUNKED + chunk(ONE) + chunk(TWO) + chunk(b"")],
    "more after the last event": [STREAM + CHUNKED + chunk(DONE) + chunk(b": bye"), chunk(b"")],
    "with a length": [STREAM + b"Content-Length: 22\r\n\r\n", ONE, TWO],
    "empty": [STREAM + b"Content-Length: 0\r\n\r\n"],
    "asks to close": [STREAM + b"Connection: close\r\nContent-Length: 11\r\n\r\n" + ONE],
    "after interim answers": [b"HTTP/1.1 100 Continue\r\n\r\n" + EARLY, JSON + b"Content-Length: 2\r\n\r\n{}"],
    "no content": [b"HTTP/1.1 204 No Content\r\n\r\n"],
    "no type": [b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntext"],
    "large": [JSON + b"Content-Length: 3000008\r\n\r\n", b'{"a": ["', *[b"1" * 999_999] * 3, b'"]}'],
    "cookies": [JSON + b"Set-Cookie: a=b\r\nContent-Length: 2\r\n\r\n{}"],
    "refused": [b"HTTP/1.1 429 Slow\r\nRetry-After: 3\r\nContent-Length: %d\r\n\r\n" % len(REFUSAL), REFUSAL],
    "redirected": [b"HTTP/1.1 307 There\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n"],
    "switches protocols": [b"HTTP/1.1 101 Other\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"],
    "a broken chunk": [STREAM + CHUNKED + b"xyz\r\n"],
    "too long a header": [STREAM + b"X-Long: " + b"x" * 9000 + b"\r\n\r\n"],
}
ENDED = {  # and those that the end of the connection ends
    "up to the end": [STREAM + b"\r\n", ONE, TWO, DONE],
    "HTTP/1.0": [b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", ONE],
    "compressed all the same": [JSON + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b'{"a":1}', mtime=0)],
    "much in a small answer": [
        JSON + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b'{"a":"%b"}' % (b"1" * 5_000_000))
    ],
    "within the head": [STREAM],
    "within a length": [STREAM + b"Content-Length: 30\r\n\r\n" + ONE],
    "within a chunk": [STREAM + CHUNKED + b"ff\r\n" + ONE],
    "nothing": [],
    "not HTTP": [b"SSH-2.0-OpenSSH_9.2\r\n"],
}


@dataclass
class Raw:
    """A server that answers every request with the same bytes, and then ends the connection, or keeps it."""

    answer: Sequence[bytes]
    ends: bool
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                for part in self.answer:
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0.002)
                if self.ends:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


class Everything:
    """An answer that keeps what it is given, and ends at `[DONE]`."""

    def __init__(self) -> None:
        self.taken: list[Any] = []

    def event(self, data: bytes) -> bool:
        self.taken.append(data)
        return data == b"[DONE]"

    def document(self, document: Any) -> None:
        self.taken.append(document)


@asynccontextmanager
async def running(raw: Raw) -> AsyncIterator[str]:
    server = await asyncio.start_server(raw.serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/a%20b?c=%C3%A9"


async def outcome(raw: Raw, bodies: Sequence[bytes], *, general: bool) -> list[Any]:
    """What came of posting `bodies` one after the other, and what the server saw of it."""
    limits = {"limit": 9, "limit_per_host": 9, "ttl_dns_cache": 9, "keepalive_timeout": 9}
    connector = (aiohttp.TCPConnector if general else Connector)(**limits)
    found: list[Any] = []
    async with running(raw) as url, aiohttp.ClientSession(connector=connector, trust_env=general) as session:
        headers = {"Authorization": "Bearer sk-0123456789", "accept": "text/event-stream, */*", "X-Own": "é"}
        made = {"provider": "p", "model": "m", "clock": SystemClock(), "key": "sk-0123456789"}
        endpoint = Endpoint(session, url=url, headers=headers, **made)
        for body in bodies:
            answer = Everything()
            try:
                await endpoint.post(body, timeout=5, answer=answer)
                found.append(str(answer.taken))
            except ProviderError as error:
                found.append(str([answer.taken, error.reason, error.detail, error.status, error.retryable]))
        found += [len(connector._acquired), raw.connections]
        port = url.split(":")[2].partition("/")[0]
    return [str(found).replace(port, "PORT"), [request.replace(port.encode(), b"PORT") for request in raw.requests]]


BODIES = (b'{"a":1}', b"", b"x" * 200_000)


@pytest.mark.parametrize("name", WHOLE)
async def test_both_ways_send_and_read_the_same(name: str) -> None:
    short, general = [await outcome(Raw(WHOLE[name], ends=False), BODIES, general=way) for way in (False, True)]
    assert short == general


@pytest.mark.parametrize("name", [*ENDED, *WHOLE])
async def test_both_ways_read_the_same_of_a_connection_that_ends(name: str) -> None:
    answer = {**ENDED, **WHOLE}[name]
    short, general = [await outcome(Raw(answer, ends=True), BODIES[-1:], general=way) for way in (False, True)]
    assert short == general


async def test_a_url_with_another_scheme_is_refused_as_by_the_library() -> None:
    async with aiohttp.ClientSession() as session:
        endpoint = Endpoint(session, url="ftp://127.0.0.1/v1", headers={}, provider="p", model="m", clock=SystemClock())
        with pytest.raises(ProviderError, match=r"ftp://127\.0\.0\.1"):
            await endpoint.post(b"{}", timeout=5, answer=Everything())


async def test_a_closed_session_is_said_to_be() -> None:
    session = aiohttp.ClientSession()
    await session.close()
    endpoint = Endpoint(session, url="http://127.0.0.1/v1", headers={}, provider="p", model="m", clock=SystemClock())
    with pytest.raises(RuntimeError, match="Session is closed"):
        await endpoint.post(b"{}", timeout=5, answer=Everything())


async def test_pieces_that_came_together_are_read_as_one() -> None:
    loop = asyncio.get_running_loop()
    bodies = [aiohttp.StreamReader(_Handler(loop), 1024, loop=loop) for _ in range(2)]
    for body in bodies:
        for piece in (b"one", b"two", b"three"):
            body.begin_http_chunk_receiving()
            body.feed_data(piece)
            body.end_http_chunk_receiving()
        assert await body.read(2) == b"on"  # whoever read a part of the first gets the rest
    [ours, theirs] = bodies
    assert await read_any(ours) == await theirs.readany() == b"etwothree"
    assert [getattr(ours, name) for name in READ] == [getattr(theirs, name) for name in READ]
    ours.feed_eof()
    assert await read_any(ours) == await read_any(EMPTY_PAYLOAD) == b""
