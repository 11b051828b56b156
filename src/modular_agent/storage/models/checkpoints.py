"""Checkpoints, what finished tasks wrote after them, and the items of append-only channels."""

from modular_agent.storage.models.metadata import KEPT, metadata
from modular_agent.storage.models.table import Column, ForeignKey, Integer, LargeBinary, Table, Text

__all__ = ["checkpoint_writes", "checkpoints", "log_items"]

# With rowids: as many bytes in the order of the sessions would be a page or two of each session in every transaction.
checkpoints = Table(
    "checkpoints",
    metadata,
    Column("session_n", Integer, ForeignKey("sessions.n", ondelete="CASCADE"), primary_key=True),
    Column("ns", Text, primary_key=True),
    Column("checkpoint_id", Text, primary_key=True),
    Column("parent_id", Text),
    Column("root_id", Text),  # for a sub-graph: the checkpoint of the root namespace it belongs to
    Column("run_id", Text),
    Column("step", Integer, nullable=False),
    Column("source", Text, nullable=False),
    Column("created_at", Integer, nullable=False, info={KEPT: True}),
    Column("saved_name", Text, info={KEPT: True}),  # kept by retention when set
    Column("type", Text, nullable=False),
    Column("checkpoint", LargeBinary, nullable=False),
    Column("metadata", LargeBinary, nullable=False),
)

checkpoint_writes = Table(
    "checkpoint_writes",
    metadata,
    Column("session_n", Integer, ForeignKey("sessions.n", ondelete="CASCADE"), primary_key=True),
    Column("ns", Text, primary_key=True),
    Column("checkpoint_id", Text, primary_key=True),
    Column("task_id", Text, primary_key=True),
    Column("idx", Integer, primary_key=True),
    Column("task_path", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("value", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

log_items = Table(
    "log_items",
    metadata,
    Column("session_n", Integer, ForeignKey("sessions.n", ondelete="CASCADE"), primary_key=True),
    Column("segment", Text, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("value", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
