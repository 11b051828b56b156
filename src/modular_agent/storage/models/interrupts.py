"""Questions to people, with the form of their answers."""

from modular_agent.storage.models.metadata import metadata
from modular_agent.storage.models.table import Column, ForeignKey, Index, Integer, Table, Text, text

__all__ = ["interrupts"]

interrupts = Table(
    "interrupts",
    metadata,
    Column("interrupt_id", Text, primary_key=True),
    Column("session_n", Integer, ForeignKey("sessions.n", ondelete="CASCADE"), nullable=False, index=True),
    Column("run_id", Text, nullable=False),
    Column("node", Text, nullable=False),
    Column("graph_id", Text, nullable=False),  # LangGraph's id of the interrupt
    Column("kind", Text, nullable=False),  # question, approval, budget, effect, wait
    Column("question", Text, nullable=False),  # JSON
    Column("form", Text),  # JSON Schema of the answer
    Column("status", Text, nullable=False),  # open, answered, withdrawn
    Column("answer", Text),  # JSON
    Column("answered_by", Text),
    Column("created_at", Integer, nullable=False),
    Column("answered_at", Integer),
    Column("due_at", Integer),  # when the default answer counts, or a wait ends
    Index("ix_interrupts_open", "session_n", sqlite_where=text("status = 'open'")),
    Index("ix_interrupts_due", "due_at", sqlite_where=text("status = 'open'")),
)
