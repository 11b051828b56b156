"""What was used in all, of what budgets count: by run no table is needed, its model calls are the sum."""

from modular_agent.storage.models.metadata import metadata
from modular_agent.storage.models.table import Column, Integer, Table, Text

__all__ = ["spending"]

# Unlike the statistics it keeps what deleted sessions used: it was paid all the same.
spending = Table(
    "spending",
    metadata,
    Column("scope", Text, primary_key=True),  # session, workflow, key, installation
    Column("subject", Text, primary_key=True),  # its id; empty for the installation
    Column("day", Integer, primary_key=True),  # whole days since the epoch (UTC)
    Column("calls", Integer, nullable=False),
    Column("tokens", Integer, nullable=False),
    Column("unpriced_tokens", Integer, nullable=False),
    Column("cost_nano", Integer, nullable=False),
    Column("steps", Integer, nullable=False),
    Column("active_us", Integer, nullable=False),
    sqlite_with_rowid=False,
)
