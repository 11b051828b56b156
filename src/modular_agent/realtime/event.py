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

OVERHEAD: Final = 400  # bytes of objects and envelope around a record's line, for the bounds of memory


class Event:
    """One event. `type` is the envelope's; `run_id`, `record_id` and `run_status` are None where there is none.

    `size` is in bytes, roughly, and counts towards the bounds of rings and feeds.
    """

    __slots__ = ("_envelope", "_record", "record_id", "run_id", "run_status", "seq", "session_id", "size", "type")

    def __init__(
        self,
        kind: str,
        *,
        session_id: str | None,
        seq: int | None,
        run_id: str | None = None,
        record: CommittedRecord | None = None,
        envelope: bytes | None = None,
    ) -> None:
        self.type = kind
        self.session_id = session_id
        self.seq = seq
        self.run_id = run_id
        self.record_id: str | None = None
        self.run_status: str | None = None
        self._record = record
        self._envelope = envelope
        self.size = OVERHEAD + (len(envelope) if envelope is not None else 0)

    @classmethod
    def of_record(cls, record: CommittedRecord) -> "Event":
        """The event of a record; its envelope is made when the first client needs it."""
        kind = record.record_type
        event = cls(
            EVENT_TYPES[kind],
            session_id=record.session.session_id,
            seq=record.seq,
            run_id=record.run_id,
            record=record,
        )
        event.record_id = record.record_id
        event.size = OVERHEAD + len(record.line)
        if kind == RecordType.RUN:  # a few per run: worth a look inside
            event.run_status = orjson.loads(record.line).get("status")
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
        if self._envelope is None:
            assert self._record is not None
            self._envelope = self._record.envelope()
            self._record = None  # the envelope holds the line: one copy is enough
        return self._envelope

    def __repr__(self) -> str:
        return f"Event({self.type!r}, session_id={self.session_id!r}, seq={self.seq!r})"
