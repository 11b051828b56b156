"""The last catch: an exception nobody meant becomes an answer inside the other middleware, not outside of it."""

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from modular_agent.api.answer import answer_to
from modular_agent.api.errors import ErrorHandlers

__all__ = ["UnexpectedErrors"]


class UnexpectedErrors:
    """Answers 500 `internal_error` to exceptions without a handler, closes WebSockets with 1011, and logs the trace.

    The framework has one of its own, outermost: its answers lack the request id, the security and the CORS headers.
    An exception after the answer's start is raised on, so that the server cuts the connection instead of pretending
    that the answer is complete.
    """

    def __init__(self, app: ASGIApp, *, handlers: ErrorHandlers) -> None:
        self._app = app
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        try:
            await self._app(scope, receive, send)
        except ClientDisconnect:
            return None  # nobody is left to answer
        except Exception as error:
            if scope["type"] == "websocket":
                self._handlers.report(scope, error)
                await send({"type": "websocket.close", "code": 1011, "reason": "internal_error"})
            elif answer_to(scope).started:
                raise
            else:
                response = await self._handlers.unexpected(Request(scope), error)
                assert response is not None
                await response(scope, receive, send)
        return None
