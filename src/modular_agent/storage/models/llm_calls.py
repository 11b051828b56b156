"""Model calls as numbers: what statistics are made of."""

from modular_agent.storage.models.metadata import metadata
from modular_agent.storage.models.table import Column, ForeignKey, Index, Integer, Table, Text

__all__ = ["llm_calls"]

llm_calls = Table(
    "llm_calls",
    metadata,
    Column("call_id", Text, primary_key=True),  # the record_id of its llm_response
    Column("session_n", Integer, ForeignKey("sessions.n", ondelete="CASCADE"), nullable=False),
    Column("run_id", Text, nullable=False),
    Column("ts", Integer, nullable=False),
    Column("workflow_id", Text, nullable=False),
    Column("node", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("duration_us", Integer, nullable=False),
    Column("first_token_us", Integer),
    Column("prompt_tokens", Integer, nullable=False),
    Column("completion_tokens", Integer, nullable=False),
    Column("cached_tokens", Integer, nullable=False),
    Column("cache_write_tokens", Integer, nullable=False),
    Column("reasoning_tokens", Integer, nullable=False),
    Column("cost_nano", Integer),  # null: no known price
    Column("price_source", Text),
    Column("error_kind", Text),  # null: it succeeded
    Column("served_by", Text),  # the service that prices go by, empty for the provider's own; null: not known
    Index("ix_llm_calls_session", "session_n", "ts"),
    Index("ix_llm_calls_ts", "ts"),
)
