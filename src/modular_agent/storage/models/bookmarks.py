"""Bookmarks: messages that people want to find again, with a note."""

from modular_agent.storage.models.metadata import metadata
from modular_agent.storage.models.table import Column, ForeignKey, Index, Integer, Table, Text

__all__ = ["bookmarks"]

bookmarks = Table(
    "bookmarks",
    metadata,
    Column("n", Integer, primary_key=True, autoincrement=True),
    Column("bookmark_id", Text, nullable=False, unique=True),
    Column("session_n", Integer, ForeignKey("sessions.n", ondelete="CASCADE"), nullable=False),
    Column("message_id", Text, nullable=False),  # the message's record_id
    Column("message_ts", Integer, nullable=False),  # when the message became durable: finds the checkpoint behind it
    Column("note", Text, nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("updated_at", Integer, nullable=False),
    Index("ix_bookmarks_session", "session_n", "n"),
    sqlite_autoincrement=True,
)
