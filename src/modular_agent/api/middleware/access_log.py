"""One log line per request, when its answer is complete; the query string, which may hold a token, is not in it."""

import time
from typing import Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modular_agent.api.answer import answer_to

__all__ = ["AccessLog"]

_PROBES: Final = frozenset({"/health", "/ready", "/metrics"})


class AccessLog:
    """Logs method, path, status, duration (ms), bytes, client, and the code of a problem; probes only at DEBUG.

    `status` is None and `aborted` true when there was no complete answer: the client left, or the task was cancelled.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._log = structlog.stdlib.get_logger("modular_agent.access")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = answer_to(scope)
        started = time.perf_counter()
        try:
            await self._app(scope, receive, send)
        finally:
            write = self._log.debug if scope["path"] in _PROBES else self._log.info
            fields = self._fields(scope, started, status=answer.status, bytes=answer.size)
            if not answer.complete:
                fields["aborted"] = True
            write("request", method=scope["method"], **fields)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        code: int | None = None
        accepted = False

        async def send_and_watch(message: Message) -> None:
            nonlocal code, accepted
            if message["type"] == "websocket.accept":
                accepted = True
                self._log.info("websocket opened", path=scope["path"], client=_client(scope))
            elif message["type"] == "websocket.close":
                code = message.get("code", 1000)
            await send(message)

        async def receive_and_watch() -> Message:
            nonlocal code
            message = await receive()
            if message["type"] == "websocket.disconnect" and code is None:
                code = message.get("code", 1005)
            return message

        try:
            await self._app(scope, receive_and_watch, send_and_watch)
        finally:
            event = "websocket closed" if accepted else "websocket refused"
            self._log.info(event, **self._fields(scope, started, close_code=code))

    def _fields(self, scope: Scope, started: float, **more: object) -> dict[str, object]:
        fields: dict[str, object] = {
            "path": scope["path"],
            "duration_ms": round((time.perf_counter() - started) * 1000, 2),
            "client": _client(scope),
            **more,
        }
        if (code := scope.get("state", {}).get("problem_code")) is not None:
            fields["code"] = code
        return fields


def _client(scope: Scope) -> str | None:
    client = scope.get("client")
    return client[0] if client else None
