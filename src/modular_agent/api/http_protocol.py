"""The web server's side of HTTP: an answer's head goes out with what follows it, and who streams is called back.

Each piece that is written is a system call, so a head waits for the body's first piece, at most until the loop's next
round. ASGI says only to who keeps asking that a client has gone, which takes a task for each stream: the extension
`http.departure` calls back.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["DEPARTURE", "Departure", "HttpProtocol"]

DEPARTURE: Final = "http.departure"
_HEAD: Final = b"HTTP/1.1 "  # a body's piece that begins so waits as well, which does no harm


class Departure:
    """The end of a connection, whoever ends it."""

    def __init__(self) -> None:
        self._calls: set[Callable[[], None]] | None = set()

    def call(self, on_gone: Callable[[], None]) -> None:
        """Has `on_gone` called when the connection ends; at once, if it has."""
        if self._calls is None:
            on_gone()
        else:
            self._calls.add(on_gone)

    def forget(self, on_gone: Callable[[], None]) -> None:
        """Has it not called any more."""
        if self._calls is not None:
            self._calls.discard(on_gone)

    def happen(self) -> None:
        """The connection has ended."""
        calls, self._calls = self._calls, None
        for call in calls or ():
            call()


class HttpProtocol(HttpToolsProtocol):
    """Uvicorn's protocol with both."""

    def connection_made(self, transport: Any) -> None:  # an asyncio.Transport
        super().connection_made(transport)
        self._departure = Departure()
        self.transport = cast(asyncio.Transport, _Together(transport))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._departure.happen()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast("dict[str, Any]", self.scope)["extensions"] = {DEPARTURE: {"departure": self._departure}}

    def handle_websocket_upgrade(self) -> None:
        self.transport = cast(_Together, self.transport).transport
        super().handle_websocket_upgrade()


class _Together:
    """A transport that keeps a head back for a moment."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self._head = b""

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(_HEAD):
            self._head = data
            asyncio.get_running_loop().call_soon(self._flush)
            return
        self.transport.write(data)

    def close(self) -> None:
        self._flush()
        self.transport.close()

    def _flush(self) -> None:
        head, self._head = self._head, b""
        if head and not self.transport.is_closing():
            self.transport.write(head)

    def __getattr__(self, name: str) -> Any:  # whatever else transports have
        return getattr(self.transport, name)
