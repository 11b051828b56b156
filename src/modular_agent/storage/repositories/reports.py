"""Kept reports."""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import astuple
from typing import Any, Final

from modular_agent.kit.dataclass import dataclass
from modular_agent.kit.pagination import CursorValue
from modular_agent.storage.models import reports
from modular_agent.storage.readers import Readers
from modular_agent.storage.sql import column_list
from modular_agent.storage.unit_of_work import UnitOfWork

__all__ = ["ReportRepository", "ReportRow", "delete_report", "put_report"]

_COLUMNS: Final = column_list(reports)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRow:
    """A report in the order of the table's columns. Times in µs; `figures` is JSON text."""

    report_id: str
    tenant: str
    title: str
    created_at: int
    start_ts: int
    end_ts: int
    figures: str

    @classmethod
    def of(cls, values: tuple[Any, ...]) -> "ReportRow":
        return cls(**dict(zip(cls.__slots__, values, strict=True)))


def put_report(unit: UnitOfWork[Any], row: ReportRow) -> None:
    """Adds a report to the unit."""
    unit.insert(reports, astuple(row))


def delete_report(report_id: str, *, tenant: str) -> Callable[[sqlite3.Connection], bool]:
    """The step that deletes a report; False if there is none."""

    def step(connection: sqlite3.Connection) -> bool:
        done = connection.execute("DELETE FROM reports WHERE report_id = ? AND tenant = ?", (report_id, tenant))
        return done.rowcount == 1

    return step


class ReportRepository:
    """Reads kept reports."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def get(self, report_id: str, *, tenant: str) -> ReportRow | None:
        rows = await self._readers.query(
            f"SELECT {_COLUMNS} FROM reports WHERE report_id = ? AND tenant = ?", (report_id, tenant)
        )
        return ReportRow.of(rows[0]) if rows else None

    async def page(
        self, *, tenant: str, limit: int, offset: int, after: Sequence[CursorValue] | None = None
    ) -> tuple[list[ReportRow], int]:
        """Some reports, newest first, without their figures; and how many there are.

        From number `offset` on, or those behind a report's `created_at` and id.
        """
        behind = "" if after is None else " AND (created_at, report_id) < (?, ?)"

        def read(connection: sqlite3.Connection) -> tuple[list[ReportRow], int]:
            rows = connection.execute(
                "SELECT report_id, tenant, title, created_at, start_ts, end_ts, '' FROM reports"
                f" WHERE tenant = ?{behind} ORDER BY created_at DESC, report_id DESC LIMIT ? OFFSET ?",
                (tenant, *(after or ()), limit, 0 if after else offset),
            ).fetchall()
            (total,) = connection.execute("SELECT count(*) FROM reports WHERE tenant = ?", (tenant,)).fetchone()
            return [ReportRow.of(row) for row in rows], total

        return await self._readers.run(read)
