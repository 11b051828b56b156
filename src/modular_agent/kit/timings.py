"""How long the parts of a piece of work took: whoever wants to know collects, whoever does a part notes it."""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["collected", "note"]

_parts: ContextVar[dict[str, float] | None] = ContextVar("parts", default=None)


@contextmanager
def collected() -> Generator[dict[str, float]]:
    """The seconds by part that are noted inside of it, in this task and in those that it starts."""
    parts: dict[str, float] = {}
    token = _parts.set(parts)
    try:
        yield parts
    finally:
        _parts.reset(token)


def note(part: str, seconds: float) -> None:
    """Adds to a part (a token, such as `db`), if anybody collects."""
    parts = _parts.get()
    if parts is not None:
        parts[part] = parts.get(part, 0.0) + seconds
