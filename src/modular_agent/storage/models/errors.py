"""Errors that happened, as a list to work through."""

from modular_agent.storage.models.metadata import metadata
from modular_agent.storage.models.table import Column, ForeignKey, Index, Integer, Table, Text

__all__ = ["errors"]

errors = Table(
    "errors",
    metadata,
    Column("error_id", Text, primary_key=True),
    Column("session_n", Integer, ForeignKey("sessions.n", ondelete="CASCADE")),
    Column("run_id", Text),
    Column("node", Text),
    Column("ts", Integer, nullable=False),
    Column("error_type", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Index("ix_errors_ts", "ts", "session_n"),
    Index("ix_errors_fingerprint", "fingerprint", "ts"),
    Index("ix_errors_session", "session_n", "ts"),
)
