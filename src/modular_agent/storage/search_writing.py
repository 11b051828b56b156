"""How records get into the search index and out of it again: what the index's thread does."""

import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from modular_agent.events import SessionRef
from modular_agent.kit.clock import utc_datetime
from modular_agent.storage.connections import open_reading
from modular_agent.storage.grams import fold, grams_of
from modular_agent.storage.rollups import DAY
from modular_agent.storage.search_files import (
    Entry,
    MonthIndex,
    Position,
    day_token,
    delete_files,
    month_files,
    read_position,
    session_token,
    type_token,
    write_position,
)
from modular_agent.storage.searchable import SEARCHED_TYPES, texts_of

__all__ = ["IndexWriting"]

WINDOW: Final = 8  # records looked at for each that a batch may take
BATCH_BYTES: Final = 1024 * 1024  # of lines
PIECE: Final = 200  # entries taken out at a time
_TYPES: Final = ", ".join(f"'{kind.value}'" for kind in SEARCHED_TYPES)
_AHEAD: Final = (
    f"SELECT json_group_array(json_array(id, CASE WHEN record_type IN ({_TYPES}) THEN length ELSE 0 END))"
    " FROM (SELECT id, record_type, length FROM records WHERE id > ? ORDER BY id LIMIT ?)"
)
_READ: Final = (
    "SELECT json_group_array(json_array(id, session_n, seq, month, ts, record_type, length, record_id)),"
    " CAST(group_concat(line, '') AS BLOB) FROM (SELECT * FROM records WHERE"
)
_NEXT: Final = f"{_READ} id > ? AND id <= ? AND record_type IN ({_TYPES}) ORDER BY id)"
_OF_SESSION: Final = f"{_READ} session_n = ? AND seq > ? AND record_type IN ({_TYPES}) ORDER BY seq LIMIT {PIECE})"


class _Found(NamedTuple):
    session_n: int
    month: int
    name: str  # the `record_id`
    entry: Entry


