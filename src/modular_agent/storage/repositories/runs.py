"""Runs and their inbox; `run_steps` makes runs and changes them."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from enum import Enum
from typing import Any, Final

import orjson

from modular_agent.events import SessionRef
from modular_agent.kit.dataclass import dataclass
from modular_agent.kit.ids import new_id
from modular_agent.kit.pagination import CursorValue
from modular_agent.lifecycle import RunHold, RunStatus
from modular_agent.storage.models import ACTIVE_STATUSES_SQL, run_inbox, runs
from modular_agent.storage.readers import Readers
from modular_agent.storage.sql import column_list, marks
from modular_agent.storage.unit_of_work import CommonStep

__all__ = [
    "HOLD",
    "KEEP",
    "PLACES",
    "InboxRow",
    "Keep",
    "NewRun",
    "RunChange",
    "RunPage",
    "RunRepository",
    "RunRow",
    "add_to_inbox",
    "inbox_waits",
    "take_inbox",
]

_COLUMNS: Final = column_list(runs)
_INBOX_COLUMNS: Final = column_list(run_inbox)
PLACES: Final = {column.name: place for place, column in enumerate(runs.columns)}
_JSON_COLUMNS: Final = tuple(PLACES[name] for name in ("input", "limits", "spent", "pending", "result", "error"))
HOLD: Final = "hold"  # in a run's `pending`: whether a person holds it
_WAITING: Final = (
    "SELECT json_group_array(session_n) FROM run_inbox WHERE session_n IN (SELECT value FROM json_each(?))"
)


class Keep(Enum):
    """The mark of a field that a change leaves as it is."""

    KEEP = "keep"


KEEP: Final = Keep.KEEP


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run as it is stored, in the order of the table's columns. Times in µs; JSON values are parsed."""

    run_id: str
    session_n: int
    status: RunStatus
    epoch: int
    input: dict[str, Any]
    limits: dict[str, Any]
    spent: dict[str, Any]
    pending: Any | None  # any JSON value, as the control was given
    created_at: int
    started_at: int | None
    ended_at: int | None
    active_us: int
    first_seq: int
    current_node: str | None
    steps: int
    result: Any | None  # any JSON value, as the workflow made it
    error: dict[str, Any] | None

    @classmethod
    def of(cls, values: Sequence[Any]) -> "RunRow":
        """The row of SQL values in the order of the table's columns."""
        parsed = list(values)
        for index in _JSON_COLUMNS:
            if parsed[index] is not None:
                parsed[index] = orjson.loads(parsed[index])
        parsed[2] = RunStatus(parsed[2])
        return cls(*parsed)

    @property
    def hold(self) -> RunHold | None:
        """How a person holds it: what the last control says that decides about it."""
        pending: Mapping[str, Any] = self.pending or {}
        held = pending.get(HOLD)
        return None if held is None else RunHold(held)


@dataclass(frozen=True, slots=True)
class RunPage:
    """Some of a session's runs, newest first, how many there are, and behind which place the next page begins."""

    runs: list[RunRow]
    total: int
    after: tuple[int, int] | None  # the last one's created_at and rowid; None at the end


@dataclass(frozen=True, slots=True)
class InboxRow:
    """A message that waits to be put into a run. `message` is a JSON value."""

    inbox_id: str
    session_n: int
    run_id: str | None
    message: Any  # any JSON value: a message as the client gave it
    created_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """What a run starts with. With `UNNUMBERED` as `session.n` the session is found by its id.

    `since` is the session's newest record when this was prepared.
    """

    run_id: str
    session: SessionRef
    now_us: int
    status: RunStatus = RunStatus.QUEUED
    epoch: int = 1
    input: Mapping[str, Any] = field(default_factory=dict[str, Any])
    limits: Mapping[str, Any] = field(default_factory=dict[str, Any])
    since: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunChange:
    """What else changes in a run; `KEEP` leaves a field as it is. JSON values are given unencoded.

    `active_us` and `steps` are added to what the run has.
    """

    spent: Mapping[str, Any] | Keep = KEEP
    limits: Mapping[str, Any] | Keep = KEEP
    pending: Any = KEEP  # any JSON value; None takes it away
    hold: RunHold | Keep | None = KEEP  # in `pending`; None takes it away
    result: Any = KEEP  # any JSON value
    error: Mapping[str, Any] | Keep | None = KEEP
    current_node: str | Keep | None = KEEP
    active_us: int = 0
    steps: int = 0

    def apply(self, row: list[Any]) -> None:
        """Changes the SQL values of a run."""
        for name in ("spent", "limits", "pending", "result", "error"):
            value = getattr(self, name)
            if value is not KEEP:
                row[PLACES[name]] = None if value is None else _json(value)
        if self.hold is not KEEP:
            pending = {**orjson.loads(row[PLACES["pending"]] or "{}"), HOLD: self.hold}
            if self.hold is None:
                del pending[HOLD]
            row[PLACES["pending"]] = _json(pending) if pending else None
        if self.current_node is not KEEP:
            row[PLACES["current_node"]] = self.current_node
        row[PLACES["active_us"]] += self.active_us
        row[PLACES["steps"]] += self.steps


def add_to_inbox(
    session: SessionRef,
    message: Any,
    *,
    run_id: str | None,
    now_us: int,  # any JSON value
) -> Callable[[sqlite3.Connection], InboxRow]:
    """The step that puts a message where the next model call of the run, or the next run, takes it."""
    row = InboxRow(new_id("inb"), session.n, run_id, message, now_us)

    def step(connection: sqlite3.Connection) -> InboxRow:
        values = (row.inbox_id, row.session_n, row.run_id, _json(message), now_us)
        connection.execute(f"INSERT INTO run_inbox VALUES ({marks(len(values))})", values)
        return row

    return step


