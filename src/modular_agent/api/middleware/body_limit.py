"""Request bodies have a limit, whether they say their length or not."""

import asyncio
import contextlib
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modular_agent.api.answer import answer_to
from modular_agent.api.errors import BodyTooLarge, problem_response
from modular_agent.api.requests import DEPTH_KEY

__all__ = ["BodyLimit"]

READ_ON_TIMES: Final = 8  # as much as the limit, of a body that was refused
READ_ON_SECONDS: Final = 5.0


class BodyLimit:
    """Answers 413 to a body of more than `limit` bytes: at once if `Content-Length` says so, else when it gets there.

    How deep a JSON body may nest is noted for whoever parses it (`JsonRequest`).
    """

    def __init__(self, app: ASGIApp, *, limit: int, max_json_depth: int) -> None:
        self._app = app
        self._limit = limit
        self._max_json_depth = max_json_depth

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        if _declared(scope) > self._limit:
            return await self._refuse(scope, receive, send)
        scope[DEPTH_KEY] = self._max_json_depth
        size = 0

        async def receive_and_count() -> Message:
            nonlocal size
            message = await receive()
            if message["type"] == "http.request":
                size += len(message.get("body", b""))
                if size > self._limit:
                    raise BodyTooLarge(limit=self._limit)
            return message

        try:
            await self._app(scope, receive_and_count, send)
        except BodyTooLarge:
            if answer_to(scope).started:
                raise
            await self._refuse(scope, receive, send)
        return None

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers at once, and reads on for a while before the connection is closed.

        A client that is still sending would see a reset connection, and not the answer.
        """

        async def send_and_read_on(message: Message) -> None:
            if message["type"] != "http.response.body":
                return await send(message)
            await send({**message, "more_body": True})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(READ_ON_SECONDS):
                    await self._read_on(receive)
            return await send({"type": "http.response.body", "body": b""})

        response = problem_response(scope, BodyTooLarge(limit=self._limit))
        await response(scope, receive, send_and_read_on)

    async def _read_on(self, receive: Receive) -> None:
        left = READ_ON_TIMES * self._limit
        more = True
        while more and left > 0:
            message = await receive()
            left -= len(message.get("body", b""))
            more = message.get("more_body", False)  # of a disconnect: nothing


def _declared(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0
