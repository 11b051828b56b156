"""What figures of model calls are made of, in parts of a range that do not overlap.

Whole days and hours that have passed hardly ever change, and the ranges that are asked for one after the other consist
of nearly the same ones: those parts are worth keeping. The others are the edges of the range, and what is in progress.
"""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from modular_agent.kit.dataclass import dataclass
from modular_agent.storage.hours import tags_of_hours
from modular_agent.storage.rollups import DAY, HOUR, HOURS_OF_DAY
from modular_agent.storage.statistics.durations import Dimension, Histograms, Measure, read_durations
from modular_agent.storage.statistics.scope import Scope
from modular_agent.storage.statistics.sums import USAGE, Key, folded, read_sums

__all__ = ["SPENT", "TIMINGS", "Part", "Wanted", "joined", "read_part", "split", "tags_of"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which sums of `USAGE`, each by some keys and in periods of a unit, and which histograms."""

    name: str
    sums: Sequence[tuple[Sequence[str], int | None]]
    durations: Sequence[tuple[Measure, Dimension]] = ()


class Part(NamedTuple):
    """Sums and histograms, as they are wanted. Nobody changes one that is kept."""

    sums: tuple[Mapping[Key, Sequence[int]], ...]
    histograms: Histograms


TIMINGS: Final = Wanted(
    "timings", ((("model", "node"), None),), (("response", "model"), ("response", "node"), ("first_token", "model"))
)
SPENT: Final = Wanted("spent", ((("model", "workflow_id"), None), ((), DAY)))


def split(scope: Scope, *, now_us: int) -> tuple[list[Scope], list[Scope]]:
    """The scopes whose parts are worth keeping, and the others: all days as one, and hours of the days that are cut.

    A day in progress that the scope has up to now is not cut: it is read from its sums.
    """
    first, last = -(-scope.first // HOUR), min(scope.last, now_us) // HOUR
    if first >= last or scope.session_n is not None:
        return [], [scope]
    day, last_day = -(-first // HOURS_OF_DAY) * HOURS_OF_DAY, last // HOURS_OF_DAY * HOURS_OF_DAY
    if day < last_day:
        if scope.last >= now_us:
            last = last_day
        ranges = [(day, last_day), *_each(first, day), *_each(last_day, last)]
    else:
        ranges = _each(first, last)
    rest = [(scope.first, first * HOUR), (last * HOUR, scope.last)]
    return (
        [replace(scope, start=begin * HOUR, end=end * HOUR) for begin, end in ranges],
        [replace(scope, start=begin, end=end) for begin, end in rest if begin < end],
    )


def _each(first: int, last: int) -> list[tuple[int, int]]:
    return [(hour, hour + 1) for hour in range(first, last)]


def tags_of(scope: Scope) -> Sequence[str]:
    """The tags of what the part of a scope of whole hours is made of."""
    return tags_of_hours(scope.first // HOUR, scope.last // HOUR)


def read_part(connection: sqlite3.Connection, scope: Scope, wanted: Wanted) -> Part:
    sums = [read_sums(connection, USAGE, scope, keys=keys, unit=unit) for keys, unit in wanted.sums]
    return Part((*sums,), read_durations(connection, scope, wanted.durations))


def joined(parts: Sequence[Part]) -> Part:
    """The part of all of their ranges."""
    if len(parts) == 1:
        return parts[0]
    histograms: Histograms = {}
    for part in parts:
        for place, histogram in part.histograms.items():
            histograms[place] = histograms.get(place, 0) + histogram
    return Part(tuple(_together(each) for each in zip(*(part.sums for part in parts), strict=True)), histograms)


def _together(every: Iterable[Mapping[Key, Sequence[int]]]) -> Mapping[Key, Sequence[int]]:
    rows: dict[Key, list[Sequence[int]]] = {}
    for sums in every:
        for key, counts in sums.items():
            rows.setdefault(key, []).append(counts)
    return {key: folded(USAGE, several) for key, several in rows.items()}
