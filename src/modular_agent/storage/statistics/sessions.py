"""What the rows of sessions say at once."""

import sqlite3
from typing import NamedTuple

from modular_agent.events import SessionRef
from modular_agent.storage.statistics.scope import Scope
from modular_agent.storage.statistics.sums import Series

__all__ = ["SessionTotals", "count_by_status", "first_time", "session_totals"]


class SessionTotals(NamedTuple):
    """What a session has come to. `cost_nano` in nano-dollars; `active_us` of all its runs, without pauses."""

    messages: int
    tool_calls: int
    errors: int
    tokens: int
    unpriced_tokens: int
    cost_nano: int
    runs: int
    active_us: int


def session_totals(connection: sqlite3.Connection, session: SessionRef) -> SessionTotals | None:
    """None for a session that is not there."""
    row = connection.execute(
        "SELECT messages, tool_calls, errors, prompt_tokens + completion_tokens, unpriced_tokens, cost_nano"
        " FROM sessions WHERE n = ? AND deleted_at IS NULL",
        (session.n,),
    ).fetchone()
    if row is None:
        return None
    runs = connection.execute(
        "SELECT count(*), coalesce(sum(active_us), 0) FROM runs WHERE session_n = ?", (session.n,)
    ).fetchone()
    return SessionTotals(*row, *runs)


def count_by_status(connection: sqlite3.Connection) -> dict[str, int]:
    """How many sessions there are in each status, counted in indexes: those being deleted are taken away after."""
    counts: dict[str, int] = dict(
        connection.execute("SELECT status, count(*) FROM sessions GROUP BY status").fetchall()
    )
    for (status,) in connection.execute("SELECT status FROM sessions WHERE deleted_at IS NOT NULL"):
        counts[status] -= 1
    return {status: count for status, count in sorted(counts.items()) if count}


def first_time(connection: sqlite3.Connection, series: Series, scope: Scope) -> int | None:
    """The time of the first row in the scope, in µs."""
    condition, values = scope.condition(series.time)
    row = connection.execute(
        f"SELECT {series.time} FROM {series.rows} WHERE {condition} ORDER BY {series.time} LIMIT 1",
        [*values, scope.first, scope.last],
    ).fetchone()
    return None if row is None else row[0]
