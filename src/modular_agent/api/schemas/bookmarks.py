"""The shapes of bookmarks."""

from typing import Any, Final

from pydantic import ConfigDict, Field

from modular_agent.kit.late_model import LateModel

__all__ = ["MAX_NOTE", "BookmarkAnswer", "BookmarkDeleted", "ChangeBookmark", "NewBookmark"]

MAX_NOTE: Final = 10_000  # characters

_BOOKMARK: dict[str, Any] = {
    "bookmark_id": "bkm_1f73e8c09ab45d1e22f0",
    "session_id": "react-251022-174800-1f73e8",
    "message_id": "rec_5d1c0f6b2e9a47d38c10",
    "note": "Show this to the customer.",
    "created_at": "2025-10-22T17:48:00.125000Z",
    "updated_at": "2025-10-22T17:48:00.125000Z",
}


class NewBookmark(LateModel):
    """A message to bookmark. Both may stand in the query string instead."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"message_id": "rec_5d1c0f6b2e9a47d38c10", "note": "Show this."}]},
    )

    message_id: str | None = Field(None, min_length=1, max_length=200, description="The `record_id` of a message.")
    note: str | None = Field(None, max_length=MAX_NOTE)


class ChangeBookmark(LateModel):
    """A new note."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"note": "Shown on Monday."}]})

    note: str = Field(max_length=MAX_NOTE)


class BookmarkAnswer(LateModel):
    """A bookmark."""

    model_config = ConfigDict(json_schema_extra={"examples": [_BOOKMARK]})

    bookmark_id: str
    session_id: str
    message_id: str = Field(description="The `record_id` of the message.")
    note: str
    created_at: str
    updated_at: str


class BookmarkDeleted(LateModel):
    """Says so."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"message": "Bookmark bkm_1f73e8c09ab45d1e22f0 deleted."}]}
    )

    message: str
