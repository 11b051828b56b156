"""Statistics: sums and histograms beside the rows, kept reports, and what a call's price went by."""

import sqlite3
from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from modular_agent.storage.rollup_rebuild import rebuild

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_SUMS = (
    *("calls", "errors", "prompt_tokens", "completion_tokens", "cached_tokens", "cache_write_tokens"),
    *("reasoning_tokens", "unpriced_tokens", "cost_nano", "duration_us", "first_token_us", "first_tokens"),
)


def upgrade() -> None:
    _llm_calls()
    _usage()
    _histogram_day()
    _hours()
    _reports()
    op.create_index("ix_runs_created", "runs", ["created_at"], unique=False)
    op.create_index("ix_runs_ended", "runs", ["ended_at"], unique=False, sqlite_where=sa.text("ended_at IS NOT NULL"))
    connection = op.get_bind().connection.driver_connection
    assert isinstance(connection, sqlite3.Connection)
    rebuild(connection)  # a later revision that changes these tables takes this line over


def _integers(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.Integer(), nullable=False) for name in names]


def _texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text(), nullable=False) for name in names]


def _llm_calls() -> None:
    """The table is made anew, because a column that is added changes the text of its definition."""
    op.drop_index("ix_llm_calls_session", "llm_calls")
    op.drop_index("ix_llm_calls_ts", "llm_calls")
    op.rename_table("llm_calls", "former_llm_calls")
    op.create_table(
        "llm_calls",
        *_texts("call_id"),
        *_integers("session_n"),
        *_texts("run_id"),
        *_integers("ts"),
        *_texts("workflow_id", "node", "provider", "model"),
        *_integers("duration_us"),
        sa.Column("first_token_us", sa.Integer(), nullable=True),
        *_integers("prompt_tokens", "completion_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens"),
        sa.Column("cost_nano", sa.Integer(), nullable=True),
        sa.Column("price_source", sa.Text(), nullable=True),
        sa.Column("error_kind", sa.Text(), nullable=True),
        sa.Column("served_by", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["session_n"], ["sessions.n"], name=op.f("fk_llm_calls_session_n"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("call_id"),
    )
    op.execute("INSERT INTO llm_calls SELECT *, NULL FROM former_llm_calls")
    op.drop_table("former_llm_calls")
    op.create_index("ix_llm_calls_session", "llm_calls", ["session_n", "ts"], unique=False)
    op.create_index("ix_llm_calls_ts", "llm_calls", ["ts"], unique=False)


def _usage() -> None:
    for name, period in (("usage_hour", "hour"), ("usage_day", "day")):
        op.create_table(
            name,
            *_integers(period),
            *_texts("tenant", "workflow_id", "model", "node"),
            *_integers(*_SUMS, "min_us", "max_us"),
            sa.PrimaryKeyConstraint(period, "tenant", "workflow_id", "model", "node"),
            sqlite_with_rowid=False,
        )
    op.create_table(
        "usage_session",
        *_integers("session_n"),
        *_texts("model"),
        *_integers(*_SUMS),
        sa.ForeignKeyConstraint(
            ["session_n"], ["sessions.n"], name=op.f("fk_usage_session_session_n"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("session_n", "model"),
        sqlite_with_rowid=False,
    )


def _histogram_day() -> None:
    op.create_table(
        "histogram_day",
        *_texts("measure", "dimension"),
        *_integers("day"),
        *_texts("tenant", "key"),
        *_integers("bucket", "count"),
        sa.PrimaryKeyConstraint("measure", "dimension", "day", "tenant", "key", "bucket"),
        sqlite_with_rowid=False,
    )


def _hours() -> None:
    op.create_table(
        "run_hour",
        *_integers("hour"),
        *_texts("tenant", "workflow_id"),
        *_integers("started", "completed", "failed", "stopped", "active_us"),
        sa.PrimaryKeyConstraint("hour", "tenant", "workflow_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "error_hour",
        *_integers("hour"),
        *_texts("tenant", "error_type", "severity"),
        *_integers("count"),
        sa.PrimaryKeyConstraint("hour", "tenant", "error_type", "severity"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "session_hour",
        *_integers("hour"),
        *_texts("tenant"),
        *_integers("count"),
        sa.PrimaryKeyConstraint("hour", "tenant"),
        sqlite_with_rowid=False,
    )


def _reports() -> None:
    op.create_table(
        "reports",
        *_texts("report_id", "tenant", "title"),
        *_integers("created_at", "start_ts", "end_ts"),
        *_texts("figures"),
        sa.PrimaryKeyConstraint("report_id"),
    )
    op.create_index("ix_reports_created", "reports", ["tenant", "created_at"], unique=False)
