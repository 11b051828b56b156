"""A server that is about to stop takes no new work, and says when to come again."""

from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from modular_agent.api.errors import problem_response
from modular_agent.errors import ServerStopping

__all__ = ["Drain", "Gate"]

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class Gate:
    """Whether new work is let in; whoever stops the server closes it first."""

    def __init__(self) -> None:
        self._retry_after: float | None = None

    @property
    def closed(self) -> bool:
        """Whether new work is refused."""
        return self._retry_after is not None

    @property
    def retry_after(self) -> float:
        """After how many seconds a refused client should come again."""
        return self._retry_after or 0.0

    def close(self, *, retry_after: float = 5.0) -> None:
        """Refuses new work from now on."""
        self._retry_after = retry_after

    def open(self) -> None:
        """Lets new work in again."""
        self._retry_after = None


class Drain:
    """While the gate is closed, answers 503 with `Retry-After` to what changes something, and to WebSocket handshakes.

    Reads, probes and streams in progress go on.
    """

    def __init__(self, app: ASGIApp, *, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if not self._gate.closed or kind == "lifespan" or (kind == "http" and scope["method"] in _SAFE):
            return await self._app(scope, receive, send)
        error = ServerStopping(retry_after=self._gate.retry_after)
        if kind == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
            return await send({"type": "websocket.close", "code": 1012, "reason": error.code})
        return await problem_response(scope, error)(scope, receive, send)
