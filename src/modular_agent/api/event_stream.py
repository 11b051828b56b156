"""A response that goes on as long as there are events, and ends when its client goes."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from modular_agent.realtime.sse import Last

__all__ = ["EventStream"]


class EventStream(Response):
    """Sends the chunks of `body`. `on_gone` is called when the client has gone, and must end the body.

    The framework's own streaming response cancels whatever the body waits for, by a group of two tasks; a body that can
    be told to end needs neither.
    """

    def __init__(self, body: AsyncGenerator[bytes], *, on_gone: Callable[[], None], headers: Mapping[str, str]) -> None:
        super().__init__(headers=headers)
        del self.headers["Content-Length"]
        self._body = body
        self._on_gone = on_gone

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        watching = asyncio.create_task(self._watch(receive), name="client of a stream")
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            more = True
            async for chunk in self._body:
                more = not isinstance(chunk, Last)
                await send({"type": "http.response.body", "body": chunk, "more_body": more})
            if more:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            watching.cancel()
            await self._body.aclose()
            await asyncio.wait({watching})

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._on_gone()
