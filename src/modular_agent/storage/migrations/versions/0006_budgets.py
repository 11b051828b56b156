"""Budgets: what was used by session, workflow, key and installation; API keys, and what is charged to them."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_DAY = 86_400_000_000  # µs
_SUMS = (
    "sum(c.error_kind IS NULL), sum(c.prompt_tokens + c.completion_tokens),"
    " sum(CASE WHEN c.cost_nano IS NULL THEN c.prompt_tokens + c.completion_tokens ELSE 0 END),"
    " coalesce(sum(c.cost_nano), 0), 0, 0"
)
_SCOPES = (("session", "s.session_id"), ("workflow", "c.workflow_id"), ("installation", "''"))


def upgrade() -> None:
    op.create_table(
        "spending",
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("scope", "subject")),
        *(
            sa.Column(name, sa.Integer(), nullable=False)
            for name in ("day", "calls", "tokens", "unpriced_tokens", "cost_nano", "steps", "active_us")
        ),
        sa.PrimaryKeyConstraint("scope", "subject", "day"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "api_keys",
        *(
            sa.Column(name, sa.Text(), nullable=False)
            for name in ("key_id", "tenant", "prefix", "secret_hash", "name", "limits")
        ),
        sa.Column("created_at", sa.Integer(), nullable=False),
        sa.Column("last_used_at", sa.Integer(), nullable=True),
        sa.Column("revoked_at", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("key_id"),
        sa.UniqueConstraint("prefix", name=op.f("uq_api_keys_prefix")),
    )
    op.create_table(
        "key_charges",
        sa.Column("session_n", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["session_n"], ["sessions.n"], name=op.f("fk_key_charges_session_n"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("session_n", "run_id"),
        sqlite_with_rowid=False,
    )
    _take_over()


def _take_over() -> None:
    """Counts the model calls made so far; steps, and the seconds of runs, were not kept by day."""
    for scope, subject in _SCOPES:
        op.execute(
            f"INSERT INTO spending SELECT '{scope}', {subject}, c.ts / {_DAY}, {_SUMS}"
            " FROM llm_calls c JOIN sessions s ON s.n = c.session_n GROUP BY 2, 3"
        )
