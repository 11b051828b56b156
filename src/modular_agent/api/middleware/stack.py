"""The order in which a request passes the middleware, outermost first."""

from collections.abc import Sequence
from dataclasses import field
from typing import Final

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from modular_agent.api.answer import Answering
from modular_agent.api.errors import ErrorHandlers
from modular_agent.api.middleware.access_log import AccessLog
from modular_agent.api.middleware.body_limit import BodyLimit
from modular_agent.api.middleware.drain import Drain, Gate
from modular_agent.api.middleware.identity import Identity
from modular_agent.api.middleware.origin import OriginCheck
from modular_agent.api.middleware.rate_limit import RateLimit, Rates
from modular_agent.api.middleware.request_id import RequestId
from modular_agent.api.middleware.request_metrics import RequestFigures, RequestMetrics
from modular_agent.api.middleware.security_headers import SecurityHeaders
from modular_agent.api.middleware.server_timing import ServerTiming
from modular_agent.api.middleware.unexpected import UnexpectedErrors
from modular_agent.kit.clock import Clock, SystemClock
from modular_agent.kit.dataclass import dataclass

__all__ = ["EdgeOptions", "middleware_stack"]

_EXPOSED: Final = (
    "X-Request-ID",
    "Server-Timing",
    "Retry-After",
    "Content-Disposition",
    "RateLimit",
    "RateLimit-Policy",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeOptions:
    """What the edge needs of the settings.

    `hosts` are the names under which the server may be called besides loopback (HOST itself among them);
    `loopback_only` says that it listens on loopback, where no other address can be meant. `rate_limit_per_minute` 0
    sets no limit; `rates`, which may change while the server runs, count before both.
    """

    hosts: Sequence[str] = ()
    loopback_only: bool = True
    cors_origins: Sequence[str] = ()
    cors_credentials: bool = False
    max_body_bytes: int = 10 * 1024 * 1024
    max_json_depth: int = 64
    rate_limit_per_minute: int = 0
    rate_limit_burst: int = 120
    rates: Rates | None = None
    clock: Clock = field(default_factory=SystemClock)


def middleware_stack(
    options: EdgeOptions, *, gate: Gate, handlers: ErrorHandlers, requests: RequestFigures | None = None
) -> list[Middleware]:
    """The middleware for `FastAPI(middleware=...)`, or to be added to it in reverse by `add_middleware`."""
    stack = [
        Middleware(Answering),
        Middleware(RequestId),
        Middleware(RequestMetrics, figures=requests or RequestFigures()),
        Middleware(AccessLog),
        Middleware(ServerTiming),
        Middleware(SecurityHeaders),
        Middleware(OriginCheck, hosts=options.hosts, origins=options.cors_origins, addresses=not options.loopback_only),
    ]
    if options.cors_origins:
        stack.append(
            Middleware(
                CORSMiddleware,
                allow_origins=options.cors_origins,
                allow_credentials=options.cors_credentials,
                allow_methods=("GET", "POST", "PUT", "PATCH", "DELETE"),
                allow_headers=("*",),
                expose_headers=_EXPOSED,
            )
        )
    stack.append(Middleware(Drain, gate=gate))
    if options.rates is not None or options.rate_limit_per_minute:
        rates = options.rates or Rates(options.rate_limit_per_minute, options.rate_limit_burst)
        stack.append(Middleware(RateLimit, rates=rates, clock=options.clock))
    stack.append(Middleware(UnexpectedErrors, handlers=handlers))
    stack.append(Middleware(Identity))
    stack.append(Middleware(BodyLimit, limit=options.max_body_bytes, max_json_depth=options.max_json_depth))
    return stack
