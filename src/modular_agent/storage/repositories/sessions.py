"""Sessions: created and changed by steps of a unit of work, read singly and in pages."""

import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any, Final

import orjson

from modular_agent.events import SessionRef
from modular_agent.kit.dataclass import dataclass
from modular_agent.lifecycle import SessionStatus
from modular_agent.storage.cache import Cache
from modular_agent.storage.errors import SessionBusy, SessionIdTaken, SessionUnknown
from modular_agent.storage.models import ACTIVE_STATUSES_SQL, sessions
from modular_agent.storage.readers import Readers
from modular_agent.storage.rollup_changes import count_session, move_runs
from modular_agent.storage.session_grams import add_grams, regrammed
from modular_agent.storage.sql import column_list, marks

__all__ = [
    "NewSession",
    "SessionChange",
    "SessionRepository",
    "SessionRow",
    "create_session",
    "mark_deleted",
    "set_workflow_version",
    "update_session",
]

_COLUMNS: Final = column_list(sessions)
_JSON_COLUMNS: Final = tuple(
    index
    for index, column in enumerate(sessions.columns)
    if column.name in ("tags", "agent_config", "metadata", "initial_state")
)
_SAFE_ID: Final = re.compile(r"[^/\\\x00-\x1f]{1,200}")  # it names a file


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session as it is stored, in the order of the table's columns. Times in µs, money in nano-dollars."""

    n: int
    session_id: str
    tenant: str
    workflow_id: str
    workflow_version: str
    workflow_config_path: str
    status: str
    title: str | None
    tags: list[str]
    agent_config: dict[str, Any]
    metadata: dict[str, Any]
    initial_state: dict[str, Any]
    created_at: int
    updated_at: int
    current_run_id: str | None
    generation: int
    last_seq: int
    last_ts: int
    messages: int
    tool_calls: int
    errors: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    unpriced_tokens: int
    cost_nano: int
    deleted_at: int | None

    @property
    def ref(self) -> SessionRef:
        return SessionRef(self.n, self.session_id)

    @classmethod
    def of(cls, values: Sequence[Any]) -> "SessionRow":
        """The row of SQL values in the order of the table's columns."""
        parsed = list(values)
        for index in _JSON_COLUMNS:
            parsed[index] = orjson.loads(parsed[index])
        return cls(*parsed)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSession:
    """What a session starts with."""

    session_id: str
    workflow_id: str
    workflow_version: str
    workflow_config_path: str
    now_us: int
    tenant: str = "default"
    title: str | None = None
    tags: Sequence[str] = ()
    agent_config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    initial_state: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionChange:
    """What to change: None leaves as it is; `metadata` is merged key by key; an empty `title` takes the title away."""

    metadata: Mapping[str, Any] | None = None
    title: str | None = None
    tags: Sequence[str] | None = None


def create_session(new: NewSession) -> Callable[[sqlite3.Connection], SessionRef]:
    """The step that creates a session (its result is the reference). Raises `SessionIdTaken`: propose another id."""
    if not _SAFE_ID.fullmatch(new.session_id) or new.session_id in (".", ".."):
        raise ValueError(f"not a session id: {new.session_id!r}")
    fixed = (
        *(new.session_id, new.tenant, new.workflow_id, new.workflow_version, new.workflow_config_path),
        *(SessionStatus.ACTIVE.value, new.title, _json(list(new.tags)), _json(new.agent_config), _json(new.metadata)),
        *(_json(new.initial_state), new.now_us, new.now_us),
    )
    names = [column.name for column in sessions.columns][1 : 1 + len(fixed)]
    counts = [column.name for column in sessions.columns][len(fixed) + 2 : -1]
    text = (
        f"INSERT INTO sessions ({', '.join([*names, *counts])})"
        f" VALUES ({marks(len(fixed))}, 1{', 0' * (len(counts) - 1)})"  # the log's generation, and zeros
        " ON CONFLICT (session_id) DO NOTHING RETURNING n"
    )

    def step(connection: sqlite3.Connection) -> SessionRef:
        rows = connection.execute(text, fixed).fetchall()
        if not rows:
            raise SessionIdTaken(session_id=new.session_id)
        add_grams(connection, rows[0][0])
        count_session(connection, rows[0][0], created_at=new.now_us)
        return SessionRef(rows[0][0], new.session_id)

    return step


