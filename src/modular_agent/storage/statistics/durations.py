"""Histograms of durations over a scope."""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias, cast

import orjson

from modular_agent.storage.rollups import DAY, OF_WEEK, WEEK, buckets
from modular_agent.storage.statistics.histograms import histogram_of, histograms_of
from modular_agent.storage.statistics.scope import FOREVER, Scope

__all__ = ["Dimension", "Histograms", "Measure", "read_durations"]

Measure: TypeAlias = Literal["response", "first_token", "run"]
Dimension: TypeAlias = Literal["all", "model", "node"]  # of runs: all; of model calls: the others
Place: TypeAlias = tuple[Measure, Dimension, str]  # the last is a key of the dimension
Histograms: TypeAlias = dict[Place, int]  # as numbers, see `histograms`

# Of the rows of a measure: their time, where they are, the same with their sessions; and the duration in them.
_CALLS: Final = ("c.ts", "llm_calls c", "llm_calls c JOIN sessions s ON s.n = c.session_n")
_RUNS: Final = ("c.ended_at", "runs c", "runs c JOIN sessions s ON s.n = c.session_n")
_ROWS: Final[dict[str, tuple[str, str, str]]] = {"response": _CALLS, "first_token": _CALLS, "run": _RUNS}
_DURATIONS: Final = {  # at least 1 µs; null stays null
    "response": "max(c.duration_us, 1)",
    "first_token": "max(c.first_token_us, 1)",
    "run": "max(c.active_us, 1)",
}
MOST: Final = 2  # days of a week that are not wanted, when the week is read whole
_KEYS: Final = {"all": "''", "model": "c.model", "node": "c.node"}


class _Period(NamedTuple):
    """Days from the first to the last (excluded), under the name of the measure for days or for weeks: to add (1), or
    to take away (-1)."""

    name: str
    first: int
    last: int
    sign: int


def read_durations(
    connection: sqlite3.Connection, scope: Scope, wanted: Sequence[tuple[Measure, Dimension]]
) -> Histograms:
    """The histograms of each measure by each dimension, one for each key.

    A day that the range cuts is read from its rows, or from its histogram less the rows outside: whichever are fewer.
    """
    found: Histograms = {}
    rows = [(scope.first, scope.last, 1)]
    days: list[tuple[int, int]] = []
    if scope.session_n is None:
        days, rows = _plan(scope.first, _last(connection, scope, wanted))
    for measure, dimension in wanted:
        for period in (each for first, last in days for each in _periods(measure, first, last)):
            _add_days(connection, found, scope, (measure, dimension), period)
    for begin, end, sign in rows:
        for times in {_ROWS[measure] for measure, _ in wanted}:
            chosen = [pair for pair in wanted if _ROWS[pair[0]] == times]
            _add_rows(connection, found, scope, chosen, (begin, end, sign))
    return found


def _last(connection: sqlite3.Connection, scope: Scope, wanted: Sequence[tuple[Measure, Dimension]]) -> int:
    """The end of the range; where nothing comes after it, that of the last day: it is not cut then."""
    if any(_ROWS[measure] != _CALLS for measure, _ in wanted):
        return scope.last
    (newest,) = connection.execute("SELECT max(ts) FROM llm_calls").fetchone()
    return scope.last if newest is None or newest >= scope.last else (newest // DAY + 1) * DAY


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


def _periods(measure: Measure, first: int, last: int) -> Iterator[_Period]:
    """The days from the first to the last (excluded) as whole weeks and single days.

    A week of which most days are wanted is read whole, and the others are taken away.
    """
    begin, end = first // WEEK * WEEK, -(-last // WEEK) * WEEK
    if first - begin > MOST:
        begin += WEEK
    if end - last > MOST:
        end -= WEEK
    if measure == "run" or begin >= end:
        yield _Period(measure, first, last, 1)
        return
    yield _Period(f"{measure}{OF_WEEK}", begin, end, 1)
    yield _Period(measure, min(first, begin), max(first, begin), 1 if first < begin else -1)
    yield _Period(measure, min(last, end), max(last, end), 1 if end < last else -1)


def _add_days(
    connection: sqlite3.Connection,
    found: Histograms,
    scope: Scope,
    wanted: tuple[Measure, Dimension],
    period: _Period,
) -> None:
    """Adds histograms of days or weeks: each comes as one value, in the order of the table's key."""
    measure, dimension = wanted
    if period.first == period.last:
        return
    tenant, values = ("", []) if scope.tenant is None else (" AND tenant = ?", [scope.tenant])
    text = (
        "SELECT key, json_group_array(bucket), json_group_array(count) FROM histogram_day"
        f" WHERE measure = ? AND dimension = ? AND day >= ? AND day < ?{tenant} GROUP BY day, tenant, key"
    )
    for key, numbers, counts in connection.execute(text, [period.name, dimension, period.first, period.last, *values]):
        histogram = histogram_of(orjson.loads(numbers), orjson.loads(counts))
        _add(found, (measure, dimension, key), period.sign * histogram)


def _add_rows(
    connection: sqlite3.Connection,
    found: Histograms,
    scope: Scope,
    wanted: Sequence[tuple[Measure, Dimension]],
    part: tuple[int, int, int],
) -> None:
    """Adds the rows from the first of `part` to the second, or with -1 as the third takes them away."""
    begin, end, sign = part
    time, rows, joined = _ROWS[wanted[0][0]]
    condition, values = scope.condition(time)
    source = rows if scope.tenant is None and scope.session_n is None else joined
    names = list(dict.fromkeys(name for pair in wanted for name in (_KEYS[pair[1]], _DURATIONS[pair[0]])))
    row = connection.execute(
        f"SELECT {', '.join(f'json_group_array({name})' for name in names)} FROM {source} WHERE {condition}",
        [*values, begin, end],
    ).fetchone()
    columns = {name: orjson.loads(value) for name, value in zip(names, row, strict=True)}
    numbers = {measure: _numbers(columns[_DURATIONS[measure]]) for measure, _ in wanted}
    for measure, dimension in wanted:
        keys = cast("list[str]", columns[_KEYS[dimension]])
        counted = numbers[measure]
        if None in counted:
            keys = [key for key, number in zip(keys, counted, strict=True) if number is not None]
            counted = [number for number in counted if number is not None]
        for key, histogram in histograms_of(keys, cast("list[int]", counted)).items():
            _add(found, (measure, dimension, key), sign * histogram)


def _numbers(durations: list[int | None]) -> list[int | None]:
    """The bucket of each duration, None of None."""
    if None not in durations:
        return list(buckets(cast("list[int]", durations)))
    numbers = buckets(us for us in durations if us is not None)
    return [None if us is None else next(numbers) for us in durations]


def _add(found: Histograms, place: Place, histogram: int) -> None:
    found[place] = found.get(place, 0) + histogram
