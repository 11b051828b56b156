"""Where each session's log ends: the next `seq`, the newest timestamp, the length of the month's file."""

import sqlite3
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import orjson

from modular_agent.kit.clock import utc_datetime

__all__ = ["LogCursor", "LogCursors", "month_of"]

LOADED: Final = 10_000  # sessions remembered

_SESSIONS: Final = (
    "SELECT json_group_array(json_array(s.n, s.session_id, s.tenant, s.last_seq, s.last_ts, f.month, f.length))"
    " FROM sessions s LEFT JOIN log_files f ON f.session_n = s.n"
    " AND f.month = (SELECT max(month) FROM log_files WHERE session_n = s.n)"
    " WHERE s.n IN (SELECT value FROM json_each(?)) AND s.deleted_at IS NULL"
)


def month_of(ts: int) -> int:
    """The UTC month of a time in µs, as 202610."""
    at = utc_datetime(ts)
    return at.year * 100 + at.month


@dataclass(slots=True)
class LogCursor:
    """The end of one session's log. `ts` is in µs, `length` in bytes of the file of `month`."""

    session_id: str
    tenant: str
    seq: int
    ts: int
    month: int
    length: int

    def copy(self) -> "LogCursor":
        return LogCursor(self.session_id, self.tenant, self.seq, self.ts, self.month, self.length)


class LogCursors:
    """The cursors of the sessions last written to; belongs to the writer's thread.

    A cursor runs ahead of the database within a transaction, so those of a transaction that failed must be dropped.
    """

    def __init__(self, *, limit: int = LOADED) -> None:
        self._cursors: OrderedDict[int, LogCursor] = OrderedDict()
        self._limit = limit

    def load(self, connection: sqlite3.Connection, session_ns: Iterable[int]) -> None:
        """Reads the cursors that are missing, for use now; a session that does not exist gets none."""
        missing: list[int] = []
        for n in session_ns:
            if n in self._cursors:
                self._cursors.move_to_end(n)
            else:
                missing.append(n)
        if not missing:
            return
        (found,) = connection.execute(_SESSIONS, (orjson.dumps(missing).decode(),)).fetchone()
        for n, session_id, tenant, seq, ts, month, length in orjson.loads(found):
            self._cursors[n] = LogCursor(session_id, tenant, seq, ts, month or 0, length or 0)

    def get(self, n: int) -> LogCursor | None:
        return self._cursors.get(n)

    def snapshot(self, session_ns: Iterable[int]) -> dict[int, LogCursor | None]:
        """Copies to go back to with `restore`."""
        found = {n: self._cursors.get(n) for n in session_ns}
        return {n: None if cursor is None else cursor.copy() for n, cursor in found.items()}

    def restore(self, snapshot: dict[int, LogCursor | None]) -> None:
        for n, cursor in snapshot.items():
            if cursor is None:
                self._cursors.pop(n, None)
            else:
                self._cursors[n] = cursor

    def drop(self, session_ns: Iterable[int]) -> None:
        for n in session_ns:
            self._cursors.pop(n, None)

    def shrink(self) -> None:
        """Forgets the longest unused ones beyond the limit; between transactions only."""
        while len(self._cursors) > self._limit:
            self._cursors.popitem(last=False)
