"""Every request has an id: the client's own when it is sane, else a new one; answers and log lines carry it."""

import re
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, reset_contextvars

from modular_agent.api.answer import answer_to
from modular_agent.kit.ids import new_id

__all__ = ["RequestId"]

_SANE: Final = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


class RequestId:
    """Sets `scope["state"]["request_id"]` (HTTP and WebSocket), the log context, and the header `X-Request-ID`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        request_id = _accepted(scope) or new_id("req")
        scope.setdefault("state", {})["request_id"] = request_id
        header = (b"x-request-id", request_id.encode())
        answer_to(scope).at_start(lambda headers: headers.append(header))
        tokens = bind_contextvars(request_id=request_id)
        try:
            await self._app(scope, receive, send)
        finally:
            reset_contextvars(**tokens)
        return None


def _accepted(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            return value.decode() if _SANE.fullmatch(value) else None
    return None
