"""The log: records with their line and their place in the files that mirror them."""

from modular_agent.storage.models.metadata import metadata
from modular_agent.storage.models.table import Column, ForeignKey, Index, Integer, LargeBinary, Table, Text, text

__all__ = ["MESSAGE_TYPE_SQL", "log_files", "mirror", "records"]

# As a query has to repeat it, for SQLite to find it in the index.
MESSAGE_TYPE_SQL = "json_extract(CAST(line AS TEXT), '$.message_type')"

records = Table(
    "records",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("session_n", Integer, ForeignKey("sessions.n", ondelete="CASCADE"), nullable=False),
    Column("seq", Integer, nullable=False),
    Column("ts", Integer, nullable=False),
    Column("record_type", Text, nullable=False),
    Column("record_id", Text, nullable=False),
    Column("run_id", Text),
    Column("node", Text),
    Column("month", Integer, nullable=False),  # 202610, of the UTC time
    Column("offset", Integer, nullable=False),  # of the line in the month's file
    Column("length", Integer, nullable=False),  # in bytes, newline included
    Column("line", LargeBinary, nullable=False),
    Index("ix_records_place", "session_n", "seq", "record_type", "ts", unique=True),
    Index(
        "ix_records_messages", "session_n", "seq", text(MESSAGE_TYPE_SQL), sqlite_where=text("record_type = 'message'")
    ),
    sqlite_autoincrement=True,
)

log_files = Table(
    "log_files",
    metadata,
    Column("session_n", Integer, ForeignKey("sessions.n", ondelete="CASCADE"), primary_key=True),
    Column("month", Integer, primary_key=True),
    Column("length", Integer, nullable=False),  # committed bytes
    sqlite_with_rowid=False,
)

mirror = Table(
    "mirror",
    metadata,
    Column("only", Integer, primary_key=True),  # one row: 1
    Column("synced_id", Integer, nullable=False),  # every record up to here is in its file, and the file is synced
)
