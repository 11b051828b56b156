"""Times in requests: RFC 3339; without an offset they mean UTC."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from fastapi import Query
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

__all__ = ["EndTime", "StartTime", "Time", "microseconds"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER: Final = re.compile(r"\s*[-+]?[\d._]+(?:[eE][-+]?\d+)?\s*")
_SPACED_OFFSET: Final = re.compile(r"(.*T[\d:.]+) (\d\d:?\d\d)")


def _written(value: object) -> object:
    """A `+` that was not encoded arrives as a space; a number is no time."""
    # A number would be taken for seconds, or for milliseconds.
    if isinstance(value, int | float) or (isinstance(value, str) and _NUMBER.fullmatch(value)):
        raise PydanticCustomError("datetime_parsing", "not a time")
    found = _SPACED_OFFSET.fullmatch(value) if isinstance(value, str) else None
    return f"{found[1]}+{found[2]}" if found else value


def microseconds(time: datetime | None) -> int | None:
    """Microseconds since 1970-01-01T00:00:00Z; a time without offset means UTC."""
    if time is None:
        return None
    aware = time.replace(tzinfo=UTC) if time.tzinfo is None else time
    return (aware - _EPOCH) // timedelta(microseconds=1)


Time = Annotated[datetime, BeforeValidator(_written)]
StartTime = Annotated[
    datetime | None,
    BeforeValidator(_written),
    Query(
        description="From this time on (included). Without an offset it means UTC.",
        openapi_examples={"UTC": {"value": "2025-10-22T17:48:00Z"}, "offset": {"value": "2025-10-23T01:48:00+08:00"}},
    ),
]
EndTime = Annotated[
    datetime | None,
    BeforeValidator(_written),
    Query(
        description="Up to this time (excluded). Without an offset it means UTC.",
        openapi_examples={"UTC": {"value": "2025-10-22T18:00:00Z"}},
    ),
]
