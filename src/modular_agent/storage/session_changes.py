"""What a transaction changes in the rows of sessions: gathered, and written once for each of them.

A session's row is in six indexes, and SQLite writes all of those that have a column of the statement, changed or not:
so each row is written with the columns that have something to write.
"""

import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from operator import add
from typing import Any, Final

from modular_agent.storage.sql import in_pieces, value_rows
from modular_agent.storage.unit_of_work import Counters, SessionStanding

__all__ = ["SessionChanges"]

_COUNTERS: Final = tuple(column.name for column in fields(Counters))
_NOTHING: Final = (0,) * len(_COUNTERS)
_PLAIN: Final = 3  # counters that no index has: lists are sorted by some of the others


@dataclass(slots=True)
class _Change:
    seq: int = 0
    ts: int = 0
    at: int = 0
    counts: tuple[int, ...] = _NOTHING
    standing: SessionStanding | None = None


class SessionChanges:
    """The changes that a transaction still has to write, by session. Times in µs; `at` is when the session changed."""

    def __init__(self) -> None:
        self._changes: dict[int, _Change] = {}

    def reached(self, n: int, *, seq: int, ts: int, at: int) -> None:
        """The log of session `n` ends there."""
        change = self._of(n, max(at, ts))
        change.seq, change.ts = seq, ts

    def count(self, n: int, counters: Counters, *, at: int) -> None:
        change = self._of(n, at)
        numbers = counters.numbers()
        change.counts = numbers if change.counts is _NOTHING else tuple(map(add, change.counts, numbers))

    def stand(self, standing: SessionStanding) -> None:
        """Of two of a session the later one holds."""
        self._of(standing.session_n, standing.at).standing = standing

    def clear(self) -> None:
        self._changes.clear()

    def store(self, connection: sqlite3.Connection) -> None:
        """Writes all of them."""
        if not self._changes:
            return
        plain: list[tuple[Any, ...]] = []  # SQL values
        counted: list[tuple[Any, ...]] = []
        standing: list[tuple[Any, ...]] = []
        for n, change in self._changes.items():
            head, counts = (n, change.seq, change.ts, change.at), change.counts
            if change.standing is not None:
                standing.append((*head, *counts, change.standing.status, change.standing.run_id))
            elif any(counts[_PLAIN:]):
                counted.append((*head, *counts))
            else:
                plain.append((*head, *counts[:_PLAIN]))
        for (update, tail), rows in ((_PLAIN_UPDATE, plain), (_UPDATE, counted), (_STANDING_UPDATE, standing)):
            for piece in in_pieces(rows):
                connection.execute(f"{update} {value_rows(piece)}{tail}", [*chain.from_iterable(piece)])
        self._changes.clear()

    def _of(self, n: int, at: int) -> _Change:
        change = self._changes.get(n)
        if change is None:
            change = self._changes[n] = _Change()
        change.at = max(change.at, at)
        return change


def _update(counters: Collection[str], set_too: Sequence[str] = ()) -> tuple[str, str]:
    """What stands before and behind the values of `n, seq, ts, at`, the counters, and of what else is set."""
    changes = [f"{name} = sessions.{name} + v.{name}" for name in counters] + [f"{name} = v.{name}" for name in set_too]
    return f"WITH v({', '.join(('n', 'seq', 'ts', 'at', *counters, *set_too))}) AS (VALUES", (
        f") UPDATE sessions SET last_seq = max(last_seq, v.seq), last_ts = max(last_ts, v.ts), {', '.join(changes)},"
        " updated_at = max(updated_at, v.at) FROM v WHERE sessions.n = v.n"
    )


_PLAIN_UPDATE: Final = _update(_COUNTERS[:_PLAIN])
_UPDATE: Final = _update(_COUNTERS)
_STANDING_UPDATE: Final = _update(_COUNTERS, ("status", "current_run_id"))
