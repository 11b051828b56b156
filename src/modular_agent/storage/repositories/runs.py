"""Runs and their inbox. A status changes in one way only: `transition_run`, by the table in `lifecycle`."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

import orjson

from modular_agent.events import SessionRef
from modular_agent.kit.ids import new_id
from modular_agent.kit.pagination import CursorValue
from modular_agent.lifecycle import (
    ENDED_RUN_STATUSES,
    SESSION_STATUS_OF_RUN,
    RunStatus,
    check_run_transition,
)
from modular_agent.storage.errors import RunAlreadyActive, RunUnknown, SessionUnknown, StaleEpoch
from modular_agent.storage.models import ACTIVE_STATUSES_SQL, run_inbox, runs
from modular_agent.storage.readers import Readers
from modular_agent.storage.rollup_changes import count_run_end, count_run_start
from modular_agent.storage.sql import column_list, marks

__all__ = [
    "KEEP",
    "InboxRow",
    "Keep",
    "NewRun",
    "RunChange",
    "RunPage",
    "RunRepository",
    "RunRow",
    "add_to_inbox",
    "change_run",
    "create_run",
    "inbox_waits",
    "take_inbox",
    "transition_run",
]

_COLUMNS: Final = column_list(runs)
_INBOX_COLUMNS: Final = column_list(run_inbox)
_JSON_COLUMNS: Final = tuple(
    index
    for index, column in enumerate(runs.columns)
    if column.name in ("input", "limits", "spent", "pending", "result", "error")
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
    """What a run starts with. With `UNNUMBERED` as `session.n` the session is found by its id."""

    run_id: str
    session: SessionRef
    now_us: int
    status: RunStatus = RunStatus.QUEUED
    epoch: int = 1
    input: Mapping[str, Any] = field(default_factory=dict[str, Any])
    limits: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class RunChange:
    """What else changes in a run; `KEEP` leaves a field as it is. JSON values are given unencoded.

    `active_us` and `steps` are added to what the run has.
    """

    spent: Mapping[str, Any] | Keep = KEEP
    limits: Mapping[str, Any] | Keep = KEEP
    pending: Any = KEEP  # any JSON value; None takes it away
    result: Any = KEEP  # any JSON value
    error: Mapping[str, Any] | Keep | None = KEEP
    current_node: str | Keep | None = KEEP
    active_us: int = 0
    steps: int = 0

    def assignments(self) -> tuple[list[str], list[Any]]:
        """The SET terms and their values."""
        terms: list[str] = []
        values: list[Any] = []
        for name in ("spent", "limits", "pending", "result", "error", "current_node"):
            value = getattr(self, name)
            if value is not KEEP:
                terms.append(f"{name} = ?")
                values.append(value if name == "current_node" or value is None else _json(value))
        for name in ("active_us", "steps"):
            if getattr(self, name):
                terms.append(f"{name} = {name} + ?")
                values.append(getattr(self, name))
        return terms, values


def create_run(new: NewRun) -> Callable[[sqlite3.Connection], RunRow]:
    """The step that creates a run as the session's active one and sets the session's status.

    To be a unit's `first` when the unit holds records of the run: `first_seq` is the session's newest `seq` then.
    Raises `RunAlreadyActive`, `SessionUnknown`.
    """

    def step(connection: sqlite3.Connection) -> RunRow:
        session = connection.execute(
            "SELECT n, last_seq FROM sessions WHERE session_id = ? AND deleted_at IS NULL", (new.session.session_id,)
        ).fetchone()
        if session is None:
            raise SessionUnknown(session_id=new.session.session_id)
        n, last_seq = session
        values = (new.run_id, n, new.status.value, new.epoch, _json(new.input), _json(new.limits), "{}", None)
        created = _created_at(connection, n, new)
        values += (created, created if new.status is RunStatus.RUNNING else None, None, 0, last_seq)
        values += (None, 0, None, None)
        rows = connection.execute(
            f"INSERT INTO runs VALUES ({marks(len(values))}) ON CONFLICT (session_n) WHERE {ACTIVE_STATUSES_SQL}"
            f" DO NOTHING RETURNING {_COLUMNS}",
            values,
        ).fetchall()
        if not rows:
            raise _already_active(connection, n)
        count_run_start(connection, n, created_at=created)
        _follow(connection, n, new.run_id, new.status, new.now_us)
        return RunRow.of(rows[0])

    return step


def transition_run(
    run_id: str,
    target: RunStatus,
    *,
    now_us: int,
    expected_epoch: int | None = None,
    raise_epoch: bool = False,
    change: RunChange | None = None,
) -> Callable[[sqlite3.Connection], RunRow]:
    """The step that changes a run's status, and its session's with it; its result is the changed run.

    `started_at` is set by the first start, `ended_at` by an end (and taken away by a retry). Raises `RunUnknown`,
    `StaleEpoch`, `IllegalTransition`, and `RunAlreadyActive` when a retry meets another active run.
    """

    def step(connection: sqlite3.Connection) -> RunRow:
        run = _require(connection, run_id, expected_epoch)
        check_run_transition(run.status, target)
        terms, values = (change or RunChange()).assignments()
        terms += ["status = ?", "epoch = epoch + ?", "ended_at = ?"]
        values += [target.value, int(raise_epoch), now_us if target in ENDED_RUN_STATUSES else None]
        if target is RunStatus.RUNNING and run.started_at is None:
            terms.append("started_at = ?")
            values.append(now_us)
        if run.status in ENDED_RUN_STATUSES:
            other = connection.execute(
                f"SELECT 1 FROM runs WHERE session_n = ? AND {ACTIVE_STATUSES_SQL}", (run.session_n,)
            ).fetchone()
            if other is not None:
                raise _already_active(connection, run.session_n)
        changed = _set(connection, run_id, terms, values)
        _count_ends(connection, run, changed)
        _follow(connection, run.session_n, run_id, target, now_us)
        return changed

    return step


def change_run(
    run_id: str, change: RunChange, *, expected_epoch: int | None = None, raise_epoch: bool = False
) -> Callable[[sqlite3.Connection], RunRow]:
    """The step that changes a run but not its status. Raises `RunUnknown`, `StaleEpoch`."""

    def step(connection: sqlite3.Connection) -> RunRow:
        _require(connection, run_id, expected_epoch)
        terms, values = change.assignments()
        return _set(connection, run_id, [*terms, "epoch = epoch + ?"], [*values, int(raise_epoch)])

    return step


def change_pending(
    run_id: str, change: Callable[[Any], Any], *, expected_epoch: int | None = None
) -> Callable[[sqlite3.Connection], RunRow]:
    """The step that makes a run's `pending` what `change` makes of it. Raises `RunUnknown`, `StaleEpoch`.

    Of two at once none is lost: each sees what the one before it left.
    """

    def step(connection: sqlite3.Connection) -> RunRow:
        row = _require(connection, run_id, expected_epoch)
        terms, values = RunChange(pending=change(row.pending)).assignments()
        return _set(connection, run_id, terms, values)

    return step


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


def inbox_waits(session: SessionRef) -> Callable[[sqlite3.Connection], bool]:
    """The step that says whether anything waits for the session."""

    def step(connection: sqlite3.Connection) -> bool:
        found = connection.execute("SELECT 1 FROM run_inbox WHERE session_n = ? LIMIT 1", (session.n,)).fetchone()
        return found is not None

    return step


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


def _created_at(connection: sqlite3.Connection, n: int, new: NewRun) -> int:
    """The time of the run, not before that of the run before it: a session's last run is the newest one."""
    (last,) = connection.execute("SELECT max(created_at) FROM runs WHERE session_n = ?", (n,)).fetchone()
    return max(new.now_us, last or 0)


