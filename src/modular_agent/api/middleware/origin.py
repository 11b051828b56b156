"""Without a login, only this server's own names and its own pages may use it.

A page of another site can make a browser send requests to `127.0.0.1`, and a name of an attacker can be made to point
there (DNS rebinding): the `Host` and `Origin` headers, which a page cannot forge, tell both from a friend.
"""

import ipaddress
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from modular_agent.api.errors import ForeignHost, ForeignOrigin, problem_response
from modular_agent.errors import AgentError

__all__ = ["OriginCheck"]

_ANY: Final = "*"
_LOOPBACK_NAMES: Final = frozenset({"localhost", "ip6-localhost"})
_SHOWN: Final = 100  # characters of a foreign header that the answer repeats


class OriginCheck:
    """Refuses (403) requests and WebSocket handshakes with a foreign `Host` or `Origin`.

    Loopback names and addresses are always friends. `hosts` are further names, `*` any. `origins` are those of
    CORS_ORIGINS, `*` any. `addresses`: the server is bound to more than loopback, so that it may be called by any IP
    address (rebinding needs a name). An `Origin` equal to the `Host` is a page of this server.
    """

    def __init__(
        self, app: ASGIApp, *, hosts: Iterable[str] = (), origins: Iterable[str] = (), addresses: bool = False
    ) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)
        self._origins = frozenset(origin.lower() for origin in origins)
        self._addresses = addresses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        host = origin = None
        for name, value in scope["headers"]:
            if name == b"host":
                host = value.decode("latin-1").lower()
            elif name == b"origin":
                origin = value.decode("latin-1").lower()
        error: AgentError | None = None
        if not self._knows_host(host):
            error = ForeignHost(host=(host or "''")[:_SHOWN])
        elif origin is not None and not self._knows_origin(origin, host):
            error = ForeignOrigin(origin=origin[:_SHOWN])
        if error is None:
            return await self._app(scope, receive, send)
        return await _refuse(scope, receive, send, error)

    def _knows_host(self, host: str | None) -> bool:
        if _ANY in self._hosts:
            return True
        name = _name(host or "")
        return name in self._hosts or _is_loopback(name) or (self._addresses and _is_address(name))

    def _knows_origin(self, origin: str, host: str | None) -> bool:
        if _ANY in self._origins or origin in self._origins:
            return True
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        return parts.scheme in ("http", "https") and (parts.netloc == host or _is_loopback(_name(parts.netloc)))


async def _refuse(scope: Scope, receive: Receive, send: Send, error: AgentError) -> None:
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008, "reason": error.code})
        return
    await problem_response(scope, error)(scope, receive, send)


def _name(netloc: str) -> str:
    """The host of `host`, `host:port` or `[v6]:port`."""
    if netloc.startswith("["):
        return netloc[1:].partition("]")[0]
    return netloc.partition(":")[0]


def _is_loopback(name: str) -> bool:
    if name == "127.0.0.1" or name in _LOOPBACK_NAMES or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
