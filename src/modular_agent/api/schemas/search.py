"""The shapes of answers to searches."""

from typing import Any, Literal

from pydantic import ConfigDict, Field

from modular_agent.domain.history import RecordType
from modular_agent.kit.late_model import LateModel

__all__ = ["SearchAnswer", "SessionSearchAnswer"]

JsonObject = dict[str, Any]  # an example

_HIT: JsonObject = {
    "seq": 9,
    "timestamp": "2025-10-22T17:48:00.125000Z",
    "record_id": "rec_5d1c0f6b2e9a47d38c10",
    "session_id": "react-251022-174800-1f73e8",
    "run_id": "run_1f73e8c09ab45d1e22f0",
    "node": "answer",
    "record_type": "message",
    "message_type": "assistant",
    "field": "content",
    "snippet": "In <mark>Hangzhou</mark> it rains &amp; blows.",
    "fragments": [
        {"text": "In ", "match": False},
        {"text": "Hangzhou", "match": True},
        {"text": " it rains & blows.", "match": False},
    ],
}
_FOUND: JsonObject = {"query": "hangzhou", "results": [_HIT], "has_next": False, "cursor": None, "partial": False}


class Fragment(LateModel):
    """A piece of a snippet."""

    text: str
    match: bool = Field(description="Whether it is what was searched for.")


class Hit(LateModel):
    """A record in which the text was found."""

    seq: int
    timestamp: str = Field(description="RFC 3339, UTC.")
    record_id: str
    session_id: str
    run_id: str | None
    node: str | None
    record_type: RecordType
    message_type: Literal["user", "assistant", "system", "tool"] | None = None
    tool_name: str | None = None
    field: str = Field(description="The record's field that holds the text.")
    snippet: str = Field(description="HTML: everything escaped, what was found in `<mark>`.")
    fragments: list[Fragment] = Field(description="The same as plain text in pieces.")


class SearchAnswer(LateModel):
    """Some of what was found, the newest first. The number of all hits is not counted."""

    model_config = ConfigDict(json_schema_extra={"examples": [_FOUND]})

    query: str
    results: list[Hit]
    has_next: bool
    cursor: str | None = Field(description="For the next part: give it unchanged, with the same search.")
    partial: bool = Field(
        description="The search stopped before it had `limit` hits, to answer in time; `cursor` goes on from there."
    )


class SessionSearchAnswer(SearchAnswer):
    """Some of what was found in a session, the newest first."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"session_id": "react-251022-174800-1f73e8", **_FOUND}]},
    )

    session_id: str
