"""Time as a collaborator, so that tests can make it jump."""

import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Protocol

__all__ = ["Clock", "SystemClock", "rfc3339", "stamp", "utc_datetime", "within_calendar"]

MICROSECONDS: Final = 1_000_000
LATEST: Final = 253_402_300_799_999_999  # µs: the end of the year 9999


class Clock(Protocol):
    """Where the product reads the time from."""

    def now_us(self) -> int:
        """Microseconds since 1970-01-01T00:00:00Z; may jump in either direction."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary point; never goes back."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now_us(self) -> int:
        return time.time_ns() // 1_000

    def monotonic(self) -> float:
        return time.monotonic()


def utc_datetime(us: int) -> datetime:
    """The aware UTC time of `us` microseconds since the epoch."""
    seconds, rest = divmod(us, MICROSECONDS)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest)


def within_calendar(us: int) -> int:
    """The nearest of the times that records can have and that can be written down: 1970 to 9999.

    With its offset, a time of the year 1 or 9999 is in one that has no date.
    """
    return min(max(us, 0), LATEST)


def rfc3339(us: int) -> str:
    """`us` microseconds since the epoch as `2025-10-22T17:48:00.000000Z` (RFC 3339, always 27 characters)."""
    seconds, rest = divmod(us, MICROSECONDS)
    return f"{_to_the_second(seconds)}.{rest:06d}Z"


@lru_cache(maxsize=256)
def stamp(us: int) -> bytes:
    """The same as bytes.

    Cached because all records of a transaction have one time, which is written down in their lines and events.
    """
    return rfc3339(us).encode()


@lru_cache(maxsize=1024)
def _to_the_second(seconds: int) -> str:
    """Cached because most times that are written down within a second are of that second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
