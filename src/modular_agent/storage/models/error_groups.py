"""What was decided about errors of one cause, and the traces of errors outside of sessions."""

from modular_agent.storage.models.metadata import metadata
from modular_agent.storage.models.table import Column, ForeignKey, Integer, Table, Text

__all__ = ["error_groups", "error_traces"]

error_groups = Table(
    "error_groups",
    metadata,
    Column("fingerprint", Text, primary_key=True),
    Column("resolved_at", Integer),  # errors up to this time count as resolved; null: the group was opened again
    Column("resolved_by", Text),
    Column("note", Text),
)

error_traces = Table(
    "error_traces",
    metadata,
    Column("error_id", Text, ForeignKey("errors.error_id", ondelete="CASCADE"), primary_key=True),
    Column("stack_trace", Text, nullable=False),
)
