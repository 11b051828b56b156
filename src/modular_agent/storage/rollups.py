"""What the writer counts beside the rows: sums by hour and day, and histograms for percentiles.

Facts of a whole group are added up first, so that a transaction touches each sum once. Histograms have logarithmic
buckets of 2 % (the middle of a bucket is at most 1 % from any value in it), one histogram per dimension and not per
product of dimensions.
"""

import math
from collections.abc import Iterable, Iterator
from operator import add
from typing import Any, Final

from modular_agent.storage.models import (
    SUMS,
    error_hour,
    errors,
    histogram_day,
    llm_calls,
    usage_day,
    usage_hour,
    usage_session,
)
from modular_agent.storage.models.table import Table

__all__ = [
    "DAY",
    "FACT_TIMES",
    "HOUR",
    "HOURS_OF_DAY",
    "OF_WEEK",
    "WEEK",
    "Rollups",
    "bucket",
    "bucket_value",
    "buckets",
]

HOUR: Final = 3_600_000_000  # µs
HOURS_OF_DAY: Final = 24
DAY: Final = HOUR * HOURS_OF_DAY
WEEK: Final = 7  # days; weeks are counted from the epoch, so that they begin on Thursdays
OF_WEEK: Final = ":week"
FACTOR: Final = 1.02
_SCALE: Final = 1 / math.log(FACTOR)
_NEVER_LEAST: Final = 2**62
_NEVER_GREATEST: Final = -1
_EXTREMES: Final = 2

# Where the tables of facts have their time and their session.
FACT_TIMES: Final = {table: list(table.columns.keys()).index("ts") for table in (llm_calls, errors)}
FACT_SESSION: Final = 1


def bucket(us: int) -> int:
    """The bucket of a duration: the `b` with `1.02 ** (b - 1) < us <= 1.02 ** b`; below 1 µs it is bucket 0."""
    return math.ceil(math.log(us) * _SCALE) if us > 1 else 0


def buckets(durations: Iterable[int]) -> Iterator[int]:
    """The bucket of each duration, all of at least 1 µs: without a call of Python for each."""
    return map(math.ceil, map(_SCALE.__mul__, map(math.log, durations)))


def bucket_value(number: int) -> float:
    """The value, in µs, that stands for all of a bucket: at most 1 % from each."""
    return 2 * FACTOR**number / (1 + FACTOR)


