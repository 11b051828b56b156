"""What a figure is about: a range of time, a tenant, a session; and how a range is put together."""

from typing import Any, Final, NamedTuple

from modular_agent.kit.dataclass import dataclass
from modular_agent.storage.rollups import HOUR, HOURS_OF_DAY

__all__ = ["FOREVER", "Pieces", "Scope"]

FOREVER: Final = 2**62  # µs: later than every record


class Pieces(NamedTuple):
    """A range as whole days, whole hours and edges in µs; of each the first (included) and the last (excluded)."""

    days: list[tuple[int, int]]
    hours: list[tuple[int, int]]
    edges: list[tuple[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """From `start` (included) to `end` (excluded), in µs; None is without bound, and of all tenants or sessions."""

    start: int | None = None
    end: int | None = None
    tenant: str | None = None
    session_n: int | None = None

    @property
    def first(self) -> int:
        return 0 if self.start is None else max(0, self.start)

    @property
    def last(self) -> int:
        return FOREVER if self.end is None else max(0, self.end)

    def pieces(self, *, days: bool, hours: bool) -> Pieces:
        """The range in pieces of which no two overlap; without `days`, or `hours`, in smaller ones."""
        start, end = self.first, self.last
        if start >= end:
            return Pieces([], [], [])
        first, last = -(-start // HOUR), end // HOUR
        if first >= last or not hours:
            return Pieces([], [], [(start, end)])
        edges = _filled((start, first * HOUR), (last * HOUR, end))
        first_day, last_day = -(-first // HOURS_OF_DAY), last // HOURS_OF_DAY
        if first_day >= last_day or not days:
            return Pieces([], [(first, last)], edges)
        whole = _filled((first, first_day * HOURS_OF_DAY), (last_day * HOURS_OF_DAY, last))
        return Pieces([(first_day, last_day)], whole, edges)

    def condition(self, time: str) -> tuple[str, list[Any]]:
        """The condition on rows that are joined with their sessions `s`, without that on the time `time`."""
        terms, values = ["1"], list[Any]()
        for term, value in (("s.tenant = ?", self.tenant), ("s.n = ?", self.session_n)):
            if value is not None:
                terms.append(term)
                values.append(value)
        return f"{' AND '.join(terms)} AND {time} >= ? AND {time} < ?", values


def _filled(*ranges: tuple[int, int]) -> list[tuple[int, int]]:
    return [(first, last) for first, last in ranges if first < last]
