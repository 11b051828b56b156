"""Sums that change by a statement of their own: of runs and sessions, and when rows are deleted.

Each function belongs to the transaction that makes, ends or deletes the rows, so that a crash leaves both or neither.
"""

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

import orjson

from modular_agent.lifecycle import RunStatus
from modular_agent.storage.models import llm_calls
from modular_agent.storage.models.table import Table
from modular_agent.storage.rollups import DAY, HOUR, HOURS_OF_DAY, Rollups, bucket
from modular_agent.storage.sql import InsertTexts, column_list
from modular_agent.storage.unit_of_work import Conflict

__all__ = [
    "add_rollups",
    "count_run_end",
    "count_run_start",
    "count_session",
    "forget_facts",
    "forget_runs",
    "move_runs",
]

_ENDS: Final = (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.STOPPED)  # in the order of the columns
_RUN_HOUR: Final = (
    "INSERT INTO run_hour SELECT ?, tenant, workflow_id, ?, ?, ?, ?, ? FROM sessions WHERE n = ?"
    " ON CONFLICT DO UPDATE SET started = started + excluded.started, completed = completed + excluded.completed,"
    " failed = failed + excluded.failed, stopped = stopped + excluded.stopped,"
    " active_us = active_us + excluded.active_us"
)
_RUN_HISTOGRAM: Final = (
    "INSERT INTO histogram_day SELECT 'run', 'all', ?, tenant, '', ?, ? FROM sessions WHERE n = ?"
    " ON CONFLICT DO UPDATE SET count = count + excluded.count"
)
_SESSION_HOUR: Final = (
    "INSERT INTO session_hour SELECT ?, tenant, ? FROM sessions WHERE n = ?"
    " ON CONFLICT DO UPDATE SET count = count + excluded.count"
)
_USAGE_KEY: Final = "tenant = ? AND workflow_id = ? AND model = ? AND node = ?"


