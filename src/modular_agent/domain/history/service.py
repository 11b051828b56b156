"""The log of a session, as people and programs read it: newest records, messages, records of every kind.

What is answered are the lines of the log themselves, so nothing is parsed on the way.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Literal, TypeAlias, cast

from modular_agent.domain.history.errors import TimeRangeReversed
from modular_agent.events import RecordType, SessionRef
from modular_agent.kit.dataclass import dataclass
from modular_agent.kit.pagination import decode_cursor, encode_cursor
from modular_agent.storage.database import Database
from modular_agent.storage.errors import SessionUnknown
from modular_agent.storage.records import RecordFilter
from modular_agent.storage.repositories.sessions import SessionRepository

__all__ = ["HistoryService", "LogPage", "LogQuery", "MessageType"]

MessageType: TypeAlias = Literal["user", "assistant", "system", "tool"]

_UP: Final = "records:asc"
_DOWN: Final = "records:desc"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """Which records of a session, and which part of them.

    `start` (included) and `end` (excluded) are in µs. `message_types` leaves every other kind of record out. `cursor`
    is what a former answer to the same query called so, and wins over `offset`.
    """

    limit: int = 50
    offset: int = 0
    start: int | None = None
    end: int | None = None
    types: Sequence[RecordType] = ()
    message_types: Sequence[MessageType] = ()
    run_id: str | None = None
    node: str | None = None
    after_seq: int | None = None
    newest_first: bool = False
    cursor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPage:
    """Some records: `lines` are their JSON objects in UTF-8; `total` counts all that the query lets through."""

    session_id: str
    lines: Sequence[bytes]
    total: int
    limit: int
    offset: int
    has_next: bool
    cursor: str | None

    def joined(self) -> bytes:
        """The records as one JSON array."""
        return b"[%b]" % b",".join(self.lines)


class HistoryService:
    """The verbs about logs. Every verb raises `SessionUnknown`, also for another tenant's session."""

    def __init__(self, database: Database) -> None:
        self._records = database.records
        self._sessions = SessionRepository(database.readers, cache=database.cache)

    async def newest(
        self,
        session_id: str,
        *,
        limit: int = 50,
        types: Sequence[RecordType] = (),
        tenant: str | None = None,
    ) -> list[bytes]:
        """The newest records, oldest of them first, as JSON objects."""
        session = await self._session(session_id, tenant)
        found = await self._records.newest(session, limit=limit, chosen=RecordFilter(types=types))
        return [record.line[:-1] for record in found]

    async def messages(self, session_id: str, query: LogQuery, *, tenant: str | None = None) -> LogPage:
        """Messages, oldest first unless asked otherwise. Raises `TimeRangeReversed`, `InvalidCursor`."""
        return await self._page(session_id, query, (RecordType.MESSAGE,), tenant)

    async def records(self, session_id: str, query: LogQuery, *, tenant: str | None = None) -> LogPage:
        """Records of all kinds, or of those asked for. Raises as `messages`."""
        return await self._page(session_id, query, query.types, tenant)

    async def _page(self, session_id: str, query: LogQuery, types: Sequence[RecordType], tenant: str | None) -> LogPage:
        if query.start is not None and query.end is not None and query.end < query.start:
            raise TimeRangeReversed
        session = await self._session(session_id, tenant)
        chosen = RecordFilter(
            start=query.start,
            end=query.end,
            types=types,
            message_types=query.message_types,
            run_id=query.run_id,
            node=query.node,
            after_seq=query.after_seq,
        )
        offset = 0 if query.cursor else query.offset
        found = await self._records.part(
            session,
            _behind_cursor(chosen, query),
            limit=query.limit + 1,
            offset=offset,
            newest_first=query.newest_first,
        )
        shown = found[: query.limit]
        has_next = len(found) > query.limit
        return LogPage(
            session_id=session_id,
            lines=[record.line[:-1] for record in shown],
            total=await self._records.count(session, chosen),
            limit=query.limit,
            offset=offset,
            has_next=has_next,
            cursor=encode_cursor(_listing(query), [shown[-1].seq]) if has_next else None,
        )

    async def _session(self, session_id: str, tenant: str | None) -> SessionRef:
        row = await self._sessions.get(session_id, tenant=tenant)
        if row is None:
            raise SessionUnknown(session_id=session_id)
        return row.ref


def _listing(query: LogQuery) -> str:
    return _DOWN if query.newest_first else _UP


def _behind_cursor(chosen: RecordFilter, query: LogQuery) -> RecordFilter:
    """The part of `chosen` that comes after the cursor; `chosen` itself without one. Raises `InvalidCursor`."""
    if query.cursor is None:
        return chosen
    (value,) = decode_cursor(query.cursor, _listing(query), ["int"])
    seq = cast(int, value)
    if query.newest_first:
        return replace(chosen, before_seq=seq)
    return replace(chosen, after_seq=seq if chosen.after_seq is None else max(seq, chosen.after_seq))
