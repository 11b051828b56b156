"""Workflows by name, and every distinct content they ever had."""

from modular_agent.storage.models.metadata import metadata
from modular_agent.storage.models.table import Column, ForeignKey, Integer, Table, Text

__all__ = ["workflow_versions", "workflows"]

workflows = Table(
    "workflows",
    metadata,
    Column("workflow_id", Text, primary_key=True),  # its name
    Column("config_path", Text, nullable=False),
    Column("content_hash", Text, nullable=False),  # the version that new sessions get
    Column("loaded_at", Integer, nullable=False),
    Column("last_used", Integer),
    Column("usage_count", Integer, nullable=False),
    Column("unloaded", Integer, nullable=False),  # 1: no new sessions; those that exist keep their version
)

workflow_versions = Table(
    "workflow_versions",
    metadata,
    Column("content_hash", Text, primary_key=True),
    Column("workflow_id", Text, ForeignKey("workflows.workflow_id", ondelete="CASCADE"), nullable=False, index=True),
    Column("config_path", Text, nullable=False),
    Column("version", Text, nullable=False),  # the author's
    Column("bundle", Text, nullable=False),  # JSON object: path to text, of the file and all it refers to
    Column("created_at", Integer, nullable=False),
)
