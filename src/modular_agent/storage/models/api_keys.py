"""API keys, and which sessions and runs are charged to one."""

from modular_agent.storage.models.metadata import metadata
from modular_agent.storage.models.table import Column, ForeignKey, Integer, Table, Text

__all__ = ["api_keys", "key_charges"]

api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("prefix", Text, nullable=False, unique=True),  # the part of the secret that may be shown
    Column("secret_hash", Text, nullable=False),  # SHA-256 of the whole secret, hexadecimal
    Column("name", Text, nullable=False),
    Column("limits", Text, nullable=False),  # JSON object
    Column("created_at", Integer, nullable=False),
    Column("last_used_at", Integer),  # behind by a minute at most
    Column("revoked_at", Integer),
)

key_charges = Table(
    "key_charges",
    metadata,
    Column("session_n", Integer, ForeignKey("sessions.n", ondelete="CASCADE"), primary_key=True),
    Column("run_id", Text, primary_key=True),  # empty: the session itself, for runs that nobody started with a key
    Column("key_id", Text, nullable=False),
    sqlite_with_rowid=False,
)
