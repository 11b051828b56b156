"""Bookmarks: made on a message of the log, changed, deleted, listed."""

import sqlite3
from collections.abc import Callable
from typing import Any, Final

from modular_agent.events import CommittedRecord
from modular_agent.kit.dataclass import dataclass
from modular_agent.storage.errors import BookmarkUnknown, MessageUnknown, SessionUnknown
from modular_agent.storage.readers import Readers

__all__ = ["BookmarkRepository", "BookmarkRow", "create_bookmark", "delete_bookmark", "update_bookmark"]

_ROWS: Final = (
    "SELECT b.bookmark_id, s.session_id, b.message_id, b.note, b.created_at, b.updated_at"
    " FROM bookmarks b JOIN sessions s ON s.n = b.session_n WHERE s.deleted_at IS NULL"
)
_MESSAGE: Final = "SELECT 1 FROM records WHERE session_n = ? AND seq = ? AND record_id = ? AND record_type = 'message'"


@dataclass(frozen=True, slots=True)
class BookmarkRow:
    """A bookmark. `message_id` is the `record_id` of a message; times are in µs."""

    bookmark_id: str
    session_id: str
    message_id: str
    note: str
    created_at: int
    updated_at: int


def create_bookmark(
    message: CommittedRecord, *, bookmark_id: str, note: str, now_us: int
) -> Callable[[sqlite3.Connection], BookmarkRow]:
    """The step that makes a bookmark. Raises `MessageUnknown`, `SessionUnknown`: the session may just be deleted."""
    session = message.session

    def step(connection: sqlite3.Connection) -> BookmarkRow:
        if not connection.execute("SELECT 1 FROM sessions WHERE n = ? AND deleted_at IS NULL", (session.n,)).fetchone():
            raise SessionUnknown(session_id=session.session_id)
        if not connection.execute(_MESSAGE, (session.n, message.seq, message.record_id)).fetchone():
            raise MessageUnknown(session_id=session.session_id, message_id=message.record_id)
        connection.execute(
            "INSERT INTO bookmarks (bookmark_id, session_n, message_id, message_ts, note, created_at, updated_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (bookmark_id, session.n, message.record_id, message.ts, note, now_us, now_us),
        )
        return BookmarkRow(bookmark_id, session.session_id, message.record_id, note, now_us, now_us)

    return step


def update_bookmark(
    bookmark_id: str, *, note: str, now_us: int, tenant: str | None = None
) -> Callable[[sqlite3.Connection], BookmarkRow]:
    """The step that changes a bookmark's note. Raises `BookmarkUnknown`, also for another tenant's."""

    def step(connection: sqlite3.Connection) -> BookmarkRow:
        row = _found(connection, bookmark_id, tenant)
        connection.execute(
            "UPDATE bookmarks SET note = ?, updated_at = ? WHERE bookmark_id = ?", (note, now_us, bookmark_id)
        )
        return BookmarkRow(row.bookmark_id, row.session_id, row.message_id, note, row.created_at, now_us)

    return step


def delete_bookmark(bookmark_id: str, *, tenant: str | None = None) -> Callable[[sqlite3.Connection], None]:
    """The step that deletes a bookmark. Raises `BookmarkUnknown`, also for another tenant's."""

    def step(connection: sqlite3.Connection) -> None:
        _found(connection, bookmark_id, tenant)
        connection.execute("DELETE FROM bookmarks WHERE bookmark_id = ?", (bookmark_id,))

    return step


class BookmarkRepository:
    """Reads bookmarks."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def listed(
        self, *, session_n: int | None = None, tenant: str | None = None, limit: int, offset: int = 0
    ) -> list[BookmarkRow]:
        """The bookmarks of a session, or of all, the newest first."""
        condition, values = _condition(session_n=session_n, tenant=tenant)
        rows = await self._readers.query(
            f"{_ROWS}{condition} ORDER BY b.n DESC LIMIT ? OFFSET ?", (*values, limit, offset)
        )
        return [BookmarkRow(*row) for row in rows]


def _condition(*, session_n: int | None, tenant: str | None) -> tuple[str, list[Any]]:
    terms, values = "", list[Any]()
    for term, value in ((" AND b.session_n = ?", session_n), (" AND s.tenant = ?", tenant)):
        if value is not None:
            terms += term
            values.append(value)
    return terms, values


def _found(connection: sqlite3.Connection, bookmark_id: str, tenant: str | None) -> BookmarkRow:
    row = connection.execute(
        f"{_ROWS} AND b.bookmark_id = ?1 AND (?2 IS NULL OR s.tenant = ?2)", (bookmark_id, tenant)
    ).fetchone()
    if row is None:
        raise BookmarkUnknown(bookmark_id=bookmark_id)
    return BookmarkRow(*row)
