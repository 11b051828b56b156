"""The log of each session: read by people, by programs and by the realtime hub."""

from modular_agent.domain.history.errors import TimeRangeReversed
from modular_agent.domain.history.service import HistoryService, LogPage, LogQuery, MessageType
from modular_agent.events import RecordType
from modular_agent.storage.errors import SessionUnknown

__all__ = [
    "HistoryService",
    "LogPage",
    "LogQuery",
    "MessageType",
    "RecordType",
    "SessionUnknown",
    "TimeRangeReversed",
]
