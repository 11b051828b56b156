"""Events: what travels to a client, each as one envelope that is encoded at most once, for all and for every transport.

The envelope is `{"type", "session_id", "seq", "timestamp", "data"}`. `seq` is null for what is not in the log.
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from modular_agent.events import EVENT_TYPES, CommittedRecord, RecordType
from modular_agent.kit.clock import rfc3339

__all__ = ["DELTA", "LAGGED", "LOG_RESET", "METRICS", "NOTICES", "RECORD_EVENTS", "SESSION_DELETED", "Event"]

DELTA: Final = "message_delta"
METRICS: Final = "performance_metrics"
LAGGED: Final = "lagged"
LOG_RESET: Final = "log_reset"
SESSION_DELETED: Final = "session_deleted"
NOTICES: Final = frozenset({LAGGED, LOG_RESET, SESSION_DELETED})  # delivered whatever types were asked for
RECORD_EVENTS: Final = frozenset(EVENT_TYPES.values())

_RUN: Final = str(RecordType.RUN)
OVERHEAD: Final = 400  # bytes of objects and envelope around a record's line, for the bounds of memory


class Event:
    """One event. `type` is the envelope's; `run_id`, `record_id` and `run_status` are None where there is none.

    `size` is in bytes, roughly, and counts towards the bounds of rings and feeds.
    """

    __slots__ = ("_envelope", "_line", "record_id", "run_id", "run_status", "seq", "session_id", "size", "type")

    def __init__(
        self, kind: str, *, session_id: str | None, seq: int | None, run_id: str | None = None, envelope: bytes
    ) -> None:
        self.type = kind
        self.session_id = session_id
        self.seq = seq
        self.run_id = run_id
        self.record_id: str | None = None
        self.run_status: str | None = None
        self._envelope: bytes | None = envelope
        self._line = b""
        self.size = OVERHEAD + len(envelope)

    @classmethod
    def of_record(cls, record: CommittedRecord) -> "Event":
        """The event of a record; its envelope is made when the first client needs it."""
        session, seq, _, kind, record_id, run_id, _, line, fields = record
        event = cls.__new__(cls)  # there is one for each record: each call counts
        event.type = EVENT_TYPES[kind]
        event.session_id = session.session_id
        event.seq = seq
        event.run_id = run_id
        event.record_id = record_id
        event.run_status = None if kind != _RUN else (fields or orjson.loads(line)).get("status")
        event._envelope = None
        event._line = line
        event.size = OVERHEAD + len(line)
        return event

    @classmethod
    def made(
        cls,
        kind: str,
        *,
        session_id: str | None,
        now_us: int,
        data: Mapping[str, Any],  # any JSON object
        seq: int | None = None,
        run_id: str | None = None,
    ) -> "Event":
        """An event that is not in the log, encoded at once."""
        envelope = orjson.dumps(
            {"type": kind, "session_id": session_id, "seq": seq, "timestamp": rfc3339(now_us), "data": data}
        )
        return cls(kind, session_id=session_id, seq=seq, run_id=run_id, envelope=envelope)

    @property
    def envelope(self) -> bytes:
        """The event as JSON in UTF-8, on one line."""
        envelope = self._envelope
        if envelope is None:
            envelope = self._envelope = CommittedRecord.make_envelope(self.type, self.session_id or "", self._line)
            self._line = b""  # the envelope holds it: one copy is enough
        return envelope

    def __repr__(self) -> str:
        return f"Event({self.type!r}, session_id={self.session_id!r}, seq={self.seq!r})"
