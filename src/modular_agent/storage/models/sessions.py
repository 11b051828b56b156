"""Sessions: one row each, with the totals that lists sort by."""

from modular_agent.storage.models.metadata import metadata
from modular_agent.storage.models.table import Column, Index, Integer, Table, Text, text

__all__ = ["sessions"]

sessions = Table(
    "sessions",
    metadata,
    Column("n", Integer, primary_key=True, autoincrement=True),
    Column("session_id", Text, nullable=False, unique=True),
    Column("tenant", Text, nullable=False),
    Column("workflow_id", Text, nullable=False),
    Column("workflow_version", Text, nullable=False),  # content hash
    Column("workflow_config_path", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("title", Text),
    Column("tags", Text, nullable=False),  # JSON array of text
    Column("agent_config", Text, nullable=False),  # JSON object
    Column("metadata", Text, nullable=False),  # JSON object
    Column("initial_state", Text, nullable=False),  # JSON object, applied by the first run
    Column("created_at", Integer, nullable=False),
    Column("updated_at", Integer, nullable=False),
    Column("current_run_id", Text),
    Column("generation", Integer, nullable=False),  # of the log: raised when a restored backup takes `seq` back
    Column("last_seq", Integer, nullable=False),
    Column("last_ts", Integer, nullable=False),
    Column("messages", Integer, nullable=False),
    Column("tool_calls", Integer, nullable=False),
    Column("errors", Integer, nullable=False),
    Column("prompt_tokens", Integer, nullable=False),
    Column("completion_tokens", Integer, nullable=False),
    Column("cached_tokens", Integer, nullable=False),
    Column("reasoning_tokens", Integer, nullable=False),
    Column("unpriced_tokens", Integer, nullable=False),
    Column("cost_nano", Integer, nullable=False),
    Column("deleted_at", Integer),  # set first of all by a deletion: from then on the session is not found
    # Each order of lists, with what lists are filtered by: rows that a page skips are not read.
    Index("ix_sessions_created", "tenant", "created_at", "n", "status", "workflow_id"),
    Index("ix_sessions_updated", "tenant", "updated_at", "n"),
    Index("ix_sessions_status", "tenant", "status", "updated_at", "n"),
    Index("ix_sessions_cost", "tenant", "cost_nano", "n", "status"),
    Index("ix_sessions_tokens", "tenant", text("(prompt_tokens + completion_tokens)"), "n", "status"),
    Index("ix_sessions_id", "tenant", "session_id", "n", "status"),
    Index("ix_sessions_deleted", "deleted_at", sqlite_where=text("deleted_at IS NOT NULL")),
    sqlite_autoincrement=True,
)
