"""Sums that change by a statement of their own: of runs and sessions, and when rows are deleted.

Each function belongs to the transaction that makes, ends or deletes the rows, so that a crash leaves both or neither.
"""

import sqlite3
from collections.abc import Sequence
from itertools import chain
from operator import add
from typing import Any, Final

import orjson

from modular_agent.lifecycle import RunStatus
from modular_agent.storage.models import llm_calls
from modular_agent.storage.models.table import Table
from modular_agent.storage.rollups import DAY, HOUR, HOURS_OF_DAY, Rollups, bucket
from modular_agent.storage.sql import InsertTexts, column_list, in_pieces, value_rows
from modular_agent.storage.unit_of_work import Conflict

__all__ = [
    "RunSums",
    "add_rollups",
    "count_session",
    "forget_facts",
    "forget_runs",
    "move_runs",
]

_ENDS: Final = (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.STOPPED)  # in the order of the columns
_RUN_HOUR: Final = (
    "INSERT INTO run_hour",
    "ON CONFLICT DO UPDATE SET "
    + ", ".join(f"{name} = {name} + excluded.{name}" for name in ("started", *_ENDS, "active_us")),
)
_RUN_HISTOGRAM: Final = (
    "INSERT INTO histogram_day",
    "ON CONFLICT DO UPDATE SET count = count + excluded.count",
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


class RunSums:
    """Starts and ends of runs, to be added to the sums, or with `sign` -1 taken away. Times in µs."""

    def __init__(self) -> None:
        self._hours: dict[tuple[Any, ...], tuple[int, ...]] = {}
        self._durations: dict[tuple[Any, ...], tuple[int, ...]] = {}
        self._taken = False

    def start(self, tenant: str, workflow_id: str, *, created_at: int, sign: int = 1) -> None:
        """Counts a run that was made."""
        self._add_hour((created_at // HOUR, tenant, workflow_id), (sign, 0, 0, 0, 0))
        self._taken |= sign < 0

    def end(
        self, tenant: str, workflow_id: str, status: RunStatus, *, ended_at: int, active_us: int, sign: int = 1
    ) -> None:
        """Counts how a run ended; with -1 takes an end away, because the run goes on or is deleted."""
        ends = (sign * (status is end) for end in _ENDS)
        self._add_hour((ended_at // HOUR, tenant, workflow_id), (0, *ends, sign * active_us))
        key = ("run", "all", ended_at // DAY, tenant, "", bucket(active_us))
        (found,) = self._durations.get(key, (0,))
        self._durations[key] = (found + sign,)
        self._taken |= sign < 0

    def store(self, connection: sqlite3.Connection) -> None:
        """Adds all that was counted to the tables; rows that count nothing any more go."""
        for (head, tail), sums in ((_RUN_HOUR, self._hours), (_RUN_HISTOGRAM, self._durations)):
            for rows in in_pieces([(*key, *numbers) for key, numbers in sums.items()]):
                connection.execute(f"{head} VALUES {value_rows(rows)} {tail}", [*chain.from_iterable(rows)])
        if self._taken:
            for hour, *_ in self._hours:
                connection.execute(
                    "DELETE FROM run_hour WHERE hour = ?"
                    " AND started = 0 AND completed = 0 AND failed = 0 AND stopped = 0",
                    (hour,),
                )
            for _, _, day, *_ in self._durations:
                connection.execute(
                    "DELETE FROM histogram_day WHERE measure = 'run' AND dimension = 'all' AND day = ? AND count <= 0",
                    (day,),
                )

    def _add_hour(self, key: tuple[Any, ...], numbers: tuple[int, ...]) -> None:
        found = self._hours.get(key)
        self._hours[key] = numbers if found is None else tuple(map(add, found, numbers))


def forget_runs(connection: sqlite3.Connection, session_n: int, *, limit: int) -> int:
    """Deletes up to `limit` runs of a session and takes them out of the sums; how many they were."""
    rows = connection.execute(
        "SELECT run_id, status, created_at, ended_at, active_us FROM runs WHERE session_n = ? LIMIT ?",
        (session_n, limit),
    ).fetchall()
    _count_runs(connection, _owner(connection, session_n), rows, sign=-1)
    connection.execute("DELETE FROM runs WHERE run_id IN (SELECT value FROM json_each(?))", (_keys(rows),))
    return len(rows)


def move_runs(connection: sqlite3.Connection, session_n: int, workflow_id: str) -> None:
    """To be called before a session is bound to another workflow: its runs count for that one from then on."""
    tenant, former = _owner(connection, session_n)
    if former == workflow_id:
        return
    rows = connection.execute(
        "SELECT run_id, status, created_at, ended_at, active_us FROM runs WHERE session_n = ?", (session_n,)
    ).fetchall()
    connection.execute("UPDATE sessions SET workflow_id = ? WHERE n = ?", (workflow_id, session_n))
    _count_runs(connection, (tenant, former), rows, sign=-1)
    _count_runs(connection, (tenant, workflow_id), rows, sign=1)


def _count_runs(
    connection: sqlite3.Connection, owner: tuple[str, str], rows: Sequence[tuple[Any, ...]], *, sign: int
) -> None:
    sums = RunSums()
    for _, status, created_at, ended_at, active_us in rows:
        sums.start(*owner, created_at=created_at, sign=sign)
        if ended_at is not None:
            sums.end(*owner, RunStatus(status), ended_at=ended_at, active_us=active_us, sign=sign)
    sums.store(connection)


def _owner(connection: sqlite3.Connection, session_n: int) -> tuple[str, str]:
    return connection.execute("SELECT tenant, workflow_id FROM sessions WHERE n = ?", (session_n,)).fetchone()


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