def _is_completed(connection: sqlite3.Connection, run_id: str | None) -> bool:
    run = None if run_id is None else _get(connection, run_id)
    return run is not None and run.status is RunStatus.COMPLETED


def _require(connection: sqlite3.Connection, run_id: str, epoch: int | None) -> RunRow:
    run = _get(connection, run_id)
    if run is None:
        raise RunUnknown(run_id=run_id)
    if epoch is not None and run.epoch != epoch:
        raise StaleEpoch(run_id=run_id, epoch=epoch)
    return run


def _set(connection: sqlite3.Connection, run_id: str, terms: list[str], values: list[Any]) -> RunRow:
    row = connection.execute(
        f"UPDATE runs SET {', '.join(terms)} WHERE run_id = ? RETURNING {_COLUMNS}", (*values, run_id)
    ).fetchall()
    return RunRow.of(row[0])


def _count_ends(connection: sqlite3.Connection, before: RunRow, after: RunRow) -> None:
    """A run counts where it last ended: a retry takes the former end away."""
    for run, sign in ((before, -1), (after, 1)):
        if run.ended_at is not None:
            count_run_end(
                connection, run.session_n, run.status, ended_at=run.ended_at, active_us=run.active_us, sign=sign
            )


def _follow(connection: sqlite3.Connection, n: int, run_id: str, status: RunStatus, now_us: int) -> None:
    """Sets the session's status by its run's."""
    connection.execute(
        "UPDATE sessions SET status = ?, current_run_id = ?, updated_at = max(updated_at, ?) WHERE n = ?",
        (SESSION_STATUS_OF_RUN[status].value, None if status in ENDED_RUN_STATUSES else run_id, now_us, n),
    )


def _already_active(connection: sqlite3.Connection, n: int) -> RunAlreadyActive:
    run_id, status = connection.execute(
        f"SELECT run_id, status FROM runs WHERE session_n = ? AND {ACTIVE_STATUSES_SQL}", (n,)
    ).fetchone()
    return RunAlreadyActive(run_id=run_id, status=status)


def _inbox(connection: sqlite3.Connection, n: int) -> list[InboxRow]:
    rows = connection.execute(
        f"SELECT {_INBOX_COLUMNS} FROM run_inbox WHERE session_n = ? ORDER BY rowid", (n,)
    ).fetchall()
    return [InboxRow(row[0], row[1], row[2], orjson.loads(row[3]), row[4]) for row in rows]


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
