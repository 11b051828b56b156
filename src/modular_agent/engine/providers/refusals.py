"""What providers say when they refuse: the shapes of their error objects, and what they mean.

OpenAI and most: `{"error": {"message", "type", "code"}}`; Anthropic: `{"type": "error", "error": {"type", "message"}}`;
Google: the same in a list, with `status` and `details[].retryDelay`; Ollama: `{"error": "text"}`; vLLM:
`{"object": "error", "message", "type", "code"}`; FastAPI servers: `{"detail": ...}`.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, cast

import orjson

from modular_agent.engine.providers.errors import ProviderErrorKind
from modular_agent.kit.dataclass import dataclass

__all__ = ["Refusal", "error_object", "read_refusal", "reason_of_status", "understand"]

_STATUSES: Final[dict[int, ProviderErrorKind]] = {
    401: ProviderErrorKind.AUTHENTICATION,
    402: ProviderErrorKind.PERMISSION,  # no credit left
    403: ProviderErrorKind.PERMISSION,
    404: ProviderErrorKind.NOT_FOUND,
    405: ProviderErrorKind.NOT_FOUND,
    408: ProviderErrorKind.TIMEOUT,
    409: ProviderErrorKind.OVERLOADED,
    425: ProviderErrorKind.OVERLOADED,
    429: ProviderErrorKind.RATE_LIMITED,
}

_NAMES: Final[dict[str, ProviderErrorKind]] = {
    "context_length_exceeded": ProviderErrorKind.CONTEXT_LENGTH,
    "content_filter": ProviderErrorKind.CONTENT_FILTER,
    "content_policy_violation": ProviderErrorKind.CONTENT_FILTER,
    "data_inspection_failed": ProviderErrorKind.CONTENT_FILTER,  # Qwen
    "datainspectionfailed": ProviderErrorKind.CONTENT_FILTER,
    "insufficient_quota": ProviderErrorKind.RATE_LIMITED,
    "rate_limit_exceeded": ProviderErrorKind.RATE_LIMITED,
    "rate_limit_error": ProviderErrorKind.RATE_LIMITED,
    "resource_exhausted": ProviderErrorKind.RATE_LIMITED,
    "overloaded_error": ProviderErrorKind.OVERLOADED,
    "api_error": ProviderErrorKind.OVERLOADED,
    "server_error": ProviderErrorKind.OVERLOADED,
    "internal_server_error": ProviderErrorKind.OVERLOADED,
    "internalservererror": ProviderErrorKind.OVERLOADED,
    "unavailable": ProviderErrorKind.OVERLOADED,
    "internal": ProviderErrorKind.OVERLOADED,
    "timeout_error": ProviderErrorKind.TIMEOUT,
    "deadline_exceeded": ProviderErrorKind.TIMEOUT,
    "authentication_error": ProviderErrorKind.AUTHENTICATION,
    "invalid_api_key": ProviderErrorKind.AUTHENTICATION,
    "unauthenticated": ProviderErrorKind.AUTHENTICATION,
    "permission_error": ProviderErrorKind.PERMISSION,
    "permission_denied": ProviderErrorKind.PERMISSION,
    "billing_error": ProviderErrorKind.PERMISSION,
    "not_found_error": ProviderErrorKind.NOT_FOUND,
    "model_not_found": ProviderErrorKind.NOT_FOUND,
    "invalid_request_error": ProviderErrorKind.BAD_REQUEST,
    "invalid_argument": ProviderErrorKind.BAD_REQUEST,
    "badrequesterror": ProviderErrorKind.BAD_REQUEST,
    "request_too_large": ProviderErrorKind.BAD_REQUEST,
}

# A quota that is used up does not come back within the seconds a retry waits.
_FINAL: Final = frozenset({"insufficient_quota"})

_TOO_LONG: Final = re.compile(
    r"(?i)maximum context length|context[ _-]?(?:length|window)|(?:prompt|input) is too long|too many (?:input )?tokens"
    r"|exceeds? the (?:maximum|available) (?:number of (?:input )?tokens|context)|input token count .* exceeds"
    r"|range of input length"
)
_DELAY: Final = re.compile(r"^(\d+(?:\.\d+)?)s$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An error object, understood. `retryable` None leaves it to the reason; `retry_after` is in seconds."""

    reason: ProviderErrorKind
    detail: str
    retryable: bool | None = None
    retry_after: float | None = None


