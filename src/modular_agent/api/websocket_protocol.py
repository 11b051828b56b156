"""The web server's side of a WebSocket: messages that are sent together go out in one system call.

A system call costs as much as all else that a message costs. ASGI has no event for several messages, so the scope's
extension `websocket.send.together` says that one is understood: `websocket.send` with the texts before the last in
`before`.
"""

from typing import TYPE_CHECKING, Any, Final, cast

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState

if TYPE_CHECKING:
    from websockets.http11 import Request

__all__ = ["TOGETHER", "WebSocketProtocol"]

TOGETHER: Final = "websocket.send.together"


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Uvicorn's protocol with that extension."""

    def handle_connect(self, event: "Request") -> None:
        super().handle_connect(event)
        if not self.handshake_complete:  # it was not refused
            cast("dict[str, Any]", self.scope)["extensions"][TOGETHER] = {}

    async def send(self, message: Any) -> None:
        before: list[bytes] = message.get("before", [])
        if before:
            await self.writable.wait()
            try:
                for text in before:  # written with what comes next
                    self.conn.send_text(text)
            except InvalidState as error:
                raise ClientDisconnected from error
        await super().send(message)
