"""Posting over aiohttp's pool of connections, with the head of the request written once.

aiohttp's own client makes a request with its headers, cookies and timers, a writer with a task and a response for every
call, though all but the body stays the same: that took more time than everything else about a call. What is kept of it
is what is hard: the pool, TLS, names, the parser and the stream of a body. These are not its public interface, so its
version is bound in `pyproject.toml`, and a test compares what both ways send and read.
"""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Final, cast

import aiohttp
from aiohttp import hdrs
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import RawResponseMessage
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_writer import (
    _serialize_headers,  # pyright: ignore[reportPrivateUsage,reportUnknownVariableType]  # in C, without types
)
from multidict import CIMultiDict
from yarl import URL

__all__ = ["Connector", "Poster", "Response", "read_any"]

_INTERIM: Final = frozenset(range(100, 200)) - {101}  # a status after which another answer follows


class _Handler(ResponseHandler):
    """A connection whose parser is not asked to go on, for each piece that is read, when it never paused."""

    def resume_reading(self, resume_parser: bool = True) -> None:
        if self._reading_paused or self._buffer_paused:
            super().resume_reading(resume_parser)


class Connector(aiohttp.TCPConnector):
    """aiohttp's pool, of connections that are cheaper to read from."""

    def __init__(self, *, limit: int, limit_per_host: int, ttl_dns_cache: int, keepalive_timeout: float) -> None:
        super().__init__(  # pyright: ignore[reportUnknownMemberType]  # an option that is left out
            limit=limit,
            limit_per_host=limit_per_host,
            ttl_dns_cache=ttl_dns_cache,
            keepalive_timeout=keepalive_timeout,
        )
        self._factory = partial(_Handler, loop=self._loop)


class Response:
    """An answer whose head is there. To be released when its body was read, closed otherwise."""

    __slots__ = ("_connection", "content", "headers", "status")

    def __init__(self, connection: Connection, message: RawResponseMessage, content: aiohttp.StreamReader):
        self._connection = connection
        self.status = message.code
        self.headers: Mapping[str, str] = message.headers
        self.content = content
        content.on_eof(connection.release)

    @property
    def content_type(self) -> str:
        """The type without its parameters, in lower case."""
        given = self.headers.get(hdrs.CONTENT_TYPE)
        return "application/octet-stream" if given is None else given.partition(";")[0].strip().lower()

    def release(self) -> None:
        """Gives the connection back; it is closed if the body has not ended."""
        self._connection.release()

    def close(self) -> None:
        self._connection.close()


async def read_any(content: aiohttp.StreamReader) -> bytes:
    """As its `readany`, which counts the pieces of a body one by one: those that came together are one piece here."""
    if content.total_bytes and len(pieces := content._buffer) > 1:  # pyright: ignore[reportPrivateUsage]
        whole = b"".join(pieces)
        pieces.clear()
        pieces.append(whole)
    return await content.readany()


class Poster:
    """Posts to one URL, directly: whoever needs a proxy takes aiohttp's own client."""

    def __init__(
        self, session: aiohttp.ClientSession, url: URL, headers: CIMultiDict[str], timeout: aiohttp.ClientTimeout
    ) -> None:
        self._session = session
        self._url = url
        self._headers = headers
        self._timeout = timeout
        self._request: aiohttp.ClientRequest | None = None
        self._head = b""

    async def post(self, body: bytes) -> Response:
        """Sends `body`; the answer, once its head is there. Raises what `ClientSession.post` raises."""
        request = self._request or self._prepared()
        connector = self._session.connector
        if connector is None:
            raise RuntimeError("Session is closed")
        try:
            connection = await connector.connect(request, [], self._timeout)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError(f"Connection timeout to host {request.url}") from error
        try:
            return await self._exchanged(connection, body)
        except HttpProcessingError as error:
            connection.close()
            raise aiohttp.ClientResponseError(
                request.request_info, (), status=error.code, message=error.message, headers=error.headers
            ) from error
        except BaseException:
            connection.close()
            raise

    async def _exchanged(self, connection: Connection, body: bytes) -> Response:
        protocol, transport = connection.protocol, connection.transport
        if protocol is None or transport is None or transport.is_closing():
            raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")
        protocol.set_response_params(read_until_eof=True)
        transport.write(b"%b%d\r\n\r\n%b" % (self._head, len(body), body))
        message, content = await protocol.read()
        while message.code in _INTERIM:
            message, content = await protocol.read()
        return Response(connection, message, content)

    def _prepared(self) -> aiohttp.ClientRequest:
        """The request as aiohttp would make it, for the pool; and its head up to the length of the body."""
        if self._url.scheme not in ("http", "https"):
            raise aiohttp.NonHttpUrlClientError(self._url)
        request = aiohttp.ClientRequest(
            hdrs.METH_POST, self._url, headers=self._headers, data=b"?", loop=asyncio.get_running_loop()
        )
        headers = request.headers.copy()
        del headers[hdrs.CONTENT_LENGTH]
        line = f"{hdrs.METH_POST} {self._url.raw_path_qs} HTTP/1.1"
        whole = cast("bytes", _serialize_headers(line, headers))
        self._head = whole.removesuffix(b"\r\n") + b"Content-Length: "
        self._request = request
        return request
