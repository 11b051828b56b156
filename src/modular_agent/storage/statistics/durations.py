"""Histograms of durations over a scope, and percentiles of them."""

import math
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, Literal, TypeAlias

from modular_agent.storage.rollups import DAY, OF_WEEK, WEEK, bucket, bucket_value
from modular_agent.storage.statistics.scope import FOREVER, Scope

__all__ = ["Dimension", "Histograms", "Measure", "percentile", "read_durations"]

Measure: TypeAlias = Literal["response", "first_token", "run"]
Dimension: TypeAlias = Literal["all", "model", "node"]  # of runs: all; of model calls: the others
Histograms: TypeAlias = dict[tuple[Measure, str], Counter[int]]  # by measure and key of the dimension

# Of a row: its time, its key in a dimension, its duration, where it is.
_CALLS: Final = "llm_calls c JOIN sessions s ON s.n = c.session_n"
_RUNS: Final = "runs c JOIN sessions s ON s.n = c.session_n"
_ROWS: Final[dict[str, tuple[str, str, str]]] = {
    "response": ("c.ts", "c.duration_us", _CALLS),
    "first_token": ("c.ts", "c.first_token_us", _CALLS),
    "run": ("c.ended_at", "c.active_us", _RUNS),
}
_KEYS: Final = {"all": "''", "model": "c.model", "node": "c.node"}


def percentile(counts: Counter[int], share: float) -> float | None:
    """The nearest-rank percentile, in µs, within 1 %; None of nothing."""
    total = counts.total()
    if not total:
        return None
    rank, seen = max(1, math.ceil(share * total)), 0
    for number in sorted(counts):
        seen += counts[number]
        if seen >= rank:
            return bucket_value(number)
    raise AssertionError("the ranks end with the total")


def read_durations(
    connection: sqlite3.Connection, scope: Scope, *, measures: Sequence[Measure], dimension: Dimension
) -> Histograms:
    """The histograms of the measures, one for each key of the dimension.

    A day that the range cuts is read from its rows, or from its histogram less the rows outside: whichever are fewer.
    """
    found: Histograms = {}
    if scope.session_n is not None:
        for measure in measures:
            _add_rows(connection, found, scope, measure, dimension, (scope.first, scope.last), 1)
        return found
    start, end = scope.first, scope.last
    days, rows = _plan(start, end)
    for measure in measures:
        for name, first, last in _periods(measure, days):
            _add_days(connection, found, scope, measure, dimension, (name, first, last))
        for begin, finish, sign in rows:
            _add_rows(connection, found, scope, measure, dimension, (begin, finish), sign)
    return found


def _plan(start: int, end: int) -> tuple[list[tuple[int, int]], list[tuple[int, int, int]]]:
    """Ranges of whole days, and ranges of rows to add (1) or to take away (-1)."""
    if start >= end:
        return [], []
    first, last = start // DAY, -(-end // DAY)
    if last - first == 1 and end - start < DAY // 2:
        return [], [(start, end, 1)]
    days, rows = [first, last], list[tuple[int, int, int]]()
    before, after = start - first * DAY, last * DAY - end
    if before > DAY // 2 and last - first > 1:
        days[0] += 1
        rows.append((start, days[0] * DAY, 1))
    elif before:
        rows.append((first * DAY, start, -1))
    if end < FOREVER and after > DAY // 2 and last - first > 1:
        days[1] -= 1
        rows.append((days[1] * DAY, end, 1))
    elif after and end < FOREVER:
        rows.append((end, last * DAY, -1))
    return ([(days[0], days[1])] if days[0] < days[1] else []), rows


def _periods(measure: Measure, days: list[tuple[int, int]]) -> Iterator[tuple[str, int, int]]:
    """The measure as it is called for days or for weeks, the first day and the last (excluded)."""
    for first, last in days:
        first_week, last_week = -(-first // WEEK) * WEEK, last // WEEK * WEEK
        if measure == "run" or first_week >= last_week:
            yield measure, first, last
        else:
            yield f"{measure}{OF_WEEK}", first_week, last_week
            yield measure, first, first_week
            yield measure, last_week, last


def _add_days(
    connection: sqlite3.Connection,
    found: Histograms,
    scope: Scope,
    measure: Measure,
    dimension: Dimension,
    period: tuple[str, int, int],
) -> None:
    name, first, last = period
    tenant, values = ("", []) if scope.tenant is None else (" AND tenant = ?", [scope.tenant])
    text = (
        "SELECT key, bucket, sum(count) FROM histogram_day WHERE measure = ? AND dimension = ? AND day >= ? AND day < ?"
        f"{tenant} GROUP BY key, bucket"
    )
    for key, number, count in connection.execute(text, [name, dimension, first, last, *values]):
        found.setdefault((measure, key), Counter())[number] += count


def _add_rows(
    connection: sqlite3.Connection,
    found: Histograms,
    scope: Scope,
    measure: Measure,
    dimension: Dimension,
    between: tuple[int, int],
    sign: int,
) -> None:
    time, duration, source = _ROWS[measure]
    condition, values = scope.condition(time)
    text = f"SELECT {_KEYS[dimension]}, {duration} FROM {source} WHERE {condition} AND {duration} IS NOT NULL"
    for key, us in connection.execute(text, [*values, *between]):
        found.setdefault((measure, key), Counter())[bucket(us)] += sign
