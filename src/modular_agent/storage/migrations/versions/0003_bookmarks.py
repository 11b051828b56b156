"""Bookmarks."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "bookmarks",
        sa.Column("n", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("bookmark_id", sa.Text(), nullable=False),
        sa.Column("session_n", sa.Integer(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("message_ts", sa.Integer(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("n"),
        sa.UniqueConstraint("bookmark_id", name=op.f("uq_bookmarks_bookmark_id")),
        sa.ForeignKeyConstraint(["session_n"], ["sessions.n"], name=op.f("fk_bookmarks_session_n"), ondelete="CASCADE"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_bookmarks_session", "bookmarks", ["session_n", "n"], unique=False)
