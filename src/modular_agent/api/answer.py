"""The answer to a request on its way out: what is known of it, and what is put into its head.

There is one for each request, made outermost. So a layer that wants to know how an answer went, or to add a header,
need not wrap `send`, and a piece of a body passes through one function instead of one for each layer.
"""

from collections.abc import Callable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Answer", "Answering", "Header", "answer_to"]

_KEY: Final = "modular_agent.answer"  # in the ASGI scope
_STARTS: Final = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})

Header = tuple[bytes, bytes]


class Answer:
    """`status` is None before the start (and of a WebSocket that is accepted), `size` counts the bytes of the body."""

    __slots__ = ("_adders", "_send", "complete", "size", "started", "status")

    def __init__(self, send: Send) -> None:
        self.started = False
        self.status: int | None = None
        self.size = 0
        self.complete = False
        self._send = send
        self._adders: list[Callable[[list[Header]], None]] = []

    def at_start(self, add: Callable[[list[Header]], None]) -> None:
        """Has `add` put headers into the list when the answer starts; who comes last is asked first."""
        self._adders.append(add)

    async def send(self, message: Message) -> None:
        """Sends an ASGI message."""
        kind = message["type"]
        if kind == "http.response.body":
            self.size += len(message.get("body", b""))
            self.complete = not message.get("more_body", False)
        elif kind in _STARTS:
            self.started = True
            self.status = message.get("status")
            headers: list[Header] = [*message.get("headers", ())]
            for add in reversed(self._adders):
                add(headers)
            message["headers"] = headers
        await self._send(message)


class Answering:
    """Gives every request and WebSocket its answer: the outermost layer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            answer = scope[_KEY] = Answer(send)
            send = answer.send
        await self._app(scope, receive, send)


def answer_to(scope: Scope) -> Answer:
    """The answer to a request."""
    answer: Answer = scope[_KEY]
    return answer
