"""A response that goes on as long as there are events, and ends when its client goes."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from modular_agent.api.answer import answer_to
from modular_agent.api.http_protocol import DEPARTURE, Departure
from modular_agent.realtime.sse import Last

__all__ = ["EventStream"]


class EventStream(Response):
    """Sends the chunks of `body`. `on_gone` is called when the client has gone, or at the end; it must end the body.

    It is written in a task of its own: each time it is woken, Python goes through all that waits for it, which of a
    request is every layer. The framework's own streaming response cancels whatever the body waits for, by a group of
    two tasks; a body that can be told to end needs none.
    """

    def __init__(self, body: AsyncGenerator[bytes], *, on_gone: Callable[[], None], headers: Mapping[str, str]) -> None:
        super().__init__(headers=headers)
        del self.headers["Content-Length"]
        self._body = body
        self._on_gone = on_gone

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        writing = asyncio.create_task(self._write(scope, send), name="stream")
        extension = scope.get("extensions", {}).get(DEPARTURE)
        if extension is None:
            await self._watched(writing, receive)
            return
        departure: Departure = extension["departure"]
        departure.call(self._on_gone)
        try:
            await writing
        finally:
            departure.forget(self._on_gone)
            self._on_gone()

    async def _write(self, scope: Scope, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            onward = answer_to(scope).send  # past the layers, which have seen the head
            more = True
            async for chunk in self._body:
                more = not isinstance(chunk, Last)
                await onward({"type": "http.response.body", "body": chunk, "more_body": more})
            if more:
                await onward({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await self._body.aclose()

    async def _watched(self, writing: "asyncio.Task[None]", receive: Receive) -> None:
        """The same with a server that does not call."""
        watching = asyncio.create_task(self._watch(receive), name="client of a stream")
        try:
            await writing
        finally:
            self._on_gone()
            watching.cancel()
            await asyncio.wait({watching})

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._on_gone()
