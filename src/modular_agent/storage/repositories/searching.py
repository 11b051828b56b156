"""Search for a piece of text with LIKE, taken literally."""

__all__ = ["like_pattern"]


def like_pattern(search: str) -> str:
    """The pattern for `LIKE ? ESCAPE '\\'` that finds `search` anywhere; `%`, `_` and `\\` in it mean themselves."""
    escaped = search.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"
