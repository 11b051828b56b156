"""The records of a session's log and the events made of them: what is emitted is what is stored is what is streamed.

A record is made by whoever knows the fact (`Record`), gets its `seq`, `timestamp` and bytes from the writer in the
transaction that makes it durable (`CommittedRecord`), and only then reaches a client, inside an envelope that holds
those very bytes. Token deltas alone (`Delta`) are never stored.
"""

from collections.abc import Callable, Mapping
from dataclasses import field
from enum import StrEnum
from functools import partial
from typing import Any, Final, NamedTuple, cast

import orjson

from modular_agent.kit.clock import stamp
from modular_agent.kit.dataclass import dataclass
from modular_agent.kit.ids import new_id

__all__ = [
    "EVENT_TYPES",
    "CommittedRecord",
    "Delta",
    "Record",
    "RecordType",
    "SessionRef",
    "committed_record",
    "event_type",
]


class RecordType(StrEnum):
    """The kinds of records (fields of each: docs/log.md)."""

    MESSAGE = "message"
    TOOL_CALL = "tool_call"
    LLM_REQUEST = "llm_request"
    LLM_RESPONSE = "llm_response"
    TOKEN_USAGE = "token_usage"
    COST = "cost"
    ERROR = "error"
    LOG = "log"
    RUN = "run"
    STEP = "step"
    CONTROL = "control"
    INTERRUPT = "interrupt"


EVENT_TYPES: Final[Mapping[str, str]] = {
    RecordType.MESSAGE: "message",
    RecordType.TOOL_CALL: "tool_call",
    RecordType.LLM_REQUEST: "llm_call",
    RecordType.LLM_RESPONSE: "llm_call",
    RecordType.TOKEN_USAGE: "llm_call",
    RecordType.COST: "llm_call",
    RecordType.ERROR: "error_event",
    RecordType.LOG: "log",
    RecordType.RUN: "session_update",
    RecordType.CONTROL: "session_update",
    RecordType.STEP: "workflow_state",
    RecordType.INTERRUPT: "interrupt",
}


def event_type(record_type: str) -> str:
    """The envelope's `type` for a record of `record_type`."""
    return EVENT_TYPES[record_type]


@dataclass(frozen=True, slots=True)
class SessionRef:
    """A session as the storage names it: `n` is its integer key, `session_id` what people see."""

    n: int
    session_id: str


def _nothing() -> dict[str, Any]:
    return {}


@dataclass(slots=True, kw_only=True)
class Record:
    """A fact on its way into the log.

    `fields` are those of its `record_type`, as JSON values. `record_id` is known before the commit, so that state and
    other records can name it.
    """

    record_type: RecordType
    fields: Mapping[str, Any]  # any JSON value: the shapes are documented per record type
    run_id: str | None = None
    node: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=_nothing)
    record_id: str = field(default_factory=partial(new_id, "rec"))

    @classmethod
    def of(cls, record_type: RecordType, run_id: str | None, node: str | None, fields: Mapping[str, Any]) -> "Record":
        """The same as the constructor makes of these, at a third of its price: a turn has many."""
        record = cls.__new__(cls)
        record.record_type = record_type
        record.fields = fields
        record.run_id = run_id
        record.node = node
        record.metadata = {}
        record.record_id = new_id("rec")
        return record

    def encode(self, session_id: str) -> bytes:
        """The record's JSON object without `seq` and `timestamp`, encoded once; the writer puts those in front."""
        return orjson.dumps(
            {
                "record_id": self.record_id,
                "session_id": session_id,
                "run_id": self.run_id,
                "record_type": str(self.record_type),  # orjson asks an enum for its value by a function of Python
                "node": self.node,
                "metadata": self.metadata,
                **self.fields,
            }
        )


class CommittedRecord(NamedTuple):
    """A record as it stands in the log. `line` is its JSON object in UTF-8 and ends with a newline; `ts` is in µs.

    `fields` are those of the `Record` where it has just been committed, so that who listens need not read the line.
    """

    session: SessionRef
    seq: int
    ts: int
    record_type: str
    record_id: str
    run_id: str | None
    node: str | None
    line: bytes
    fields: Mapping[str, Any] | None = None  # any JSON value

    @staticmethod
    def make_line(seq: int, ts: int, body: bytes) -> bytes:
        """The log line of an encoded record: `body` is what `Record.encode` returned."""
        return b'{"seq":%d,"timestamp":"%b",%b\n' % (seq, stamp(ts), body[1:])

    @staticmethod
    def make_envelope(kind: str, session_id: str, line: bytes) -> bytes:
        """The event for clients, `{"type","session_id","seq","timestamp","data"}`, around the bytes of the line."""
        stamped = line[1 : line.index(b'",', _STAMPED)]  # it begins with `seq` and `timestamp`
        return b"".join((_HEADS[kind], session_id.encode(), b'",', stamped, b'","data":', line[:-1], b"}"))


_HEADS: Final = {kind: b'{"type":"%b","session_id":"' % kind.encode() for kind in EVENT_TYPES.values()}
_STAMPED: Final = len('{"seq":1,"timestamp":"2025-10-22T17:48:00.000000Z')


# Of all fields in their order: named tuples are made by a function of Python, this is none.
committed_record: Final = cast(
    "Callable[[tuple[Any, ...]], CommittedRecord]", partial(tuple[Any, ...].__new__, CommittedRecord)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """A piece of a message that a model is still writing; never stored.

    `message_id` is the `record_id` the finished message will have; `offset` counts the characters of this `channel`
    (`content` or `reasoning`) sent before. `abandoned` says that the attempt failed: forget what came under this id.
    """

    session: SessionRef
    run_id: str
    node: str
    message_id: str
    text: str
    offset: int
    channel: str = "content"
    abandoned: bool = False
