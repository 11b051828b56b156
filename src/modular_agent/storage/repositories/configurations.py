"""Stored configuration: values by key, the system's and each owner's own."""

import sqlite3
from collections.abc import Callable
from typing import Any

import orjson

from modular_agent.kit.dataclass import dataclass
from modular_agent.storage.readers import Readers

__all__ = ["ConfigurationRepository", "StoredValue", "delete_value", "put_value"]


@dataclass(frozen=True, slots=True)
class StoredValue:
    """A stored value; `updated_at` in µs."""

    key: str
    value: Any  # JSON
    updated_at: int
    updated_by: str


def put_value(
    *, config_type: str, owner: str, key: str, value: Any, now_us: int, by: str
) -> Callable[[sqlite3.Connection], None]:
    """The step that stores a JSON value."""
    text = orjson.dumps(value).decode()

    def step(connection: sqlite3.Connection) -> None:
        connection.execute(
            'INSERT INTO configurations (config_type, owner, "key", value, updated_at, updated_by)'
            ' VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (config_type, owner, "key") DO UPDATE SET'
            " value = excluded.value, updated_at = excluded.updated_at, updated_by = excluded.updated_by",
            (config_type, owner, key, text, now_us, by),
        )

    return step


def delete_value(*, config_type: str, owner: str, key: str) -> Callable[[sqlite3.Connection], bool]:
    """The step that deletes a value; its result is whether there was one."""

    def step(connection: sqlite3.Connection) -> bool:
        done = connection.execute(
            'DELETE FROM configurations WHERE config_type = ? AND owner = ? AND "key" = ?', (config_type, owner, key)
        )
        return done.rowcount == 1

    return step


class ConfigurationRepository:
    """Reads stored values."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def all(self, *, config_type: str, owner: str) -> dict[str, StoredValue]:
        """Every stored value by its key."""
        rows = await self._readers.query(
            'SELECT "key", value, updated_at, updated_by FROM configurations'
            ' WHERE config_type = ? AND owner = ? ORDER BY "key"',
            (config_type, owner),
        )
        return {key: StoredValue(key, orjson.loads(value), at, by) for key, value, at, by in rows}