def count_session(connection: sqlite3.Connection, session_n: int, *, created_at: int, sign: int = 1) -> None:
    """Counts a session that was made, or with -1 takes it away."""
    connection.execute(_SESSION_HOUR, (created_at // HOUR, sign, session_n))
    if sign < 0:
        connection.execute("DELETE FROM session_hour WHERE hour = ? AND count <= 0", (created_at // HOUR,))


def count_run_start(connection: sqlite3.Connection, session_n: int, *, created_at: int, sign: int = 1) -> None:
    """Counts a run that was made."""
    connection.execute(_RUN_HOUR, (created_at // HOUR, sign, 0, 0, 0, 0, session_n))
    _drop_empty_runs(connection, created_at, sign)


def count_run_end(
    connection: sqlite3.Connection, session_n: int, status: RunStatus, *, ended_at: int, active_us: int, sign: int = 1
) -> None:
    """Counts how a run ended; with -1 takes an end away, because the run goes on or is deleted."""
    ends = (sign * (status is end) for end in _ENDS)
    connection.execute(_RUN_HOUR, (ended_at // HOUR, 0, *ends, sign * active_us, session_n))
    connection.execute(_RUN_HISTOGRAM, (ended_at // DAY, bucket(active_us), sign, session_n))
    _drop_empty_runs(connection, ended_at, sign)
    if sign < 0:
        connection.execute(
            "DELETE FROM histogram_day WHERE measure = 'run' AND dimension = 'all' AND day = ? AND count <= 0",
            (ended_at // DAY,),
        )


def _drop_empty_runs(connection: sqlite3.Connection, at: int, sign: int) -> None:
    if sign < 0:
        connection.execute(
            "DELETE FROM run_hour WHERE hour = ? AND started = 0 AND completed = 0 AND failed = 0 AND stopped = 0",
            (at // HOUR,),
        )


def forget_runs(connection: sqlite3.Connection, session_n: int, *, limit: int) -> int:
    """Deletes up to `limit` runs of a session and takes them out of the sums; how many they were."""
    rows = connection.execute(
        "SELECT run_id, status, created_at, ended_at, active_us FROM runs WHERE session_n = ? LIMIT ?",
        (session_n, limit),
    ).fetchall()
    _uncount_runs(connection, session_n, rows)
    connection.execute("DELETE FROM runs WHERE run_id IN (SELECT value FROM json_each(?))", (_keys(rows),))
    return len(rows)


def move_runs(connection: sqlite3.Connection, session_n: int, workflow_id: str) -> None:
    """To be called before a session is bound to another workflow: its runs count for that one from then on."""
    (former,) = connection.execute("SELECT workflow_id FROM sessions WHERE n = ?", (session_n,)).fetchone()
    if former == workflow_id:
        return
    rows = connection.execute(
        "SELECT run_id, status, created_at, ended_at, active_us FROM runs WHERE session_n = ?", (session_n,)
    ).fetchall()
    _uncount_runs(connection, session_n, rows)
    connection.execute("UPDATE sessions SET workflow_id = ? WHERE n = ?", (workflow_id, session_n))
    for _, status, created_at, ended_at, active_us in rows:
        count_run_start(connection, session_n, created_at=created_at)
        if ended_at is not None:
            count_run_end(connection, session_n, RunStatus(status), ended_at=ended_at, active_us=active_us)


def _uncount_runs(connection: sqlite3.Connection, session_n: int, rows: Sequence[tuple[Any, ...]]) -> None:
    for _, status, created_at, ended_at, active_us in rows:
        count_run_start(connection, session_n, created_at=created_at, sign=-1)
        if ended_at is not None:
            count_run_end(connection, session_n, RunStatus(status), ended_at=ended_at, active_us=active_us, sign=-1)


def forget_facts(
    connection: sqlite3.Connection, table: Table, session_n: int, *, limit: int, inserts: InsertTexts
) -> int:
    """Deletes up to `limit` model calls or errors of a session and takes them out of the sums; how many they were.

    `table` is `llm_calls` or `errors`.
    """
    (tenant,) = connection.execute("SELECT tenant FROM sessions WHERE n = ?", (session_n,)).fetchone()
    rows = connection.execute(
        f"SELECT {column_list(table)} FROM {table.name} WHERE session_n = ? LIMIT ?", (session_n, limit)
    ).fetchall()
    (key,) = (column.name for column in table.primary_key)
    connection.execute(f"DELETE FROM {table.name} WHERE {key} IN (SELECT value FROM json_each(?))", (_keys(rows),))
    away = Rollups(sign=-1)
    for row in rows:
        away.count(table, tenant, row)
    add_rollups(connection, away, inserts)
    _drop_empty(connection, away)
    if table is llm_calls:
        _mend_extremes(connection, away)
    return len(rows)


def add_rollups(connection: sqlite3.Connection, rollups: Rollups, inserts: InsertTexts) -> None:
    """Adds the sums to those in the tables."""
    for table, rows in rollups.rows():
        for text, parameters in inserts.statements(table, Conflict.ADD, rows):
            connection.execute(text, parameters)


def _drop_empty(connection: sqlite3.Connection, away: Rollups) -> None:
    for table, rows in away.rows():
        keys = [column.name for column in table.primary_key]
        counted = "calls" if "calls" in table.columns else "count"
        condition = " AND ".join(f"{name} = ?" for name in keys)
        width = len(keys)
        assert list(table.columns.keys())[:width] == keys
        connection.executemany(
            f"DELETE FROM {table.name} WHERE {condition} AND {counted} <= 0", [row[:width] for row in rows]
        )


def _mend_extremes(connection: sqlite3.Connection, away: Rollups) -> None:
    """Reads the least and the greatest duration again where one of them was taken away."""
    days: set[tuple[Any, ...]] = set()
    for (hour, *rest), (least, greatest) in away.extremes().items():
        row = connection.execute(
            f"SELECT min_us, max_us FROM usage_hour WHERE hour = ? AND {_USAGE_KEY}", (hour, *rest)
        ).fetchone()
        days.add((hour // HOURS_OF_DAY, *rest))
        if row is not None and (least <= row[0] or greatest >= row[1]):
            connection.execute(
                "UPDATE usage_hour SET (min_us, max_us) = (SELECT min(c.duration_us), max(c.duration_us)"
                " FROM llm_calls c JOIN sessions s ON s.n = c.session_n WHERE c.ts >= ? AND c.ts < ?"
                " AND s.tenant = ? AND c.workflow_id = ? AND c.model = ? AND c.node = ?)"
                f" WHERE hour = ? AND {_USAGE_KEY}",
                (hour * HOUR, (hour + 1) * HOUR, *rest, hour, *rest),
            )
    for day, *rest in days:
        first = day * HOURS_OF_DAY
        connection.execute(
            "UPDATE usage_day SET (min_us, max_us) = (SELECT min(min_us), max(max_us) FROM usage_hour"
            f" WHERE hour >= ? AND hour < ? AND {_USAGE_KEY}) WHERE day = ? AND {_USAGE_KEY}",
            (first, first + HOURS_OF_DAY, *rest, day, *rest),
        )


def _keys(rows: Sequence[tuple[Any, ...]]) -> str:
    return orjson.dumps([row[0] for row in rows]).decode()
