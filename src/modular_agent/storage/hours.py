"""Tags of hours, for the cache: a range of hours has few, and a change in one of them has one of those.

An hour is in one block of each size; a range is covered by the largest blocks that fit.
"""

from typing import Final

__all__ = ["tags_of_hour", "tags_of_hours"]

SIZE: Final = 16  # blocks of one size in one of the next
SIZES: Final = tuple(SIZE**level for level in range(6))  # hours; the largest has more than a hundred years


def tags_of_hour(hour: int) -> tuple[str, ...]:
    """The tags that a change in an hour (since the epoch) changes."""
    return tuple(_tag(hour, size) for size in SIZES)


def tags_of_hours(first: int, last: int) -> tuple[str, ...]:
    """The tags of the hours from the first to the last (excluded)."""
    tags: list[str] = []
    while first < last:
        size = next(size for size in reversed(SIZES) if not first % size and first + size <= last)
        tags.append(_tag(first, size))
        first += size
    return tuple(tags)


def _tag(hour: int, size: int) -> str:
    return f"hour {hour // size} of {size}"
