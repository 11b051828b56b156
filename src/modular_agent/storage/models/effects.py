"""The effect ledger: a tool call's intent, and its result once there is one."""

from modular_agent.storage.models.metadata import KEPT, metadata
from modular_agent.storage.models.table import Column, ForeignKey, Integer, Table, Text

__all__ = ["effects"]

effects = Table(
    "effects",
    metadata,
    Column("session_n", Integer, ForeignKey("sessions.n", ondelete="CASCADE"), primary_key=True),
    Column("tool_call_id", Text, primary_key=True),
    Column("run_id", Text, nullable=False),
    Column("node", Text, nullable=False),
    Column("tool_name", Text, nullable=False),
    Column("effect", Text, nullable=False),
    Column("idempotency_key", Text, nullable=False),
    Column("status", Text, nullable=False),  # intent, done, failed, not_done (a person's word)
    Column("attempts", Integer, nullable=False, info={KEPT: True}),
    Column("intent_at", Integer, nullable=False),
    Column("result_at", Integer),
    Column("result", Text),  # JSON: the outcome
    sqlite_with_rowid=False,
)
