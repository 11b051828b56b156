"""Checkpoints lie one behind the other, as they are made: a transaction changes the end of the table, and of the index
a page for each session. The index by run, which changed a page for each run, is left out."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.drop_index("ix_checkpoints_run", "checkpoints")
    op.rename_table("checkpoints", "checkpoints_before")
    op.create_table(
        "checkpoints",
        sa.Column("session_n", sa.Integer(), nullable=False),
        sa.Column("ns", sa.Text(), nullable=False),
        sa.Column("checkpoint_id", sa.Text(), nullable=False),
        sa.Column("parent_id", sa.Text(), nullable=True),
        sa.Column("root_id", sa.Text(), nullable=True),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Integer(), nullable=False),
        sa.Column("saved_name", sa.Text(), nullable=True),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("checkpoint", sa.LargeBinary(), nullable=False),
        sa.Column("metadata", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["session_n"], ["sessions.n"], name=op.f("fk_checkpoints_session_n"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("session_n", "ns", "checkpoint_id"),
    )
    op.execute("INSERT INTO checkpoints SELECT * FROM checkpoints_before")
    op.drop_table("checkpoints_before")
