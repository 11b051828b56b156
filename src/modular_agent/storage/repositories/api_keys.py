"""API keys, and which sessions and runs are charged to one."""

import sqlite3
from collections.abc import Callable
from typing import Any, Final

import orjson

from modular_agent.events import SessionRef
from modular_agent.kit.dataclass import dataclass
from modular_agent.storage.models import api_keys, key_charges
from modular_agent.storage.readers import Readers
from modular_agent.storage.sql import column_list, marks

__all__ = ["ApiKeyRepository", "ApiKeyRow", "charge_to_key", "note_key_use", "put_key", "revoke_key"]

_COLUMNS: Final = column_list(api_keys)
_JSON: Final = list(api_keys.columns.keys()).index("limits")


@dataclass(frozen=True, slots=True)
class ApiKeyRow:
    """A key as it is stored, in the order of the table's columns; never its secret. Times in µs."""

    key_id: str
    tenant: str
    prefix: str
    secret_hash: str
    name: str
    limits: dict[str, Any]
    created_at: int
    last_used_at: int | None
    revoked_at: int | None


def put_key(row: ApiKeyRow) -> Callable[[sqlite3.Connection], ApiKeyRow]:
    """The step that stores a new key; its result is the row."""
    values = [getattr(row, column.name) for column in api_keys.columns]
    values[_JSON] = orjson.dumps(row.limits).decode()

    def step(connection: sqlite3.Connection) -> ApiKeyRow:
        connection.execute(f"INSERT INTO api_keys VALUES ({marks(len(values))})", values)
        return row

    return step


def revoke_key(key_id: str, *, now_us: int) -> Callable[[sqlite3.Connection], bool]:
    """The step that revokes a key; its result is whether there is one. Done before, it stays as it was."""

    def step(connection: sqlite3.Connection) -> bool:
        done = connection.execute(
            "UPDATE api_keys SET revoked_at = coalesce(revoked_at, ?) WHERE key_id = ?", (now_us, key_id)
        )
        return done.rowcount == 1

    return step


def note_key_use(key_id: str, *, now_us: int) -> Callable[[sqlite3.Connection], None]:
    """The step that says when a key was used last."""

    def step(connection: sqlite3.Connection) -> None:
        connection.execute(
            "UPDATE api_keys SET last_used_at = max(coalesce(last_used_at, 0), ?) WHERE key_id = ?", (now_us, key_id)
        )

    return step


def charge_to_key(session_id: str, run_id: str, key_id: str) -> Callable[[sqlite3.Connection], None]:
    """The step that charges a run to a key; an empty `run_id` stands for those of the session without their own."""

    def step(connection: sqlite3.Connection) -> None:
        connection.execute(
            f"INSERT INTO {key_charges.name} SELECT n, ?, ? FROM sessions WHERE session_id = ? ON CONFLICT DO NOTHING",
            (run_id, key_id, session_id),
        )

    return step


def _parsed(row: tuple[Any, ...]) -> list[Any]:
    values = list(row)
    values[_JSON] = orjson.loads(values[_JSON])
    return values


class ApiKeyRepository:
    """Reads keys."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def all(self) -> list[ApiKeyRow]:
        """Every key, oldest first, those that were revoked too."""
        rows = await self._readers.query(f"SELECT {_COLUMNS} FROM api_keys ORDER BY created_at, key_id")
        return [ApiKeyRow(*_parsed(row)) for row in rows]

    async def charged(self, session: SessionRef, run_id: str | None) -> str | None:
        """The id of the key that the run is charged to, or without one the session."""
        rows = await self._readers.query(
            f"SELECT key_id FROM {key_charges.name} WHERE session_n = ? AND run_id IN ('', ?)"
            " ORDER BY run_id DESC LIMIT 1",
            (session.n, run_id or ""),
        )
        return rows[0][0] if rows else None
