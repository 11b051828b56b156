"""Lists of any length: the grams of sessions, and indexes that hold what pages skip and what messages are picked by."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    for name, table in (
        ("ix_sessions_created", "sessions"),
        ("ix_sessions_cost", "sessions"),
        ("ix_sessions_tokens", "sessions"),
        ("ix_errors_ts", "errors"),
    ):
        op.drop_index(name, table)
    op.create_index("ix_sessions_created", "sessions", ["tenant", "created_at", "n", "status", "workflow_id"])
    op.create_index("ix_sessions_cost", "sessions", ["tenant", "cost_nano", "n", "status"])
    tokens = sa.text("(prompt_tokens + completion_tokens)")
    op.create_index("ix_sessions_tokens", "sessions", ["tenant", tokens, "n", "status"])
    op.create_index("ix_sessions_id", "sessions", ["tenant", "session_id", "n", "status"])
    op.create_index("ix_errors_ts", "errors", ["ts", "session_n"])
    op.create_index(
        "ix_records_messages",
        "records",
        ["session_n", "seq", sa.text("json_extract(CAST(line AS TEXT), '$.message_type')")],
        sqlite_where=sa.text("record_type = 'message'"),
    )
    op.execute(
        "CREATE VIRTUAL TABLE session_grams USING fts5(g, content='', detail=none, columnsize=0, tokenize='ascii')"
    )
