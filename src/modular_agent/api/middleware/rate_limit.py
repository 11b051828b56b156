"""So many requests per minute and address: a token bucket each (`RateLimit` headers say how much is left)."""

import ipaddress
import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modular_agent.api.errors import TooManyRequests, problem_response
from modular_agent.kit.clock import Clock

__all__ = ["RateLimit", "Rates"]

MAX_ADDRESSES: Final = 10_000  # the longest silent one is forgotten: its bucket would be full again anyway
_EXEMPT: Final = frozenset({"/health", "/ready", "/metrics"})


@dataclass(slots=True)
class Rates:
    """Requests per minute and address, `burst` of them at once; 0 sets no limit. May change while requests come."""

    per_minute: int
    burst: int

    @property
    def per_second(self) -> float:
        return self.per_minute / 60


class RateLimit:
    """Answers 429 with `Retry-After` to an address (an IPv6 network of 64 bits) beyond the `rates`.

    Loopback addresses are exempt. A WebSocket handshake counts as one request.
    """

    def __init__(self, app: ASGIApp, *, rates: Rates, clock: Clock) -> None:
        self._app = app
        self._rates = rates
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # address: tokens, when (monotonic)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client")
        limited = scope["type"] in ("http", "websocket") and self._rates.per_minute > 0
        if not limited or client is None or scope["path"] in _EXEMPT:
            return await self._app(scope, receive, send)
        address = _network(client[0])
        if address is None:
            return await self._app(scope, receive, send)
        left = self._take(address)
        if left >= 0:
            return await self._app(scope, receive, self._announce(send, left))
        error = TooManyRequests(limit=self._rates.per_minute, retry_after=-left / self._rates.per_second)
        if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
            return await send({"type": "websocket.close", "code": 1008, "reason": error.code})
        return await problem_response(scope, error)(scope, receive, self._announce(send, left))

    def _take(self, address: str) -> float:
        """Takes a token of the address; answers how many are left, negative (and none taken) when there was none."""
        now, burst = self._clock.monotonic(), float(self._rates.burst)
        tokens, since = self._buckets.pop(address, (burst, now))
        left = min(burst, tokens + (now - since) * self._rates.per_second) - 1
        self._buckets[address] = (left if left >= 0 else left + 1, now)
        if len(self._buckets) > MAX_ADDRESSES:
            self._buckets.popitem(last=False)
        return left

    def _announce(self, send: Send, left: float) -> Send:
        rate, burst = self._rates.per_second, self._rates.burst
        reset = math.ceil((burst - max(left, 0)) / rate)
        value = b'"default";r=%d;t=%d' % (max(0, int(left)), reset)
        policy = b'"default";q=%d;w=%d' % (burst, math.ceil(burst / rate))

        async def send_with_limits(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = ((b"ratelimit-policy", policy), (b"ratelimit", value))
                message["headers"] = [*message.get("headers", ()), *extra]
            await send(message)

        return send_with_limits


def _network(address: str) -> str | None:
    """What is counted together with `address`; None for loopback."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address  # a test client's name, a socket's path
    if ip.is_loopback:
        return None
    return address if ip.version == 4 else str(int(ip) >> 64)
