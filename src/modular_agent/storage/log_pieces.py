"""Reading a log of any length piece by piece, so that an export needs the memory of one piece only."""

import sqlite3
from dataclasses import replace
from typing import Final

import orjson

from modular_agent.events import SessionRef
from modular_agent.kit.dataclass import dataclass
from modular_agent.storage.readers import Readers
from modular_agent.storage.records import RecordFilter

__all__ = ["LogPieces", "Piece"]

RECORDS: Final = 500
BYTES: Final = 1024 * 1024  # a piece ends behind the record that reaches this


@dataclass(frozen=True, slots=True)
class Piece:
    """Some lines of a log, newlines included; the next piece comes after `last_seq`, None at the end."""

    lines: list[bytes]
    last_seq: int | None


class LogPieces:
    """Reads logs in pieces, each at a moment of its own: records never change, so only a deletion shows."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def read(self, session: SessionRef, chosen: RecordFilter, *, after_seq: int) -> Piece:
        """The next records that the filter lets through."""
        which = replace(chosen, after_seq=after_seq)
        return await self._readers.run(lambda connection: _piece(connection, session, which))


def _piece(connection: sqlite3.Connection, session: SessionRef, chosen: RecordFilter) -> Piece:
    condition, values = chosen.condition(session.n)
    rows: list[tuple[int, int]] = orjson.loads(
        connection.execute(
            "SELECT json_group_array(json_array(seq, length)) FROM"
            f" (SELECT seq, length FROM records WHERE {condition} ORDER BY seq LIMIT ?)",
            (*values, RECORDS),
        ).fetchone()[0]
    )
    if not rows:
        return Piece([], None)
    taken = _fitting(rows)
    last = taken[-1][0]
    # One upper bound only: of two SQLite may take the far one for the index, and read on to the end of the log.
    condition, values = replace(chosen, before_seq=last + 1).condition(session.n)
    joined: bytes = connection.execute(
        f"SELECT CAST(group_concat(line, '') AS BLOB) FROM (SELECT line FROM records WHERE {condition} ORDER BY seq)",
        values,
    ).fetchone()[0]
    lines: list[bytes] = []
    start = 0
    for _, length in taken:
        lines.append(joined[start : start + length])
        start += length
    return Piece(lines, last if len(rows) == RECORDS or len(taken) < len(rows) else None)


def _fitting(rows: list[tuple[int, int]]) -> list[tuple[int, int]]:
    size = 0
    for count, (_, length) in enumerate(rows, 1):
        size += length
        if size >= BYTES:
            return rows[:count]
    return rows
