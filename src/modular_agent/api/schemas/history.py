"""The shapes of answers about the log."""

from typing import Any, Literal

from pydantic import ConfigDict, Field

from modular_agent.domain.history import RecordType
from modular_agent.kit.late_model import LateModel

__all__ = ["MessageList", "MessageRecord", "RecordAnswer", "RecordList"]

JsonObject = dict[str, Any]  # any JSON object: records carry what workflows and tools made

_COMMON: JsonObject = {
    "seq": 2,
    "timestamp": "2025-10-22T17:48:00.125000Z",
    "record_id": "rec_5d1c0f6b2e9a47d38c10",
    "session_id": "react-251022-174800-1f73e8",
    "run_id": "run_1f73e8c09ab45d1e22f0",
    "record_type": "message",
    "node": None,
    "metadata": {},
}
_MESSAGE: JsonObject = {**_COMMON, "message_type": "user", "content": "What is 17 * 23?"}
_TOOL_CALL: JsonObject = {
    **_COMMON,
    "seq": 9,
    "record_type": "tool_call",
    "node": "act",
    "tool_call_id": "call_1",
    "tool_name": "calculator",
    "tool_input": {"expression": "17 * 23"},
    "tool_output": "391",
    "success": True,
    "execution_time": 0.0004,
    "effect": "read",
    "phase": "result",
}


def _page(name: str, records: list[JsonObject]) -> JsonObject:
    return {
        "session_id": "react-251022-174800-1f73e8",
        name: records,
        "total": len(records),
        "limit": 50,
        "offset": 0,
        "page": 1,
        "page_size": 50,
        "has_next": False,
        "cursor": None,
    }


class RecordAnswer(LateModel):
    """One line of the log: the fields that all have, and those of its `record_type`."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [_TOOL_CALL]})

    seq: int = Field(description="1, 2, 3, ... in each session, without gaps.")
    timestamp: str = Field(description="RFC 3339, UTC; never decreases within a session.")
    record_id: str
    session_id: str
    run_id: str | None
    record_type: RecordType
    node: str | None
    metadata: JsonObject


class MessageRecord(RecordAnswer):
    """A message of the conversation."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [_MESSAGE]})

    message_type: Literal["user", "assistant", "system", "tool"]
    content: Any = Field(description="Text, or content parts.")
    tool_calls: list[JsonObject] | None = None
    tool_call_id: str | None = None
    usage: JsonObject | None = None


class _LogList(LateModel):
    session_id: str
    total: int = Field(description="How many records the filters let through.")
    limit: int
    offset: int
    page: int
    page_size: int
    has_next: bool
    cursor: str | None = Field(description="For the next part: give it unchanged, with the same filters and order.")


class MessageList(_LogList):
    """Some messages of a session."""

    model_config = ConfigDict(json_schema_extra={"examples": [_page("messages", [_MESSAGE])]})

    messages: list[MessageRecord]


class RecordList(_LogList):
    """Some records of a session."""

    model_config = ConfigDict(json_schema_extra={"examples": [_page("records", [_MESSAGE, _TOOL_CALL])]})

    records: list[RecordAnswer]