def take_inbox(
    session: SessionRef, *, inbox_ids: Sequence[str] | None = None
) -> Callable[[sqlite3.Connection], list[InboxRow]]:
    """The step that takes the session's waiting messages out, oldest first: all, or those named."""

    def step(connection: sqlite3.Connection) -> list[InboxRow]:
        found = _inbox(connection, session.n)
        taken = [row for row in found if inbox_ids is None or row.inbox_id in inbox_ids]
        connection.execute(
            "DELETE FROM run_inbox WHERE inbox_id IN (SELECT value FROM json_each(?))",
            (_json([row.inbox_id for row in taken]),),
        )
        return taken

    return step


def take_inbox_of_run(session: SessionRef, run_id: str) -> Callable[[sqlite3.Connection], None]:
    """The step that takes out what waits for a model call of one run."""

    def step(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM run_inbox WHERE session_n = ? AND run_id = ?", (session.n, run_id))

    return step


def inbox_waits(session: SessionRef) -> CommonStep[SessionRef, bool]:
    """The step that says whether anything waits for the session."""
    return CommonStep(_inboxes_wait, session, apart=True)


class RunRepository:
    """Reads runs."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def get(self, run_id: str) -> RunRow | None:
        return await self._readers.run(lambda connection: _get(connection, run_id))

    async def active(self, session: SessionRef) -> RunRow | None:
        """The session's active run (paused ones are active too)."""
        rows = await self._readers.query(
            f"SELECT {_COLUMNS} FROM runs WHERE session_n = ? AND {ACTIVE_STATUSES_SQL}", (session.n,)
        )
        return RunRow.of(rows[0]) if rows else None

    async def all_active(self) -> list[tuple[SessionRef, RunRow]]:
        """Every active run with its session, oldest first: what a start-up has to look after."""
        rows = await self._readers.query(
            f"SELECT s.session_id, {column_list(runs, alias='r')} FROM runs r JOIN sessions s ON s.n = r.session_n"
            f" WHERE r.{ACTIVE_STATUSES_SQL} AND s.deleted_at IS NULL ORDER BY r.created_at, r.run_id"
        )
        found = [(row[0], RunRow.of(row[1:])) for row in rows]
        return [(SessionRef(run.session_n, session_id), run) for session_id, run in found]

    async def page(
        self, session: SessionRef, *, limit: int, offset: int = 0, after: Sequence[CursorValue] | None = None
    ) -> RunPage:
        """The session's runs, newest first: from number `offset` on, or those behind the place `after`."""
        behind = "" if after is None else " AND (created_at, rowid) < (?, ?)"

        def read(connection: sqlite3.Connection) -> RunPage:
            rows = connection.execute(
                f"SELECT rowid, {_COLUMNS} FROM runs WHERE session_n = ?{behind}"
                " ORDER BY created_at DESC, rowid DESC LIMIT ? OFFSET ?",
                (session.n, *(after or ()), limit + 1, 0 if after else offset),
            ).fetchall()
            count = connection.execute("SELECT count(*) FROM runs WHERE session_n = ?", (session.n,)).fetchone()[0]
            runs = [RunRow.of(row[1:]) for row in rows[:limit]]
            last = (runs[-1].created_at, rows[limit - 1][0]) if len(rows) > limit else None
            return RunPage(runs, count, last)

        return await self._readers.run(read)

    async def leftovers(self, session_n: int) -> list[InboxRow]:
        """The messages that completed runs of a session did not take, oldest first."""
        return await self._readers.run(
            lambda connection: [row for row in _inbox(connection, session_n) if _is_completed(connection, row.run_id)]
        )

    async def with_leftovers(self) -> list[int]:
        """The sessions (by number) without an active run in which completed runs left messages."""
        rows = await self._readers.query(
            "SELECT DISTINCT i.session_n FROM run_inbox i JOIN runs r ON r.run_id = i.run_id"
            " WHERE r.status = 'completed' AND NOT EXISTS"
            f" (SELECT 1 FROM runs a WHERE a.session_n = i.session_n AND a.{ACTIVE_STATUSES_SQL})"
        )
        return [row[0] for row in rows]

    async def inbox(self, session: SessionRef) -> list[InboxRow]:
        """What waits to be put into a run of the session, oldest first."""
        return await self._readers.run(lambda connection: _inbox(connection, session.n))


def _get(connection: sqlite3.Connection, run_id: str) -> RunRow | None:
    row = connection.execute(f"SELECT {_COLUMNS} FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    return None if row is None else RunRow.of(row)


def _is_completed(connection: sqlite3.Connection, run_id: str | None) -> bool:
    run = None if run_id is None else _get(connection, run_id)
    return run is not None and run.status is RunStatus.COMPLETED


def _inboxes_wait(connection: sqlite3.Connection, sessions: Sequence[SessionRef]) -> list[bool | Exception]:
    (found,) = connection.execute(_WAITING, (_json([session.n for session in sessions]),)).fetchone()
    waiting = set(orjson.loads(found))
    return [session.n in waiting for session in sessions]


def _inbox(connection: sqlite3.Connection, n: int) -> list[InboxRow]:
    rows = connection.execute(
        f"SELECT {_INBOX_COLUMNS} FROM run_inbox WHERE session_n = ? ORDER BY rowid", (n,)
    ).fetchall()
    return [InboxRow(row[0], row[1], row[2], orjson.loads(row[3]), row[4]) for row in rows]


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
