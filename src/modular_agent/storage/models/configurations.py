"""Configuration that was stored through the API."""

from modular_agent.storage.models.metadata import metadata
from modular_agent.storage.models.table import Column, Integer, Table, Text

__all__ = ["configurations"]

configurations = Table(
    "configurations",
    metadata,
    Column("config_type", Text, primary_key=True),  # system, user
    Column("owner", Text, primary_key=True),  # whose preferences; empty for the system's
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),  # JSON
    Column("updated_at", Integer, nullable=False),
    Column("updated_by", Text, nullable=False),
)
