"""Sums that the writer keeps beside the rows they are made of: what statistics are read from.

`hour` and `day` are whole hours and days since the epoch (UTC), so that a day has the hours `24 * day` to
`24 * day + 23`. `usage_session` is by session; every other table names the tenant. Rows that count nothing are deleted.
"""

from typing import Final

from modular_agent.storage.models.metadata import GREATEST, KEPT, LEAST, metadata
from modular_agent.storage.models.table import Column, ForeignKey, Index, Integer, Table, Text

__all__ = [
    "SUMS",
    "error_hour",
    "histogram_day",
    "reports",
    "run_hour",
    "session_hour",
    "usage_day",
    "usage_hour",
    "usage_session",
]

# What is added up of model calls, in the order of the columns.
SUMS: Final = (
    "calls",
    "errors",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "unpriced_tokens",
    "cost_nano",
    "duration_us",
    "first_token_us",
    "first_tokens",  # calls that had a first token
)


def _sums() -> list[Column]:
    return [Column(name, Integer, nullable=False) for name in SUMS]


def _usage(name: str, period: str) -> Table:
    return Table(
        name,
        metadata,
        Column(period, Integer, primary_key=True),
        Column("tenant", Text, primary_key=True),
        Column("workflow_id", Text, primary_key=True),
        Column("model", Text, primary_key=True),
        Column("node", Text, primary_key=True),
        *_sums(),
        Column("min_us", Integer, nullable=False, info={LEAST: True}),
        Column("max_us", Integer, nullable=False, info={GREATEST: True}),
        sqlite_with_rowid=False,
    )


usage_hour = _usage("usage_hour", "hour")
usage_day = _usage("usage_day", "day")

usage_session = Table(
    "usage_session",
    metadata,
    Column("session_n", Integer, ForeignKey("sessions.n", ondelete="CASCADE"), primary_key=True),
    Column("model", Text, primary_key=True),
    *_sums(),
    sqlite_with_rowid=False,
)

histogram_day = Table(
    "histogram_day",
    metadata,
    Column("measure", Text, primary_key=True),  # response, first_token, run; of a whole week: response:week, ...
    Column("dimension", Text, primary_key=True),  # response: model, node; first_token: model; run: all
    Column("day", Integer, primary_key=True),  # of a week the first
    Column("tenant", Text, primary_key=True),
    Column("key", Text, primary_key=True),  # of the dimension; empty for all
    Column("bucket", Integer, primary_key=True),  # see `rollups.bucket`
    Column("count", Integer, nullable=False),
    sqlite_with_rowid=False,
)

run_hour = Table(
    "run_hour",
    metadata,
    Column("hour", Integer, primary_key=True),
    Column("tenant", Text, primary_key=True),
    Column("workflow_id", Text, primary_key=True),  # the session's
    Column("started", Integer, nullable=False),  # by created_at
    Column("completed", Integer, nullable=False),  # these three, and active_us, by ended_at
    Column("failed", Integer, nullable=False),
    Column("stopped", Integer, nullable=False),
    Column("active_us", Integer, nullable=False),  # execution time of ended runs, without their pauses
    sqlite_with_rowid=False,
)

error_hour = Table(
    "error_hour",
    metadata,
    Column("hour", Integer, primary_key=True),
    Column("tenant", Text, primary_key=True),  # empty: of the server itself
    Column("error_type", Text, primary_key=True),
    Column("severity", Text, primary_key=True),
    Column("count", Integer, nullable=False),
    sqlite_with_rowid=False,
)

session_hour = Table(
    "session_hour",
    metadata,
    Column("hour", Integer, primary_key=True),  # of created_at
    Column("tenant", Text, primary_key=True),
    Column("count", Integer, nullable=False),
    sqlite_with_rowid=False,
)

reports = Table(
    "reports",
    metadata,
    Column("report_id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("created_at", Integer, nullable=False, info={KEPT: True}),
    Column("start_ts", Integer, nullable=False),
    Column("end_ts", Integer, nullable=False),
    Column("figures", Text, nullable=False),  # JSON, as they stood then
    Index("ix_reports_created", "tenant", "created_at"),
)
