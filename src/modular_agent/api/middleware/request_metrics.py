"""How many requests there were, of which route and with which outcome, and how long they took."""

import time
from bisect import bisect_left
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from modular_agent.api.answer import answer_to

__all__ = ["BOUNDS", "RequestFigures", "RequestMetrics"]

# Seconds, each included; what took longer falls behind the last.
BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
UNMATCHED: Final = "(none)"
ABORTED: Final = "aborted"  # no complete answer: the client left, or the task was cancelled
_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})


class RequestFigures:
    """Counts and durations by route template, method and status: as many as there are routes, whatever is asked for.

    `counts` maps (route, method, status) to a number, `durations` (route, method) to a number per bucket and, last, the
    sum in seconds.
    """

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str, str], int] = {}
        self.durations: dict[tuple[str, str], list[float]] = {}
        self.active = 0

    def add(self, route: str, method: str, status: str, seconds: float) -> None:
        """Counts one request that has ended."""
        key = (route, method, status)
        self.counts[key] = self.counts.get(key, 0) + 1
        buckets = self.durations.get((route, method))
        if buckets is None:
            buckets = self.durations[route, method] = [0.0] * (len(BOUNDS) + 2)
        buckets[bisect_left(BOUNDS, seconds)] += 1
        buckets[-1] += seconds


class RequestMetrics:
    """Adds every HTTP request to `figures` when its answer is complete."""

    def __init__(self, app: ASGIApp, *, figures: RequestFigures) -> None:
        self._app = app
        self._figures = figures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        figures = self._figures
        answer = answer_to(scope)
        started = time.perf_counter()
        figures.active += 1
        try:
            await self._app(scope, receive, send)
        finally:
            figures.active -= 1
            method = scope["method"] if scope["method"] in _METHODS else "OTHER"
            outcome = str(answer.status) if answer.complete else ABORTED
            figures.add(_template(scope), method, outcome, time.perf_counter() - started)
        return None


def _template(scope: Scope) -> str:
    """The path of the route that answered, with its parameters by name."""
    template: str | None = getattr(scope.get("route"), "path", None)
    return template or UNMATCHED
