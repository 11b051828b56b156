"""How long the server took, told to the client in `Server-Timing` (https://www.w3.org/TR/server-timing/)."""

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["ServerTiming", "add_timing"]


class ServerTiming:
    """Adds `Server-Timing: total;dur=MS` up to the start of the answer, and what `add_timing` noted before it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started = time.perf_counter()

        async def send_with_timing(message: Message) -> None:
            if message["type"] == "http.response.start":
                value = b"total;dur=%.2f" % ((time.perf_counter() - started) * 1000)
                parts = [value, *scope.get("modular_agent.timings", ())]
                message["headers"] = [*message.get("headers", ()), (b"server-timing", b", ".join(parts))]
            await send(message)

        return await self._app(scope, receive, send_with_timing)


def add_timing(scope: Scope, name: str, seconds: float) -> None:
    """Notes that the part `name` (a token, such as `db`) of this request took `seconds`."""
    scope.setdefault("modular_agent.timings", []).append(b"%s;dur=%.2f" % (name.encode(), seconds * 1000))
