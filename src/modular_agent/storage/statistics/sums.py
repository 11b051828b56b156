"""Sums over a scope, by keys and by periods, each from the coarsest table that has them."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from modular_agent.kit.dataclass import dataclass
from modular_agent.storage.models import SUMS
from modular_agent.storage.rollups import DAY, HOUR, HOURS_OF_DAY
from modular_agent.storage.statistics.scope import Scope

__all__ = [
    "ERRORS",
    "MINUTE",
    "RUN_ENDS",
    "RUN_STARTS",
    "SESSIONS",
    "USAGE",
    "Key",
    "Series",
    "folded",
    "read_sums",
    "regroup",
]

MINUTE: Final = 60_000_000  # µs

Key: TypeAlias = tuple[Any, ...]  # texts, and the number of the period first if there are periods
_Fold: TypeAlias = Callable[[int, int], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Something that is summed up: its tables, its rows, and how a row counts.

    `sums` maps the columns of the tables to what makes them of rows; `keys` those of the keys. `least` and `greatest`
    name columns that are no sums.
    """

    hour: str
    day: str | None = None
    rows: str  # what to select from, joined with the sessions `s`
    time: str  # of a row, in µs
    sums: Mapping[str, str]
    keys: Mapping[str, str]
    least: str = ""
    greatest: str = ""

    def fold(self, name: str) -> str:
        """The SQL that takes values of a column together."""
        if name == self.least:
            return f"min({name})"
        return f"max({name})" if name == self.greatest else f"sum({name})"


_TOKENS: Final = ("prompt_tokens", "completion_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens")
USAGE: Final = Series(
    hour="usage_hour",
    day="usage_day",
    rows="llm_calls c JOIN sessions s ON s.n = c.session_n",
    time="c.ts",
    sums={
        "calls": "count(*)",
        "errors": "sum(c.error_kind IS NOT NULL)",
        **{name: f"sum(c.{name})" for name in _TOKENS},
        "unpriced_tokens": "sum(iif(c.cost_nano IS NULL, c.prompt_tokens + c.completion_tokens, 0))",
        "cost_nano": "coalesce(sum(c.cost_nano), 0)",
        "duration_us": "sum(c.duration_us)",
        "first_token_us": "coalesce(sum(c.first_token_us), 0)",
        "first_tokens": "count(c.first_token_us)",
        "min_us": "min(c.duration_us)",
        "max_us": "max(c.duration_us)",
    },
    keys={"workflow_id": "c.workflow_id", "model": "c.model", "node": "c.node"},
    least="min_us",
    greatest="max_us",
)
assert tuple(USAGE.sums)[: len(SUMS)] == SUMS
_RUNS: Final = "runs c JOIN sessions s ON s.n = c.session_n"
RUN_STARTS: Final = Series(
    hour="run_hour",
    rows=_RUNS,
    time="c.created_at",
    sums={"started": "count(*)"},
    keys={"workflow_id": "s.workflow_id"},
)
RUN_ENDS: Final = Series(
    hour="run_hour",
    rows=_RUNS,
    time="c.ended_at",
    sums={
        **{status: f"sum(c.status = '{status}')" for status in ("completed", "failed", "stopped")},
        "active_us": "sum(c.active_us)",
    },
    keys={"workflow_id": "s.workflow_id"},
)
ERRORS: Final = Series(
    hour="error_hour",
    rows="errors c LEFT JOIN sessions s ON s.n = c.session_n",
    time="c.ts",
    sums={"count": "count(*)"},
    keys={"error_type": "c.error_type", "severity": "c.severity"},
)
SESSIONS: Final = Series(
    hour="session_hour", rows="sessions s", time="s.created_at", sums={"count": "count(*)"}, keys={}
)


def regroup(series: Series, found: Mapping[Key, Sequence[int]], *places: int) -> dict[Key, list[int]]:
    """Sums of all of the series, by fewer keys: those in `places`."""
    fewer: dict[Key, list[Sequence[int]]] = {}
    for key, counts in found.items():
        fewer.setdefault(tuple(key[place] for place in places), []).append(counts)
    return {key: folded(series, rows) for key, rows in fewer.items()}


def folded(series: Series, rows: Sequence[Sequence[int]]) -> list[int]:
    """Several sums of all of the series as one."""
    folds = ({series.least: min, series.greatest: max}.get(name, sum) for name in series.sums)
    return [fold(column) for fold, column in zip(folds, zip(*rows, strict=True), strict=True)]


def read_sums(
    connection: sqlite3.Connection,
    series: Series,
    scope: Scope,
    *,
    keys: Sequence[str] = (),
    unit: int | None = None,
    sums: Sequence[str] | None = None,
) -> dict[Key, list[int]]:
    """The sums (all, or those named) for each key that occurs.

    With `unit`, of DAY, HOUR or MINUTE µs, the first of the key is the number of such periods since the epoch.
    """
    names = tuple(series.sums) if sums is None else tuple(sums)
    folds = [{series.least: min, series.greatest: max}.get(name) for name in names]
    found: dict[Key, list[int]] = {}
    width = len(keys) + (unit is not None)
    for text, values in _statements(series, scope, keys, unit, names):
        for row in connection.execute(text, values):
            if None in row[width:]:
                continue  # a sum of nothing
            _add(found, row[:width], row[width:], folds)
    return {key: counts for key, counts in found.items() if any(counts)}


def _add(found: dict[Key, list[int]], key: Key, counts: Sequence[int], folds: Sequence[_Fold | None]) -> None:
    """Adds the counts to those of the key, or takes both together by the fold of their place."""
    known = found.get(key)
    if known is None:
        found[key] = list(counts)
    else:
        pairs = zip(folds, known, counts, strict=True)
        found[key] = [old + new if fold is None else fold(old, new) for fold, old, new in pairs]


def _statements(
    series: Series, scope: Scope, keys: Sequence[str], unit: int | None, names: Sequence[str]
) -> Iterator[tuple[str, list[Any]]]:
    summed = scope.session_n is None
    pieces = scope.pieces(
        days=summed and series.day is not None and unit in (None, DAY), hours=summed and unit in (None, HOUR, DAY)
    )
    folded = [series.fold(name) for name in names]
    by_day = ["day"] if unit is not None else []
    by_hour = [] if unit is None else ["hour"] if unit == HOUR else [f"hour / {HOURS_OF_DAY}"]
    for table, column, ranges, by in (
        (series.day, "day", pieces.days, by_day),
        (series.hour, "hour", pieces.hours, by_hour),
    ):
        for first, last in ranges:
            condition, values = f"{column} >= ? AND {column} < ?", [first, last]
            if scope.tenant is not None:
                condition, values = f"{condition} AND tenant = ?", [*values, scope.tenant]
            yield _select([*by, *keys], folded, f"{table} WHERE {condition}"), values
    by_row = [] if unit is None else [f"{series.time} / {unit}"]
    expressions = [*by_row, *(series.keys[key] for key in keys)]
    condition, values = scope.condition(series.time)
    for first, last in pieces.edges:
        source = f"{series.rows} WHERE {condition}"
        yield _select(expressions, [series.sums[name] for name in names], source), [*values, first, last]


def _select(keys: Sequence[str], sums: Sequence[str], source: str) -> str:
    group = f" GROUP BY {', '.join(str(place + 1) for place in range(len(keys)))}" if keys else ""
    return f"SELECT {', '.join([*keys, *sums])} FROM {source}{group}"