def reason_of_status(status: int) -> ProviderErrorKind:
    """The reason that an HTTP status of 400 or above stands for."""
    if status >= 500:
        return ProviderErrorKind.TIMEOUT if status == 504 else ProviderErrorKind.OVERLOADED
    return _STATUSES.get(status, ProviderErrorKind.BAD_REQUEST)


def read_refusal(body: bytes, *, fallback: ProviderErrorKind) -> Refusal:
    """What the body of a failed answer says; `fallback` is the reason where it says nothing of use."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return Refusal(reason=fallback, detail=body.decode("utf-8", "replace"))
    error = error_object(value)
    if error is None:
        return Refusal(reason=fallback, detail=body.decode("utf-8", "replace"))
    return understand(error, fallback=fallback)


def error_object(value: Any) -> Mapping[str, Any] | None:  # any JSON value a server may send
    """The error object in `value`, with its text under `message`; None if there is none."""
    if isinstance(value, list) and value:
        value = cast("list[Any]", value)[0]
    if not isinstance(value, dict):
        return None
    holder = cast("dict[str, Any]", value)
    error = holder.get("error")
    if error:
        return cast("dict[str, Any]", error) if isinstance(error, dict) else {"message": str(error), **_code(holder)}
    if detail := holder.get("detail"):
        return {"message": detail if isinstance(detail, str) else orjson.dumps(detail).decode()}
    bare = isinstance(holder.get("message"), str) and "choices" not in holder and "content" not in holder
    return holder if bare or holder.get("object") == "error" else None


def _code(holder: Mapping[str, Any]) -> dict[str, Any]:
    return {"code": holder["code"]} if holder.get("code") else {}


def understand(error: Mapping[str, Any], *, fallback: ProviderErrorKind) -> Refusal:
    """The reason that the names in an error object give, else `fallback`; a too long prompt is known by its text."""
    detail = str(error.get("message") or error.get("type") or error.get("code") or "")
    names = [str(error[key]).lower() for key in ("code", "type", "status") if error.get(key)]
    reason = fallback
    for name in names:
        if name in _NAMES:
            reason = _NAMES[name]
            break
        if name.isdigit() and 400 <= int(name) < 600:
            reason = reason_of_status(int(name))
            break
    # A status says more than the vague name that comes with it: OpenAI calls a wrong key an invalid request too.
    if reason is ProviderErrorKind.BAD_REQUEST and fallback is not ProviderErrorKind.BAD_RESPONSE:
        reason = fallback
    if reason in (ProviderErrorKind.BAD_REQUEST, ProviderErrorKind.OVERLOADED) and _TOO_LONG.search(detail):
        reason = ProviderErrorKind.CONTEXT_LENGTH
    elif reason is ProviderErrorKind.BAD_REQUEST and "API key not valid" in detail:  # Google answers 400
        reason = ProviderErrorKind.AUTHENTICATION
    return Refusal(
        reason=reason,
        detail=detail,
        retryable=False if _FINAL.intersection(names) else None,
        retry_after=_retry_delay(error.get("details")),
    )


def _retry_delay(details: Any) -> float | None:  # Google's `google.rpc.RetryInfo`, if it is one
    if not isinstance(details, list):
        return None
    for detail in cast("list[Any]", details):
        if isinstance(detail, dict):
            delay = cast("dict[str, Any]", detail).get("retryDelay")
            if isinstance(delay, str) and (match := _DELAY.match(delay)):
                return float(match[1])
    return None
