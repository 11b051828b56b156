"""Exports of a session's log, of any length: what was in the log when the export began, written piece by piece."""

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence

from modular_agent.domain.history.errors import ExportInterrupted, TimeRangeReversed
from modular_agent.domain.history.formats import FORMATS, ExportFormat, ExportHead, LogFormat
from modular_agent.events import RecordType, SessionRef
from modular_agent.kit.clock import Clock, rfc3339
from modular_agent.kit.dataclass import dataclass
from modular_agent.storage.errors import SessionUnknown
from modular_agent.storage.log_pieces import LogPieces
from modular_agent.storage.readers import Readers
from modular_agent.storage.records import RecordFilter, Records
from modular_agent.storage.repositories.sessions import SessionRepository

__all__ = ["Export", "ExportQuery", "LogExport"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportQuery:
    """Which records, and how they are written. `start` (included) and `end` (excluded) are in µs."""

    format: ExportFormat = "json"
    start: int | None = None
    end: int | None = None
    types: Sequence[RecordType] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """An export that has not been written yet. `pieces()` raises `ExportInterrupted` when the session is deleted."""

    file_name: str
    media_type: str
    total_records: int
    _written: AsyncGenerator[bytes]

    def pieces(self) -> AsyncGenerator[bytes]:
        """The bytes, once."""
        return self._written


class LogExport:
    """The verb of exporting."""

    def __init__(self, readers: Readers, *, clock: Clock) -> None:
        self._sessions = SessionRepository(readers)
        self._records = Records(readers)
        self._pieces = LogPieces(readers)
        self._clock = clock

    async def begin(self, session_id: str, query: ExportQuery, *, tenant: str | None = None) -> Export:
        """An export of the records up to the newest one of this moment.

        Raises `SessionUnknown`, `TimeRangeReversed`.
        """
        if query.start is not None and query.end is not None and query.end < query.start:
            raise TimeRangeReversed
        row = await self._sessions.get(session_id, tenant=tenant)
        if row is None:
            raise SessionUnknown(session_id=session_id)
        chosen = RecordFilter(start=query.start, end=query.end, types=query.types, before_seq=row.last_seq + 1)
        total = await self._records.count(row.ref, chosen)
        form = FORMATS[query.format]
        head = ExportHead(session_id, rfc3339(self._clock.now_us()), total)
        return Export(
            file_name=f"{re.sub(r'[^A-Za-z0-9._-]', '_', session_id)}.{form.suffix}",
            media_type=form.media_type,
            total_records=total,
            _written=self._write(row.ref, chosen, form, head),
        )

    async def _write(
        self, session: SessionRef, chosen: RecordFilter, form: LogFormat, head: ExportHead
    ) -> AsyncGenerator[bytes]:
        yield form.head(head)
        written, after = 0, 0
        while True:
            piece = await self._pieces.read(session, chosen, after_seq=after)
            if piece.lines:
                # In a thread: parsing and writing a piece takes milliseconds.
                yield await asyncio.to_thread(form.piece, piece.lines, first=written == 0)
                written += len(piece.lines)
            if piece.last_seq is None:
                break
            after = piece.last_seq
        if written != head.total_records:
            raise ExportInterrupted(session_id=session.session_id)
        yield form.tail()
