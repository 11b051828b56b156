"""How long the server took, told to the client in `Server-Timing` (https://www.w3.org/TR/server-timing/)."""

import time

from starlette.types import ASGIApp, Receive, Scope, Send

from modular_agent.api.answer import Header, answer_to
from modular_agent.kit.timings import collected

__all__ = ["ServerTiming", "add_timing"]


class ServerTiming:
    """Adds `Server-Timing: total;dur=MS` up to the start of the answer, and what was noted before it.

    Noted are `db` (reads, waiting for a thread included), `commit` (writes until they are durable), `engine` (waiting
    for runs), and what `add_timing` was told.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started = time.perf_counter()

        def add(headers: list[Header]) -> None:
            parts = [b"total;dur=%.2f" % ((time.perf_counter() - started) * 1000)]
            for name, seconds in timings.items():
                parts.append(b"%b;dur=%.2f" % (name.encode(), seconds * 1000))
            headers.append((b"server-timing", b", ".join([*parts, *scope.get("modular_agent.timings", ())])))

        answer_to(scope).at_start(add)
        with collected() as timings:
            return await self._app(scope, receive, send)


def add_timing(scope: Scope, name: str, seconds: float) -> None:
    """Notes that the part `name` (a token, such as `db`) of this request took `seconds`."""
    scope.setdefault("modular_agent.timings", []).append(b"%s;dur=%.2f" % (name.encode(), seconds * 1000))