def update_session(
    session: SessionRef, change: SessionChange, *, now_us: int
) -> Callable[[sqlite3.Connection], SessionRow]:
    """The step that applies `change` to what is stored at that moment: of two at once none is lost.

    Raises `SessionUnknown`.
    """

    def step(connection: sqlite3.Connection) -> SessionRow:
        row = _get(connection, "n = ?", session.n)
        if row is None:
            raise SessionUnknown(session_id=session.session_id)
        metadata = row.metadata if change.metadata is None else {**row.metadata, **change.metadata}
        title = row.title if change.title is None else change.title or None
        tags = row.tags if change.tags is None else list(change.tags)
        with regrammed(connection, session.n):
            connection.execute(
                "UPDATE sessions SET metadata = ?, title = ?, tags = ?, updated_at = max(updated_at, ?) WHERE n = ?",
                (_json(metadata), title, _json(tags), now_us, session.n),
            )
        changed = _get(connection, "n = ?", session.n)
        assert changed is not None
        return changed

    return step


def set_workflow_version(
    session: SessionRef, *, workflow_id: str, version: str, config_path: str, now_us: int
) -> Callable[[sqlite3.Connection], None]:
    """The step that binds a session to another version of a workflow. Raises `SessionUnknown`, and `SessionBusy`
    while a run is active."""

    def step(connection: sqlite3.Connection) -> None:
        _refuse_active_run(connection, session)
        with regrammed(connection, session.n):
            move_runs(connection, session.n, workflow_id)
            done = connection.execute(
                "UPDATE sessions SET workflow_id = ?, workflow_version = ?, workflow_config_path = ?,"
                " updated_at = max(updated_at, ?) WHERE n = ? AND deleted_at IS NULL",
                (workflow_id, version, config_path, now_us, session.n),
            )
        if done.rowcount == 0:
            raise SessionUnknown(session_id=session.session_id)

    return step


def mark_deleted(session: SessionRef, *, now_us: int) -> Callable[[sqlite3.Connection], bool]:
    """The step with which a deletion begins: the session is not found any more. False: it is gone already.

    Raises `SessionBusy` while a run is active.
    """

    def step(connection: sqlite3.Connection) -> bool:
        _refuse_active_run(connection, session)
        done = connection.execute(
            "UPDATE sessions SET deleted_at = coalesce(deleted_at, ?) WHERE n = ?", (now_us, session.n)
        )
        return done.rowcount == 1

    return step


class SessionRepository:
    """Reads sessions, those asked for by id through the `cache` if there is one. Those that are being deleted are not
    found."""

    def __init__(self, readers: Readers, *, cache: Cache | None = None) -> None:
        self._readers = readers
        self._cache = cache

    async def get(self, session_id: str, *, tenant: str | None = None) -> SessionRow | None:
        """The session; None as well when it belongs to another tenant."""
        values = await self._values(session_id)
        row = None if values is None else SessionRow.of(values)
        return None if row is None or (tenant is not None and row.tenant != tenant) else row

    async def _values(self, session_id: str) -> tuple[Any, ...] | None:
        """The row's SQL values; what the cache keeps of it, because nobody can change them."""

        async def load() -> tuple[Any, ...] | None:
            return await self._readers.run(lambda connection: _values(connection, "session_id = ?", session_id))

        if self._cache is None:
            return await load()
        return await self._cache.read(("session", session_id), load, tags=(), more_tags=_number_of)

    async def by_number(self, n: int) -> SessionRow | None:
        return await self._readers.run(lambda connection: _get(connection, "n = ?", n))

    async def ref(self, session_id: str) -> SessionRef | None:
        """The reference of a session id."""
        rows = await self._readers.query(
            "SELECT n FROM sessions WHERE session_id = ? AND deleted_at IS NULL", (session_id,)
        )
        return SessionRef(rows[0][0], session_id) if rows else None

    async def being_deleted(self) -> list[SessionRef]:
        """Sessions whose deletion has begun and not ended."""
        rows = await self._readers.query("SELECT n, session_id FROM sessions WHERE deleted_at IS NOT NULL")
        return [SessionRef(n, session_id) for n, session_id in rows]


def _get(connection: sqlite3.Connection, condition: str, value: object) -> SessionRow | None:
    row = _values(connection, condition, value)
    return None if row is None else SessionRow.of(row)


def _values(connection: sqlite3.Connection, condition: str, value: object) -> tuple[Any, ...] | None:
    return connection.execute(
        f"SELECT {_COLUMNS} FROM sessions WHERE {condition} AND deleted_at IS NULL", (value,)
    ).fetchone()


def _number_of(values: tuple[Any, ...] | None) -> tuple[int, ...]:
    return () if values is None else (values[0],)


def _refuse_active_run(connection: sqlite3.Connection, session: SessionRef) -> None:
    row = connection.execute(
        f"SELECT run_id FROM runs WHERE session_n = ? AND {ACTIVE_STATUSES_SQL}", (session.n,)
    ).fetchone()
    if row is not None:
        raise SessionBusy(session_id=session.session_id, run_id=row[0])


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
