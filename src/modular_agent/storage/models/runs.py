"""Runs, and what waits to be put into them."""

from modular_agent.storage.models.metadata import metadata
from modular_agent.storage.models.table import Column, ForeignKey, Index, Integer, Table, Text, text

__all__ = ["ACTIVE_STATUSES_SQL", "run_inbox", "runs"]

# Literal, because SQLite uses a partial index only for a query that repeats its condition as literals.
ACTIVE_STATUSES_SQL = "status IN ('queued','running','pausing','paused','stopping')"

runs = Table(
    "runs",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("session_n", Integer, ForeignKey("sessions.n", ondelete="CASCADE"), nullable=False),
    Column("status", Text, nullable=False),
    Column("epoch", Integer, nullable=False),  # raised at every start, resume and stop; fences writes
    Column("input", Text, nullable=False),  # JSON: {message?, state?, checkpoint_id?}
    Column("limits", Text, nullable=False),  # JSON: what the request set
    Column("spent", Text, nullable=False),  # JSON: budget used so far by this run
    Column("pending", Text),  # JSON: control to apply at the next start (edit, answers, step)
    Column("created_at", Integer, nullable=False),
    Column("started_at", Integer),
    Column("ended_at", Integer),
    Column("active_us", Integer, nullable=False),  # execution time without pauses, up to the last stop
    Column("first_seq", Integer, nullable=False),  # its records have a larger seq than this
    Column("current_node", Text),
    Column("steps", Integer, nullable=False),
    Column("result", Text),  # JSON
    Column("error", Text),  # JSON: {error_id, code, type, message}
    Index("ix_runs_session", "session_n", "created_at"),
    Index("ix_runs_created", "created_at"),
    Index("ix_runs_ended", "ended_at", sqlite_where=text("ended_at IS NOT NULL")),
    Index("ix_runs_one_active", "session_n", unique=True, sqlite_where=text(ACTIVE_STATUSES_SQL)),
    Index("ix_runs_active", "status", sqlite_where=text(ACTIVE_STATUSES_SQL)),
)

run_inbox = Table(
    "run_inbox",
    metadata,
    Column("inbox_id", Text, primary_key=True),
    Column("session_n", Integer, ForeignKey("sessions.n", ondelete="CASCADE"), nullable=False, index=True),
    Column("run_id", Text),
    Column("message", Text, nullable=False),  # JSON
    Column("created_at", Integer, nullable=False),
)
