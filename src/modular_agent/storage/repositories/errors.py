"""Errors that happened in sessions and outside of them."""

import sqlite3
from typing import Any, Final

from modular_agent.events import SessionRef
from modular_agent.kit.dataclass import dataclass
from modular_agent.storage.models import errors
from modular_agent.storage.readers import Readers
from modular_agent.storage.sql import column_list
from modular_agent.storage.unit_of_work import UnitOfWork

__all__ = ["ErrorPage", "ErrorRepository", "ErrorRow", "put_error"]

_COLUMNS: Final = column_list(errors)


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """One error, in the order of the table's columns. `fingerprint` is the same for errors of the same cause."""

    error_id: str
    session_n: int | None
    run_id: str | None
    node: str | None
    ts: int
    error_type: str
    message: str
    severity: str
    fingerprint: str

    def values(self) -> tuple[Any, ...]:
        """The SQL values."""
        return (
            *(self.error_id, self.session_n, self.run_id, self.node, self.ts),
            *(self.error_type, self.message, self.severity, self.fingerprint),
        )


@dataclass(frozen=True, slots=True)
class ErrorPage:
    """Some errors, newest first, and how many there are."""

    errors: list[ErrorRow]
    total: int


def put_error(unit: UnitOfWork[Any], row: ErrorRow) -> None:
    """Adds an error to the unit, and to the statistics."""
    unit.happened(errors, row.values())


class ErrorRepository:
    """Reads errors."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def get(self, error_id: str) -> ErrorRow | None:
        rows = await self._readers.query(f"SELECT {_COLUMNS} FROM errors WHERE error_id = ?", (error_id,))
        return ErrorRow(*rows[0]) if rows else None

    async def page(
        self,
        *,
        session: SessionRef | None = None,
        fingerprint: str | None = None,
        start: int | None = None,
        end: int | None = None,
        limit: int,
        offset: int = 0,
    ) -> ErrorPage:
        """Errors between `start` (inclusive) and `end` (exclusive), in µs, newest first."""
        terms, values = ["1"], list[Any]()
        for term, value in (
            ("session_n = ?", None if session is None else session.n),
            ("fingerprint = ?", fingerprint),
            ("ts >= ?", start),
            ("ts < ?", end),
        ):
            if value is not None:
                terms.append(term)
                values.append(value)
        condition = " AND ".join(terms)

        def read(connection: sqlite3.Connection) -> ErrorPage:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM errors WHERE {condition} ORDER BY ts DESC, error_id LIMIT ? OFFSET ?",
                (*values, limit, offset),
            ).fetchall()
            total = connection.execute(f"SELECT count(*) FROM errors WHERE {condition}", values).fetchone()[0]
            return ErrorPage([ErrorRow(*row) for row in rows], total)

        return await self._readers.run(read)

    async def count_by_type(self, session: SessionRef) -> dict[str, int]:
        """How many errors of each type a session had."""
        return dict(
            await self._readers.query(
                "SELECT error_type, count(*) FROM errors WHERE session_n = ? GROUP BY error_type", (session.n,)
            )
        )
