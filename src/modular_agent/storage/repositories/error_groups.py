"""Errors as people work through them: filtered lists, and groups of one cause that are resolved and come back.

An error is resolved while its group is and it happened before that; one that happens later opens the group again.
"""

import sqlite3
from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias

from modular_agent.kit.dataclass import dataclass
from modular_agent.storage.readers import Readers

__all__ = [
    "ErrorFilter",
    "ErrorGroupRow",
    "ErrorLists",
    "ErrorState",
    "FailedRun",
    "ListedError",
    "put_trace",
    "reopen_group",
    "resolve_group",
]

ErrorState: TypeAlias = Literal["open", "resolved"]

SESSIONS_SHOWN: Final = 10
_SOURCE: Final = (
    " FROM errors e LEFT JOIN sessions s ON s.n = e.session_n LEFT JOIN error_groups g ON g.fingerprint = e.fingerprint"
)
_OPEN: Final = "(g.resolved_at IS NULL OR e.ts > g.resolved_at)"
_ERROR: Final = (
    "e.error_id, s.session_id, e.session_n, s.workflow_id, e.run_id, e.node, e.ts, e.error_type, e.message,"
    f" e.severity, e.fingerprint, {_OPEN}"
)
_GROUP: Final = (
    "e.fingerprint, count(*), min(e.ts), max(e.ts), count(DISTINCT e.session_n), count(DISTINCT e.run_id),"
    f" sum({_OPEN}), max(g.resolved_at), max(g.resolved_by), max(g.note)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorFilter:
    """Which errors: those to which everything that is set applies. `start` (inclusive), `end` (exclusive) in µs."""

    session_id: str | None = None
    run_id: str | None = None
    error_type: str | None = None
    severity: str | None = None
    fingerprint: str | None = None
    status: ErrorState | None = None
    start: int | None = None
    end: int | None = None

    def condition(self) -> tuple[str, list[Any]]:
        """The WHERE condition over `e`, `s` and `g`, and its parameters."""
        terms, values = ["s.deleted_at IS NULL"], list[Any]()
        for term, value in (
            ("s.session_id = ?", self.session_id),
            ("e.run_id = ?", self.run_id),
            ("e.error_type = ?", self.error_type),
            ("e.severity = ?", self.severity),
            ("e.fingerprint = ?", self.fingerprint),
            ("e.ts >= ?", self.start),
            ("e.ts < ?", self.end),
        ):
            if value is not None:
                terms.append(term)
                values.append(value)
        if self.status is not None:
            terms.append(_OPEN if self.status == "open" else f"NOT {_OPEN}")
        return " AND ".join(terms), values


@dataclass(frozen=True, slots=True)
class ListedError:
    """An error; `session_id` is None for one of the server itself. `ts` in µs."""

    error_id: str
    session_id: str | None
    session_n: int | None
    workflow_id: str | None
    run_id: str | None
    node: str | None
    ts: int
    error_type: str
    message: str
    severity: str
    fingerprint: str
    is_open: int


@dataclass(frozen=True, slots=True)
class ErrorGroupRow:
    """Errors of one cause. Times in µs; `newest` is the last of them, `sessions` the ids of the newest few sessions."""

    newest: ListedError
    sessions: list[str]
    fingerprint: str
    count: int
    first_seen: int
    last_seen: int
    session_count: int
    run_count: int
    open_count: int
    resolved_at: int | None
    resolved_by: str | None
    note: str | None


@dataclass(frozen=True, slots=True)
class FailedRun:
    """A run that ended with an error and is its session's newest."""

    run_id: str
    session_id: str


def put_trace(error_id: str, stack_trace: str) -> Callable[[sqlite3.Connection], None]:
    """The step that keeps the trace of an error outside of sessions; the error is in the same unit."""

    def step(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO error_traces VALUES (?, ?) ON CONFLICT DO NOTHING", (error_id, stack_trace))

    return step


def resolve_group(fingerprint: str, *, now_us: int, by: str, note: str | None) -> Callable[[sqlite3.Connection], bool]:
    """The step that resolves every error of the group so far; its result is whether there is any."""

    def step(connection: sqlite3.Connection) -> bool:
        (last,) = connection.execute("SELECT max(ts) FROM errors WHERE fingerprint = ?", (fingerprint,)).fetchone()
        if last is None:
            return False
        connection.execute(
            "INSERT INTO error_groups (fingerprint, resolved_at, resolved_by, note) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (fingerprint) DO UPDATE SET resolved_at = excluded.resolved_at,"
            " resolved_by = excluded.resolved_by, note = coalesce(excluded.note, note)",
            (fingerprint, max(now_us, last), by, note),
        )
        return True

    return step


def reopen_group(fingerprint: str) -> Callable[[sqlite3.Connection], bool]:
    """The step that opens the group again; its result is whether it has any error."""

    def step(connection: sqlite3.Connection) -> bool:
        connection.execute(
            "UPDATE error_groups SET resolved_at = NULL, resolved_by = NULL WHERE fingerprint = ?", (fingerprint,)
        )
        row = connection.execute("SELECT 1 FROM errors WHERE fingerprint = ? LIMIT 1", (fingerprint,)).fetchone()
        return row is not None

    return step


class ErrorLists:
    """Reads errors and their groups, newest first."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def get(self, error_id: str) -> ListedError | None:
        rows = await self._readers.query(
            f"SELECT {_ERROR}{_SOURCE} WHERE e.error_id = ? AND s.deleted_at IS NULL", (error_id,)
        )
        return ListedError(*rows[0]) if rows else None

    async def trace(self, error_id: str) -> str | None:
        """The kept trace of an error outside of sessions."""
        rows = await self._readers.query("SELECT stack_trace FROM error_traces WHERE error_id = ?", (error_id,))
        return rows[0][0] if rows else None

    async def page(
        self, chosen: ErrorFilter, *, limit: int, offset: int = 0, after: tuple[int, str] | None = None
    ) -> tuple[list[ListedError], int]:
        """Up to `limit` errors, behind the (`ts`, id) `after` if given, and how many there are in all."""
        condition, values = chosen.condition()
        place = "" if after is None else " AND (e.ts, e.error_id) < (?, ?)"

        def read(connection: sqlite3.Connection) -> tuple[list[ListedError], int]:
            rows = connection.execute(
                f"SELECT {_ERROR}{_SOURCE} WHERE {condition}{place} ORDER BY e.ts DESC, e.error_id DESC"
                " LIMIT ? OFFSET ?",
                (*values, *(after or ()), limit, 0 if after else offset),
            ).fetchall()
            (total,) = connection.execute(f"SELECT count(*){_SOURCE} WHERE {condition}", values).fetchone()
            return [ListedError(*row) for row in rows], total

        return await self._readers.run(read)

    async def groups(
        self,
        chosen: ErrorFilter,
        *,
        limit: int,
        offset: int = 0,
        after: tuple[int, str] | None = None,
    ) -> tuple[list[ErrorGroupRow], int]:
        """Up to `limit` groups by when they were last seen, behind (`last_seen`, fingerprint) `after`; how many in all.

        `status` is the group's: open if any of its errors is.
        """
        condition, values = ErrorFilter(
            **{name: getattr(chosen, name) for name in ErrorFilter.__slots__ if name != "status"}
        ).condition()
        having = "" if chosen.status is None else f" HAVING sum({_OPEN}) {'> 0' if chosen.status == 'open' else '= 0'}"
        grouped = f"SELECT {_GROUP}{_SOURCE} WHERE {condition} GROUP BY e.fingerprint{having}"
        place = "" if after is None else " WHERE (last_seen, fingerprint) < (?, ?)"

        def read(connection: sqlite3.Connection) -> tuple[list[ErrorGroupRow], int]:
            rows = connection.execute(
                "WITH found(fingerprint, count, first_seen, last_seen, sessions, runs, open, resolved_at, resolved_by,"
                f" note) AS ({grouped}) SELECT * FROM found{place} ORDER BY last_seen DESC, fingerprint DESC"
                " LIMIT ? OFFSET ?",
                (*values, *(after or ()), limit, 0 if after else offset),
            ).fetchall()
            (total,) = connection.execute(f"SELECT count(*) FROM ({grouped})", values).fetchone()
            return [_group(connection, row) for row in rows], total

        return await self._readers.run(read)

    async def failed_runs(self, fingerprint: str, *, limit: int) -> tuple[list[FailedRun], int]:
        """The runs that failed with an error of the group and are their sessions' newest, oldest first; all of them."""
        source = (
            " FROM errors e JOIN runs r ON r.run_id = e.run_id JOIN sessions s ON s.n = r.session_n"
            " WHERE e.fingerprint = ? AND r.status = 'failed' AND s.deleted_at IS NULL"
            " AND json_extract(r.error, '$.error_id') = e.error_id AND s.current_run_id IS NULL"
            " AND NOT EXISTS (SELECT 1 FROM runs n WHERE n.session_n = r.session_n AND n.created_at > r.created_at)"
        )

        def read(connection: sqlite3.Connection) -> tuple[list[FailedRun], int]:
            rows = connection.execute(
                f"SELECT r.run_id, s.session_id{source} ORDER BY e.ts, e.error_id LIMIT ?", (fingerprint, limit)
            ).fetchall()
            (total,) = connection.execute(f"SELECT count(*){source}", (fingerprint,)).fetchone()
            return [FailedRun(*row) for row in rows], total

        return await self._readers.run(read)


def _group(connection: sqlite3.Connection, row: tuple[Any, ...]) -> ErrorGroupRow:
    newest = connection.execute(
        f"SELECT {_ERROR}{_SOURCE} WHERE e.fingerprint = ? AND s.deleted_at IS NULL"
        " ORDER BY e.ts DESC, e.error_id DESC LIMIT 1",
        (row[0],),
    ).fetchone()
    sessions = connection.execute(
        "SELECT s.session_id FROM errors e JOIN sessions s ON s.n = e.session_n"
        " WHERE e.fingerprint = ? AND s.deleted_at IS NULL GROUP BY s.n ORDER BY max(e.ts) DESC LIMIT ?",
        (row[0], SESSIONS_SHOWN),
    ).fetchall()
    return ErrorGroupRow(ListedError(*newest), [session for (session,) in sessions], *row)
