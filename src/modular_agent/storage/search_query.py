"""Searching the records: candidates from the index and its unindexed tail, compared with the text of their lines.

The newest come first: months downwards, and within a month the records in the order of their commits. A request looks
at a limited number of candidates; when it ends there, or has its hits, a cursor says where the next one goes on.
"""

import re
import sqlite3
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import field
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from modular_agent.kit.clock import utc_datetime
from modular_agent.kit.dataclass import dataclass
from modular_agent.storage.grams import fold, match_of
from modular_agent.storage.log_cursors import month_of
from modular_agent.storage.search_files import day_token, month_files, open_month, session_token, type_token
from modular_agent.storage.searchable import SEARCHED_TYPES, texts_of
from modular_agent.storage.snippets import Snippet, snippet_of
from modular_agent.storage.sql import marks

__all__ = ["Place", "SearchFilter", "SearchHit", "SearchPage", "Searching"]

BUDGET: Final = 5_000  # candidates a request
BATCHES: Final = (40, 160, 640, 1_000)
FEW_SESSIONS: Final = 300  # of a workflow: so many are named to the index
_END: Final = 2**62
_LINES: Final = (
    "SELECT json_group_array(json_array(id, session_id, length)), CAST(group_concat(line, '') AS BLOB)"
    " FROM (SELECT r.id, s.session_id, r.length, r.line FROM records r JOIN sessions s ON s.n = r.session_n"
)
_TYPES: Final = ", ".join(f"'{kind.value}'" for kind in SEARCHED_TYPES)