class IndexWriting:
    """Writes the index of the records in a database. Belongs to one thread. Raises `sqlite3.Error`, `OSError`."""

    def __init__(self, database: Path, folder: Path) -> None:
        self._database = database
        self._folder = folder
        self._months: dict[int, MonthIndex] = {}
        self._source: sqlite3.Connection | None = None
        self._position = self._stored = Position()
        self._gone: dict[int, int] = {}  # deleted sessions, with the id of their last record

    @property
    def position(self) -> int:
        """Every record up to here is in its month's file."""
        return self._position.record_id

    def open(self) -> None:
        """Reads how far the index is; drops all of it when it belongs to another database or to other rules."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._source = open_reading(self._database)
        self._position = self._stored = read_position(self._folder)
        try:
            fits = self._fits()
        except sqlite3.Error:
            fits = False  # a damaged file: it is made again
        if not fits:
            self.drop()

    def drop(self) -> None:
        """Deletes the index, so that it is made again from the first record."""
        self._position = self._stored = Position()  # first: from now on nobody takes what is left for complete
        self._close_months()
        delete_files(self._folder)

    def advance(self, *, limit: int) -> int:
        """Indexes the next records, `limit` at most; by how many records it went on (0: nothing is left)."""
        upto, passed = self._next_end(limit)
        if not passed:
            return 0
        found = self._read(_NEXT, self._position.record_id, upto)
        by_month = _by_month([each for each in found if each.session_n not in self._gone])
        for month, entries in by_month.items():
            self._month(month).add(entries, watermark=upto)
        last = found[-1] if found else None
        anchor = (last.entry.record_id, last.name) if last else (self._position.anchor_id, self._position.anchor)
        self._position = Position(upto, tuple(sorted({*self._position.months, *by_month})), *anchor)
        self._gone = {n: end for n, end in self._gone.items() if end > upto}
        return passed

    def remove(self, session: SessionRef) -> None:
        """Takes a session's records out, for good even after a power cut, and lets none of them in any more.

        They must still be in the database, and no record may come any more.
        """
        row = self._query("SELECT max(id) FROM records WHERE session_n = ?", session.n)
        if row[0] is None:
            return
        if row[0] > self.position:
            self._gone[session.n] = row[0]
        known = month_files(self._folder)
        seq = 0
        while found := self._read(_OF_SESSION, session.n, seq):
            for month, entries in _by_month(found).items():
                if month in known:
                    self._month(month).remove(session.n, entries)
            seq = found[-1].entry.seq
        self._sync()

    def store_position(self) -> None:
        """Makes sure that the index survives a power cut up to here."""
        if self._position != self._stored:
            self._sync()
            write_position(self._folder, self._position)
            self._stored = self._position

    def merge(self) -> None:
        """Makes the files as small and as quick as they can be."""
        for month in month_files(self._folder):
            self._month(month).merge()

    def close(self) -> None:
        try:
            if self._source is not None:
                self.store_position()
        finally:
            self._close_months()
            if self._source is not None:
                self._source.close()
                self._source = None

    def _fits(self) -> bool:
        """Whether the index is one of this database, and complete up to its position."""
        months, position = month_files(self._folder), self._position
        if position == Position():
            return not months  # complete up to nowhere: its watermarks could be of any database
        newest = self._query("SELECT seq FROM sqlite_sequence WHERE name = 'records'")
        anchor = self._query("SELECT record_id FROM records WHERE id = ?", position.anchor_id)
        return (
            set(position.months) <= months.keys()
            and newest is not None
            and newest[0] >= position.record_id
            and (anchor is None or anchor[0] == position.anchor)
            and all(self._month(month).usable for month in months)
        )

    def _next_end(self, limit: int) -> tuple[int, int]:
        """The id up to which the next batch goes, and how many records that are."""
        ahead: list[tuple[int, int]] = orjson.loads(self._query(_AHEAD, self.position, limit * WINDOW)[0])
        taken = size = 0
        for count, (record_id, length) in enumerate(ahead, 1):
            taken += length > 0
            size += length
            if taken >= limit or size >= BATCH_BYTES:
                return record_id, count
        return (ahead[-1][0], len(ahead)) if ahead else (0, 0)

    def _read(self, statement: str, *parameters: int) -> list[_Found]:
        heads, lines = self._query(statement, *parameters)
        found: list[_Found] = []
        start = 0
        for record, session_n, seq, month, ts, kind, length, name in orjson.loads(heads):
            line = lines[start : start + length]
            start += length
            grams = {*_grams(line), session_token(session_n), type_token(kind), _day_token(ts // DAY)}
            found.append(_Found(session_n, month, name, Entry(record, seq, " ".join(grams))))
        return found

    def _query(self, statement: str, *parameters: int) -> Any:  # a row of SQL values, or None
        assert self._source is not None
        return self._source.execute(statement, parameters).fetchone()

    def _month(self, month: int) -> MonthIndex:
        if month not in self._months:
            self._months[month] = MonthIndex(self._folder / f"{month:06d}.db")
        return self._months[month]

    def _sync(self) -> None:
        for month in self._months.values():
            month.sync()

    def _close_months(self) -> None:
        for month in self._months.values():
            month.close()
        self._months.clear()


@lru_cache(maxsize=16)
def _day_token(day: int) -> str:
    """Of a day since the epoch; cached because what is indexed is of today, nearly always."""
    return day_token(utc_datetime(day * DAY).day)


def _grams(line: bytes) -> set[str]:
    # No gram goes over the end of a line: what is folded together is cut there.
    return grams_of(fold("\n".join(text for _, text in texts_of(orjson.loads(line)))))


def _by_month(found: Sequence[_Found]) -> dict[int, list[Entry]]:
    months: dict[int, list[Entry]] = defaultdict(list)
    for each in found:
        months[each.month].append(each.entry)
    return months