class Rollups:
    """Sums to be added to those in the tables, or with `sign` -1 to be taken away from them."""

    __slots__ = ("_errors", "_histogram", "_sessions", "_sign", "_usage")

    def __init__(self, *, sign: int = 1) -> None:
        self._sign = sign
        self._usage: dict[tuple[int, str, str, str, str], list[int]] = {}
        self._sessions: dict[tuple[int, str], list[int]] = {}
        self._histogram: dict[tuple[str, str, int, str, str, int], int] = {}
        self._errors: dict[tuple[int, str, str, str], int] = {}

    def clear(self) -> None:
        for sums in (self._usage, self._sessions, self._histogram, self._errors):
            sums.clear()

    def count(self, table: Table, tenant: str, row: tuple[Any, ...]) -> None:
        """Counts a fact: a row of `llm_calls` or `errors`."""
        if table is llm_calls:
            self._count_call(tenant, row)
        else:
            self._count_error(tenant, row)

    def _count_call(self, tenant: str, row: tuple[Any, ...]) -> None:
        session_n, _, ts, workflow, node, _, model, us, first_us, *tokens, cost, _, error, _ = row[1:]
        unpriced = tokens[0] + tokens[1] if cost is None else 0
        first = (0, 0) if first_us is None else (first_us, 1)
        values = [1, 0 if error is None else 1, *tokens, unpriced, cost or 0, us, *first]
        if self._sign < 0:
            values = [-value for value in values]
        self._add_usage((ts // HOUR, tenant, workflow, model, node), values, us, us)
        self._add_session((session_n, model), values)
        day = ts // DAY
        number = bucket(us)
        self._count_duration("response", "model", day, tenant, model, number)
        self._count_duration("response", "node", day, tenant, node, number)
        if first_us is not None:
            self._count_duration("first_token", "model", day, tenant, model, bucket(first_us))

    def _add_usage(self, key: tuple[int, str, str, str, str], values: list[int], least: int, greatest: int) -> None:
        found = self._usage.get(key)
        if found is None:
            self._usage[key] = [*values, least, greatest]
        else:
            self._usage[key] = [*map(add, found, values), min(found[-2], least), max(found[-1], greatest)]

    def _add_session(self, key: tuple[int, str], values: list[int]) -> None:
        found = self._sessions.get(key)
        self._sessions[key] = values if found is None else list(map(add, found, values))

    def _count_duration(self, measure: str, dimension: str, day: int, tenant: str, key: str, number: int) -> None:
        place = (measure, dimension, day, tenant, key, number)
        self._histogram[place] = self._histogram.get(place, 0) + self._sign

    def _count_error(self, tenant: str, row: tuple[Any, ...]) -> None:
        key = (row[_ERROR_TS] // HOUR, tenant, row[_ERROR_TYPE], row[_ERROR_SEVERITY])
        self._errors[key] = self._errors.get(key, 0) + self._sign

    def change_cost(self, tenant: str, row: tuple[Any, ...], cost_nano: int | None) -> None:
        """Counts what another cost changes in the sums of a call (a row of `llm_calls`)."""
        session_n, ts, old = row[1], row[3], row[_CALL_COST]
        tokens = row[10] + row[11]
        values = [0] * len(_SUM_PLACES)
        values[_SUM_PLACES["cost_nano"]] = (cost_nano or 0) - (old or 0)
        values[_SUM_PLACES["unpriced_tokens"]] = tokens * ((cost_nano is None) - (old is None))
        self._add_usage((ts // HOUR, tenant, row[4], row[7], row[5]), values, _NEVER_LEAST, _NEVER_GREATEST)
        self._add_session((session_n, row[7]), values)

    def rows(self) -> Iterator[tuple[Table, list[tuple[Any, ...]]]]:
        """The rows to be added (`Conflict.ADD`) to each table."""
        if self._usage:
            yield usage_hour, [(*key, *self._ready(values)) for key, values in self._usage.items()]
            yield usage_day, [(*key, *self._ready(values)) for key, values in self._days().items()]
        if self._sessions:
            yield usage_session, [(*key, *values) for key, values in self._sessions.items()]
        if self._histogram:
            yield histogram_day, [(*key, count) for key, count in (*self._histogram.items(), *self._weeks().items())]
        if self._errors:
            yield error_hour, [(*key, count) for key, count in self._errors.items()]

    def extremes(self) -> dict[tuple[int, str, str, str, str], tuple[int, int]]:
        """The least and the greatest duration that were counted, by the key of `usage_hour`."""
        return {key: (values[-2], values[-1]) for key, values in self._usage.items()}

    def hours(self) -> set[int]:
        """The hours (since the epoch) of the model calls that were counted."""
        return {key[0] for key in self._usage}

    def _days(self) -> dict[tuple[int, str, str, str, str], list[int]]:
        days: dict[tuple[int, str, str, str, str], list[int]] = {}
        for (hour, tenant, workflow, model, node), values in self._usage.items():
            key = (hour // HOURS_OF_DAY, tenant, workflow, model, node)
            found = days.get(key)
            if found is None:
                days[key] = values
            else:
                sums = map(add, found[:-2], values[:-2])
                days[key] = [*sums, min(found[-2], values[-2]), max(found[-1], values[-1])]
        return days

    def _weeks(self) -> dict[tuple[str, str, int, str, str, int], int]:
        weeks: dict[tuple[str, str, int, str, str, int], int] = {}
        for (measure, dimension, day, tenant, name, number), count in self._histogram.items():
            key = (f"{measure}{OF_WEEK}", dimension, day - day % WEEK, tenant, name, number)
            weeks[key] = weeks.get(key, 0) + count
        return weeks

    def _ready(self, values: list[int]) -> list[int]:
        """What is taken away leaves the extremes to be read again."""
        return values if self._sign > 0 else [*values[:-_EXTREMES], _NEVER_LEAST, _NEVER_GREATEST]


_SUM_PLACES: Final = {column: place for place, column in enumerate(SUMS)}
_CALL_COST: Final = list(llm_calls.columns.keys()).index("cost_nano")
_ERROR_TS, _ERROR_TYPE, _ERROR_SEVERITY = (
    list(errors.columns.keys()).index(name) for name in ("ts", "error_type", "severity")
)
