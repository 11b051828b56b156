"""Requests that carried an `Idempotency-Key`, with what they were answered."""

from modular_agent.storage.models.metadata import metadata
from modular_agent.storage.models.table import Column, Index, Integer, Table, Text

__all__ = ["idempotency_keys"]

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("fingerprint", Text, nullable=False),  # of the request: another request with the same key is refused
    Column("subject", Text, nullable=False),  # the id of what the first request made
    Column("created_at", Integer, nullable=False),
    Index("ix_idempotency_keys_created", "created_at"),
    sqlite_with_rowid=False,
)