class Place(NamedTuple):
    """Where a record stands in the order of search: the greatest comes first. `record` is its integer id."""

    month: int
    record: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchFilter:
    """Which records are searched: those to which all that is set applies. `start` (included), `end` (excluded): µs."""

    session_n: int | None = None
    types: Sequence[str] = ()
    start: int | None = None
    end: int | None = None
    workflow_id: str | None = None
    tenant: str | None = None

    def months(self, there: Iterable[int]) -> list[int]:
        """Those of the months that the time range touches, the newest first."""
        first = 0 if self.start is None else month_of(self.start)
        last = _END if self.end is None else month_of(max(0, self.end - 1))
        return [month for month in sorted(there, reverse=True) if first <= month <= last]

    def conditions(self) -> tuple[str, list[Any]]:
        """What remains to be asked of the rows (`r` the record, `s` its session), with its parameters."""
        terms = ["s.deleted_at IS NULL"]
        values: list[Any] = []
        for term, value in (
            ("r.session_n = ?", self.session_n),
            ("r.ts >= ?", self.start),
            ("r.ts < ?", self.end),
            ("s.workflow_id = ?", self.workflow_id),
            ("s.tenant = ?", self.tenant),
        ):
            if value is not None:
                terms.append(term)
                values.append(value)
        kinds = [str(kind) for kind in self.types]
        terms.append(f"r.record_type IN ({marks(len(kinds))})" if kinds else f"r.record_type IN ({_TYPES})")
        return " AND ".join(terms), values + kinds


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A record that holds what was searched for, in `field`. `line` is its line in the log."""

    session_id: str
    place: Place
    line: bytes
    field: str
    snippet: Snippet


@dataclass(frozen=True, slots=True)
class SearchPage:
    """Hits, the newest first; `after` is where the next page goes on, None at the end of all.

    `exhausted` says that the budget ended the search before the page was full.
    """

    hits: list[SearchHit]
    after: Place | None
    exhausted: bool


@dataclass(slots=True)
class _Walk:
    """One request on its way."""

    wanted: str
    limit: int
    word: bytes
    hits: list[SearchHit] = field(default_factory=list[SearchHit])
    seen: int = 0
    last: Place | None = None


class Searching:
    """Searches with connections of its own; belongs to one thread. Raises `sqlite3.Error`.

    `position()` says up to which record all months are indexed.
    """

    def __init__(
        self, connection: sqlite3.Connection, folder: Path, *, position: Callable[[], int], budget: int = BUDGET
    ) -> None:
        self._connection = connection
        self._folder = folder
        self._position = position
        self._budget = budget
        self._months: dict[int, tuple[int, sqlite3.Connection]] = {}  # with the inode

    def close(self) -> None:
        """Closes the month's files; the connection is its owner's."""
        for _, connection in self._months.values():
            connection.close()
        self._months.clear()

    def search(self, query: str, chosen: SearchFilter, *, limit: int, after: Place | None = None) -> SearchPage:
        """The records in which `query` occurs as it is written, whatever the case and compatibility forms."""
        wanted = fold(query)
        walk = _Walk(wanted, limit, _longest_word(wanted))
        indexed = self._position()  # before the snapshot: what is indexed meanwhile is in the index, or in the tail
        self._connection.execute("BEGIN")
        try:
            with closing(self._candidates(wanted, chosen, indexed, after)) as batches:
                for batch in batches:
                    self._verify(walk, batch, chosen)
                    if len(walk.hits) > limit or walk.seen >= self._budget:
                        return _page(walk, ended=False)
            return _page(walk, ended=True)
        finally:
            self._connection.execute("ROLLBACK")

    def _candidates(
        self, wanted: str, chosen: SearchFilter, indexed: int, after: Place | None
    ) -> Generator[list[Place]]:
        """Batches of places in order, growing while nobody has enough."""
        sizes = chain(BATCHES, repeat(BATCHES[-1]))
        files = month_files(self._folder) if indexed else {}
        expression = self._expression(wanted, chosen)
        for month in chosen.months(self._months_of(chosen, files, indexed)):
            if after is not None and month > after.month:
                continue
            before = after.record if after is not None and month == after.month else _END
            for found in self._of_month(month, self._month(month, files), expression, chosen, indexed, before, sizes):
                yield [Place(month, record) for record in found]

    def _of_month(
        self,
        month: int,
        index: sqlite3.Connection | None,
        expression: str,
        chosen: SearchFilter,
        indexed: int,
        before: int,
        sizes: Iterator[int],
    ) -> Iterator[list[int]]:
        """The tail that is not indexed yet, then what the index holds."""
        if index is None:
            yield from _batches(partial(self._tail, chosen, month, indexed), before, sizes)
            return
        index.execute("BEGIN")  # the watermark and the grams of one moment
        try:
            row = index.execute("SELECT record_id FROM watermark").fetchone()
            complete = max(indexed, row[0] if row else 0)
            yield from _batches(partial(self._tail, chosen, month, complete), before, sizes)
            yield from _batches(partial(_matches, index, _with_days(expression, chosen, month)), before, sizes)
        finally:
            index.execute("ROLLBACK")

    def _tail(self, chosen: SearchFilter, month: int, above: int, before: int, count: int) -> list[int]:
        of_session = "" if chosen.session_n is None else " AND session_n = ?"
        values = [] if chosen.session_n is None else [chosen.session_n]
        row = self._connection.execute(
            "SELECT json_group_array(id) FROM (SELECT id FROM records WHERE id > ? AND id < ? AND month = ?"
            f" AND record_type IN ({_TYPES}){of_session} ORDER BY id DESC LIMIT ?)",
            (above, before, month, *values, count),
        ).fetchone()
        return orjson.loads(row[0])

    def _months_of(self, chosen: SearchFilter, files: Mapping[int, Path], indexed: int) -> set[int]:
        if chosen.session_n is not None:
            rows = self._connection.execute("SELECT month FROM log_files WHERE session_n = ?", (chosen.session_n,))
            return {month for (month,) in rows}
        rows = self._connection.execute("SELECT DISTINCT month FROM records WHERE id > ?", (indexed,))
        return {*files, *(month for (month,) in rows)}

    def _expression(self, wanted: str, chosen: SearchFilter) -> str:
        """What the index is asked: the query's grams and the filters that it knows."""
        terms = [] if (match := match_of(wanted)) is None else [match]
        kinds = [kind for kind in SEARCHED_TYPES if not chosen.types or kind in chosen.types]
        if not terms or len(kinds) < len(SEARCHED_TYPES):
            terms.append(_any(type_token(kind) for kind in kinds))
        if chosen.session_n is not None:
            terms.append(_any([session_token(chosen.session_n)]))
        elif chosen.workflow_id is not None:
            rows = self._connection.execute(
                f"SELECT n FROM sessions WHERE workflow_id = ? LIMIT {FEW_SESSIONS + 1}", (chosen.workflow_id,)
            ).fetchall()
            if 0 < len(rows) <= FEW_SESSIONS:
                terms.append(_any(session_token(n) for (n,) in rows))
        return " AND ".join(terms)

    def _month(self, month: int, files: Mapping[int, Path]) -> sqlite3.Connection | None:
        """A connection to the month's file, as long as it is the same file."""
        path = files.get(month)
        if path is None:
            return None
        number = path.stat().st_ino
        known = self._months.get(month)
        if known is not None and known[0] == number:
            return known[1]
        if known is not None:
            known[1].close()
        connection = open_month(path)
        self._months[month] = (number, connection)
        return connection

    def _verify(self, walk: _Walk, places: Sequence[Place], chosen: SearchFilter) -> None:
        """Adds the records among `places` that the filter lets through and that hold what is wanted."""
        condition, values = chosen.conditions()
        heads, lines = self._connection.execute(
            f"{_LINES} WHERE r.id IN (SELECT value FROM json_each(?)) AND {condition} ORDER BY r.id DESC)",
            (orjson.dumps([place.record for place in places]).decode(), *values),
        ).fetchone()
        start = 0
        for record, session_id, length in orjson.loads(heads):
            line = lines[start : start + length]
            start += length
            hit = _hit(walk, line)
            if hit is not None:
                walk.hits.append(SearchHit(session_id, Place(places[0].month, record), line[:-1], *hit))
                if len(walk.hits) > walk.limit:
                    return
        walk.seen += len(places)
        walk.last = places[-1]


