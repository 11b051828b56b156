"""The log as the realtime hub reads it."""

from collections.abc import Sequence

from modular_agent.events import CommittedRecord, SessionRef
from modular_agent.realtime.ports import Head
from modular_agent.storage.database import Database
from modular_agent.storage.errors import SessionUnknown

__all__ = ["LogTail", "log_head"]


def log_head(last_seq: int, generation: int) -> Head:
    """The end of a log by its session's row; the hub counts generations from 0."""
    return Head(last_seq=last_seq, generation=generation - 1)


class LogTail:
    """Implements the hub's `LogReader` and `Tenants` on the database."""

    def __init__(self, database: Database) -> None:
        self._log = database.log
        self._readers = database.readers

    async def read_after(self, session: SessionRef, seq: int, limit: int) -> Sequence[CommittedRecord]:
        return await self._log.read_after(session, seq=seq, limit=limit)

    async def head(self, session: SessionRef) -> Head:
        rows = await self._readers.query(
            "SELECT last_seq, generation FROM sessions WHERE n = ? AND deleted_at IS NULL", (session.n,)
        )
        if not rows:
            raise SessionUnknown(session_id=session.session_id)
        return log_head(*rows[0])

    async def tenant_of(self, session: SessionRef) -> str | None:
        rows = await self._readers.query("SELECT tenant FROM sessions WHERE n = ? AND deleted_at IS NULL", (session.n,))
        return rows[0][0] if rows else None
