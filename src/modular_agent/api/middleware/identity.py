"""Who asks: a request that presents an API key is made in its name, or refused.

A key says to whom a run is charged; it does not open anything that is closed without one.
"""

from typing import Final, cast

from starlette.types import ASGIApp, Receive, Scope, Send

from modular_agent.api.errors import problem_response
from modular_agent.domain.auth import ApiKeyInvalid, ApiKeys

__all__ = ["API_KEY", "Identity"]

API_KEY: Final = "api_key_id"  # in `scope["state"]`
UNAUTHENTICATED: Final = 4401  # close code of a WebSocket


class Identity:
    """Sets `scope["state"]["api_key_id"]` where `Authorization: Bearer` or `X-API-Key` presents a key.

    One that is unknown or revoked is answered with 401; a WebSocket is closed with 4401.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        secret = _presented(scope) if scope["type"] in ("http", "websocket") else None
        if secret is None:
            return await self._app(scope, receive, send)
        keys = cast(ApiKeys, scope["app"].state.runtime.keys)
        try:
            scope.setdefault("state", {})[API_KEY] = keys.identify(secret).key_id
        except ApiKeyInvalid as error:
            return await _refuse(scope, receive, send, error)
        return await self._app(scope, receive, send)


def _presented(scope: Scope) -> str | None:
    """The key in the headers; `Authorization` with another scheme is somebody else's."""
    found: str | None = None
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, given = value.decode("latin-1").partition(" ")
            if scheme.lower() == "bearer":
                return given.strip()
        elif name == b"x-api-key":
            found = value.decode("latin-1").strip()
    return found


async def _refuse(scope: Scope, receive: Receive, send: Send, error: ApiKeyInvalid) -> None:
    if scope["type"] == "websocket":  # a close code reaches the client only after the handshake
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": UNAUTHENTICATED, "reason": error.code})
        return
    response = problem_response(scope, error)
    response.headers["WWW-Authenticate"] = "Bearer"
    await response(scope, receive, send)
