"""Search in the log of a session, or in all: substrings, English and Chinese alike, the newest first."""

import zlib
from collections.abc import Sequence
from typing import Final, Literal, cast

import orjson

from modular_agent.domain.history.errors import QueryUnusable, TimeRangeReversed
from modular_agent.events import RecordType
from modular_agent.kit.clock import within_calendar
from modular_agent.kit.dataclass import dataclass
from modular_agent.kit.pagination import decode_cursor, encode_cursor
from modular_agent.storage.errors import SessionUnknown
from modular_agent.storage.readers import Readers
from modular_agent.storage.repositories.sessions import SessionRepository
from modular_agent.storage.search_index import Searcher
from modular_agent.storage.search_query import Place, SearchFilter, SearchHit

__all__ = ["MAX_QUERY", "SEARCH_TYPES", "HistorySearch", "SearchHit", "SearchQuery", "SearchResults", "SearchState"]

MAX_QUERY: Final = 1_000  # characters
SEARCH_TYPES: Final = (RecordType.MESSAGE, RecordType.TOOL_CALL, RecordType.ERROR)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchQuery:
    """What is searched for, as it is written: quotation marks and operators mean themselves.

    `start` (included) and `end` (excluded) are in µs. `cursor` is what a former answer to the same query called so.
    """

    query: str
    limit: int = 20
    types: Sequence[RecordType] = ()
    start: int | None = None
    end: int | None = None
    workflow_id: str | None = None
    cursor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResults:
    """Hits, the newest first. `partial`: there may be more further back, which the next request goes on to look at."""

    query: str
    hits: Sequence[SearchHit]
    has_next: bool
    cursor: str | None
    partial: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchState:
    """How the index stands: `behind` counts the records committed since it was last complete; searches scan them."""

    status: Literal["ok", "failing"]
    behind: int
    error: str | None


class HistorySearch:
    """The verbs of searching."""

    def __init__(self, readers: Readers, searcher: Searcher) -> None:
        self._readers = readers
        self._searcher = searcher
        self._sessions = SessionRepository(readers)

    async def everywhere(self, query: SearchQuery, *, tenant: str | None = None) -> SearchResults:
        """Hits in all sessions. Raises `QueryUnusable`, `TimeRangeReversed`, `InvalidCursor`."""
        return await self._search(query, None, tenant)

    async def in_session(self, session_id: str, query: SearchQuery, *, tenant: str | None = None) -> SearchResults:
        """Hits in one session. Raises `SessionUnknown` too."""
        row = await self._sessions.get(session_id, tenant=tenant)
        if row is None:
            raise SessionUnknown(session_id=session_id)
        return await self._search(query, row.n, tenant)

    async def state(self) -> SearchState:
        """How far the index is, for probes and metrics."""
        index = self._searcher.state
        rows = await self._readers.query("SELECT seq FROM sqlite_sequence WHERE name = 'records'")
        behind = max(0, rows[0][0] - index.indexed_id) if rows else 0
        return SearchState(status=index.status, behind=behind, error=index.error)

    async def _search(self, query: SearchQuery, session_n: int | None, tenant: str | None) -> SearchResults:
        text = query.query.strip()
        if not text or len(text) > MAX_QUERY:
            raise QueryUnusable(limit=MAX_QUERY, empty=not text)
        if query.start is not None and query.end is not None and query.end < query.start:
            raise TimeRangeReversed
        listing = _listing(query, session_n)
        chosen = SearchFilter(
            session_n=session_n,
            types=query.types,
            start=None if query.start is None else within_calendar(query.start),
            end=None if query.end is None else within_calendar(query.end),
            workflow_id=query.workflow_id,
            tenant=tenant,
        )
        page = await self._searcher.search(text, chosen, limit=query.limit, after=_place(query.cursor, listing))
        return SearchResults(
            query=text,
            hits=page.hits,
            has_next=page.after is not None,
            cursor=None if page.after is None else encode_cursor(listing, page.after),
            partial=page.exhausted,
        )


def _listing(query: SearchQuery, session_n: int | None) -> str:
    """Names the query, so that a cursor of another one is refused."""
    asked = [query.query.strip(), session_n, sorted(query.types), query.start, query.end, query.workflow_id]
    return f"search:{zlib.crc32(orjson.dumps(asked)):08x}"


def _place(cursor: str | None, listing: str) -> Place | None:
    if cursor is None:
        return None
    month, record = decode_cursor(cursor, listing, ["int", "int"])
    return Place(cast(int, month), cast(int, record))
