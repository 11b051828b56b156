"""Search for a piece of text with LIKE, taken literally."""

from typing import Final

__all__ = ["like_pattern"]

_NOWHERE: Final = "\\"  # an escape of nothing


def like_pattern(search: str) -> str:
    """The pattern for `LIKE ? ESCAPE '\\'` that finds `search` anywhere; `%`, `_` and `\\` in it mean themselves.

    A text ends for `LIKE` at a NUL, and so does a pattern: what holds one is found nowhere.
    """
    if "\0" in search:
        return _NOWHERE
    escaped = search.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"
