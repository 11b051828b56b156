"""So many requests per minute and subject, the client's address: the `RateLimit` headers say how many are left."""

import asyncio
import ipaddress
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from starlette.types import ASGIApp, Receive, Scope, Send

from modular_agent.api.answer import answer_to
from modular_agent.api.errors import TooManyRequests, problem_response
from modular_agent.kit.clock import Clock

if TYPE_CHECKING:
    from modular_agent.api.middleware.moving_window import MovingWindow, Verdict

__all__ = ["RateLimit", "Rates", "address_of"]

_EXEMPT: Final = frozenset({"/health", "/ready", "/metrics"})
Subject = Callable[[Scope], str | None]


@dataclass(slots=True)
class Rates:
    """Requests per minute and subject, `burst` of them at once; 0 sets no limit. May change while requests come.

    Both as one moving window: `burst` requests in the time in which the rate brings as many.
    """

    per_minute: int
    burst: int

    @property
    def seconds(self) -> float:
        """How long the window is."""
        return self.burst * 60 / self.per_minute


def address_of(scope: Scope) -> str | None:
    """The client's address (of IPv6 a network of 64 bits); None for loopback, which has no limit."""
    client = scope.get("client")
    return None if client is None else _network(client[0])


class RateLimit:
    """Answers 429 with `Retry-After` to a subject beyond the `rates`; one that `subject_of` does not name has no limit.

    A WebSocket handshake counts as one request.
    """

    def __init__(self, app: ASGIApp, *, rates: Rates, clock: Clock, subject_of: Subject = address_of) -> None:
        self._app = app
        self._rates = rates
        self._clock = clock
        self._subject_of = subject_of
        self._making: asyncio.Future[MovingWindow] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        rates = self._rates
        limited = scope["type"] in ("http", "websocket") and rates.per_minute > 0
        subject = self._subject_of(scope) if limited and scope["path"] not in _EXEMPT else None
        if subject is None:
            return await self._app(scope, receive, send)
        window = await self._window()
        verdict = await window.hit(subject, amount=rates.burst, seconds=rates.seconds)
        if scope["type"] == "http":
            _announce(scope, rates, verdict)
        if verdict.let_in:
            return await self._app(scope, receive, send)
        error = TooManyRequests(limit=rates.per_minute, retry_after=verdict.seconds)
        if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
            return await send({"type": "websocket.close", "code": 1008, "reason": error.code})
        return await problem_response(scope, error)(scope, receive, send)

    async def _window(self) -> "MovingWindow":
        """Made off the loop when the first limited request comes: to import the library takes some 70 ms."""
        if self._making is None:
            self._making = asyncio.ensure_future(asyncio.to_thread(_make, self._clock))
        return await asyncio.shield(self._making)


def _make(clock: Clock) -> "MovingWindow":
    from modular_agent.api.middleware.moving_window import MovingWindow

    return MovingWindow(clock)


def _announce(scope: Scope, rates: Rates, verdict: "Verdict") -> None:
    policy = b'"default";q=%d;w=%d' % (rates.burst, math.ceil(rates.seconds))
    value = b'"default";r=%d;t=%d' % (verdict.left, math.ceil(verdict.seconds))
    extra = ((b"ratelimit-policy", policy), (b"ratelimit", value))
    answer_to(scope).at_start(lambda headers: headers.extend(extra))


@lru_cache(maxsize=1024)
def _network(address: str) -> str | None:
    """What is counted together with `address`; None for loopback."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address  # a test client's name, a socket's path
    if ip.is_loopback:
        return None
    return address if ip.version == 4 else str(int(ip) >> 64)
