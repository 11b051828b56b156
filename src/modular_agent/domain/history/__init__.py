"""The log of each session: read, searched, exported and bookmarked by people, by programs and by the realtime hub."""

from modular_agent.domain.history.bookmarks import Bookmarks
from modular_agent.domain.history.errors import ExportInterrupted, QueryUnusable, TimeRangeReversed
from modular_agent.domain.history.export import Export, ExportQuery, LogExport
from modular_agent.domain.history.formats import FORMATS, ExportFormat
from modular_agent.domain.history.search import (
    MAX_QUERY,
    SEARCH_TYPES,
    HistorySearch,
    SearchHit,
    SearchQuery,
    SearchResults,
    SearchState,
)
from modular_agent.domain.history.service import HistoryService, LogPage, LogQuery, MessageType
from modular_agent.events import RecordType
from modular_agent.storage.errors import BookmarkUnknown, MessageUnknown, SessionUnknown
from modular_agent.storage.repositories.bookmarks import BookmarkRow

__all__ = [
    "FORMATS",
    "MAX_QUERY",
    "SEARCH_TYPES",
    "BookmarkRow",
    "BookmarkUnknown",
    "Bookmarks",
    "Export",
    "ExportFormat",
    "ExportInterrupted",
    "ExportQuery",
    "HistorySearch",
    "HistoryService",
    "LogExport",
    "LogPage",
    "LogQuery",
    "MessageType",
    "MessageUnknown",
    "QueryUnusable",
    "RecordType",
    "SearchHit",
    "SearchQuery",
    "SearchResults",
    "SearchState",
    "SessionUnknown",
    "TimeRangeReversed",
]
