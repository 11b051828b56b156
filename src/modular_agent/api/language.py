"""The language of an answer's texts, as the client prefers it."""

from typing import Final

from starlette.types import Scope

from modular_agent.errors import Language

__all__ = ["language_of", "negotiate"]

DEFAULT: Final[Language] = "en"
_KNOWN: Final[dict[str, Language]] = {"en": "en", "zh": "zh", "*": DEFAULT}
_MAX_RANGES: Final = 32  # a header of more is not from a browser


def negotiate(header: str | None) -> Language:
    """The better of English and Chinese for an `Accept-Language` header (RFC 9110, 12.5.4); English without one."""
    best: Language = DEFAULT
    best_quality = 0.0
    for part in (header or "").split(",")[:_MAX_RANGES]:
        tag, _, parameters = part.partition(";")
        language = _KNOWN.get(tag.strip().lower().partition("-")[0])
        quality = _quality(parameters)
        if language is not None and quality > best_quality:
            best, best_quality = language, quality
    return best


def language_of(scope: Scope) -> Language:
    """As `negotiate`, for the request of `scope`."""
    for name, value in scope["headers"]:
        if name == b"accept-language":
            return negotiate(value.decode("latin-1"))
    return DEFAULT


def _quality(parameters: str) -> float:
    name, _, value = parameters.strip().partition("=")
    if name.strip().lower() != "q":
        return 1.0
    try:
        quality = float(value)
    except ValueError:
        return 0.0
    return quality if 0.0 <= quality <= 1.0 else 0.0
