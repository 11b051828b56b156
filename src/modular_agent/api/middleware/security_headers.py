"""What every answer tells a browser so that it does no harm with it."""

from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from modular_agent.api.answer import Header, answer_to

__all__ = ["SecurityHeaders"]

# Answers are data: nothing in them is ever loaded, run or framed. A page (`/docs`, a console) brings its own policy.
_POLICY: Final = (
    b"content-security-policy",
    b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
)
_ALWAYS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)
_TLS: Final = (b"strict-transport-security", b"max-age=31536000")


class SecurityHeaders:
    """Adds the headers; a `Content-Security-Policy` that the answer has already stays. HSTS only behind TLS."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        answer_to(scope).at_start(_add_behind_tls if scope.get("scheme") == "https" else _add)
        return await self._app(scope, receive, send)


def _add(headers: list[Header]) -> None:
    if b"content-security-policy" not in [name for name, _ in headers]:
        headers.append(_POLICY)
    headers += _ALWAYS


def _add_behind_tls(headers: list[Header]) -> None:
    _add(headers)
    headers.append(_TLS)
