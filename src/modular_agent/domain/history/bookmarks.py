"""Bookmarks: messages that people want to find again. They go with their session, and with nothing else."""

from collections.abc import Sequence

from modular_agent.kit.clock import Clock
from modular_agent.kit.ids import new_id
from modular_agent.storage.database import Database
from modular_agent.storage.errors import MessageUnknown, SessionUnknown
from modular_agent.storage.repositories.bookmarks import (
    BookmarkRepository,
    BookmarkRow,
    create_bookmark,
    delete_bookmark,
    update_bookmark,
)
from modular_agent.storage.repositories.sessions import SessionRepository, SessionRow
from modular_agent.storage.unit_of_work import UnitOfWork

__all__ = ["Bookmarks"]


class Bookmarks:
    """The verbs about bookmarks."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._writer = database.writer
        self._records = database.records
        self._rows = BookmarkRepository(database.readers)
        self._sessions = SessionRepository(database.readers)
        self._clock = clock

    async def create(
        self, session_id: str, message_id: str, *, note: str = "", tenant: str | None = None
    ) -> BookmarkRow:
        """Bookmarks a message; one message may have several. Raises `SessionUnknown`, `MessageUnknown`."""
        session = await self._session(session_id, tenant)
        message = await self._records.get(session.ref, message_id)
        if message is None:
            raise MessageUnknown(session_id=session_id, message_id=message_id)
        step = create_bookmark(message, bookmark_id=new_id("bkm"), note=note, now_us=self._clock.now_us())
        return _made((await self._writer.commit(UnitOfWork(then=step))).result)

    async def listed(
        self, *, session_id: str | None = None, tenant: str | None = None, limit: int = 1000, offset: int = 0
    ) -> Sequence[BookmarkRow]:
        """The bookmarks of a session, or of all, the newest first. Raises `SessionUnknown`."""
        session_n = None if session_id is None else (await self._session(session_id, tenant)).n
        return await self._rows.listed(session_n=session_n, tenant=tenant, limit=limit, offset=offset)

    async def update(self, bookmark_id: str, *, note: str, tenant: str | None = None) -> BookmarkRow:
        """Raises `BookmarkUnknown`."""
        step = update_bookmark(bookmark_id, note=note, now_us=self._clock.now_us(), tenant=tenant)
        return _made((await self._writer.commit(UnitOfWork(then=step))).result)

    async def delete(self, bookmark_id: str, *, tenant: str | None = None) -> None:
        """Raises `BookmarkUnknown`."""
        await self._writer.commit(UnitOfWork(then=delete_bookmark(bookmark_id, tenant=tenant)))

    async def _session(self, session_id: str, tenant: str | None) -> SessionRow:
        row = await self._sessions.get(session_id, tenant=tenant)
        if row is None:
            raise SessionUnknown(session_id=session_id)
        return row


def _made(row: BookmarkRow | None) -> BookmarkRow:
    assert row is not None
    return row