def _batches(read: Callable[[int, int], list[int]], before: int, sizes: Iterator[int]) -> Iterator[list[int]]:
    """What `read(before, count)` finds below `before`, batch after batch."""
    while True:
        size = next(sizes)
        found = read(before, size)
        if found:
            yield found
            before = found[-1]
        if len(found) < size:
            return


def _matches(index: sqlite3.Connection, expression: str, before: int, count: int) -> list[int]:
    row = index.execute(
        "SELECT json_group_array(rowid) FROM (SELECT rowid FROM grams WHERE grams MATCH ? AND rowid < ?"
        " ORDER BY rowid DESC LIMIT ?)",
        (expression, before, count),
    ).fetchone()
    return orjson.loads(row[0])


def _with_days(expression: str, chosen: SearchFilter, month: int) -> str:
    """The expression, with the days of the month when the time range covers a part of it only."""
    first, last = 1, 31
    if chosen.start is not None and month_of(chosen.start) == month:
        first = utc_datetime(chosen.start).day
    if chosen.end is not None and month_of(max(0, chosen.end - 1)) == month:
        last = utc_datetime(max(0, chosen.end - 1)).day
    if (first, last) == (1, 31):
        return expression
    return f"{expression} AND {_any(day_token(day) for day in range(first, last + 1))}"


def _any(tokens: Iterable[str]) -> str:
    quoted = [f'"{token}"' for token in tokens]
    return f"({' OR '.join(quoted)})"


def _longest_word(wanted: str) -> bytes:
    """A part of the query that a line of ASCII must hold as it stands: nothing in it is ever escaped."""
    return max(re.findall(r"[a-z0-9]+", wanted), key=len, default="").encode()


def _hit(walk: _Walk, line: bytes) -> tuple[str, Snippet] | None:
    """The field that holds what is wanted, and its snippet."""
    if line.isascii() and walk.word not in line.lower():
        return None
    for name, text in texts_of(orjson.loads(line)):
        if walk.wanted in fold(text):
            return name, snippet_of(text, walk.wanted)
    return None


def _page(walk: _Walk, *, ended: bool) -> SearchPage:
    if len(walk.hits) > walk.limit:
        hits = walk.hits[: walk.limit]
        return SearchPage(hits, hits[-1].place, exhausted=False)
    return SearchPage(walk.hits, None if ended else walk.last, exhausted=not ended)
