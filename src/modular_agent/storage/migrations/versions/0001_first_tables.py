"""The first tables."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    _idempotency_keys()
    _mirror()
    _sessions()
    _workflows()
    _checkpoint_writes()
    _checkpoints()
    _effects()
    _errors()
    _interrupts()
    _llm_calls()
    _log_files()
    _log_items()
    _records()
    _run_inbox()
    _runs()
    _workflow_versions()


def _idempotency_keys() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "key"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_idempotency_keys_created", "idempotency_keys", ["created_at"], unique=False)


def _mirror() -> None:
    op.create_table(
        "mirror",
        sa.Column("only", sa.Integer(), nullable=False),
        sa.Column("synced_id", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("only"),
    )


def _sessions() -> None:
    op.create_table(
        "sessions",
        sa.Column("n", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("workflow_id", sa.Text(), nullable=False),
        sa.Column("workflow_version", sa.Text(), nullable=False),
        sa.Column("workflow_config_path", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("agent_config", sa.Text(), nullable=False),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("initial_state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.Integer(), nullable=False),
        sa.Column("current_run_id", sa.Text(), nullable=True),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("last_seq", sa.Integer(), nullable=False),
        sa.Column("last_ts", sa.Integer(), nullable=False),
        sa.Column("messages", sa.Integer(), nullable=False),
        sa.Column("tool_calls", sa.Integer(), nullable=False),
        sa.Column("errors", sa.Integer(), nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), nullable=False),
        sa.Column("completion_tokens", sa.Integer(), nullable=False),
        sa.Column("cached_tokens", sa.Integer(), nullable=False),
        sa.Column("reasoning_tokens", sa.Integer(), nullable=False),
        sa.Column("unpriced_tokens", sa.Integer(), nullable=False),
        sa.Column("cost_nano", sa.Integer(), nullable=False),
        sa.Column("deleted_at", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("n"),
        sa.UniqueConstraint("session_id", name=op.f("uq_sessions_session_id")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_sessions_cost", "sessions", ["tenant", "cost_nano", "n"], unique=False)
    op.create_index("ix_sessions_created", "sessions", ["tenant", "created_at", "n"], unique=False)
    op.create_index(
        "ix_sessions_deleted", "sessions", ["deleted_at"], unique=False, sqlite_where=sa.text("deleted_at IS NOT NULL")
    )
    op.create_index("ix_sessions_status", "sessions", ["tenant", "status", "updated_at", "n"], unique=False)
    op.create_index(
        "ix_sessions_tokens", "sessions", ["tenant", sa.text("(prompt_tokens + completion_tokens)"), "n"], unique=False
    )
    op.create_index("ix_sessions_updated", "sessions", ["tenant", "updated_at", "n"], unique=False)


def _workflows() -> None:
    op.create_table(
        "workflows",
        sa.Column("workflow_id", sa.Text(), nullable=False),
        sa.Column("config_path", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("loaded_at", sa.Integer(), nullable=False),
        sa.Column("last_used", sa.Integer(), nullable=True),
        sa.Column("usage_count", sa.Integer(), nullable=False),
        sa.Column("unloaded", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("workflow_id"),
    )


def _checkpoint_writes() -> None:
    op.create_table(
        "checkpoint_writes",
        sa.Column("session_n", sa.Integer(), nullable=False),
        sa.Column("ns", sa.Text(), nullable=False),
        sa.Column("checkpoint_id", sa.Text(), nullable=False),
        sa.Column("task_id", sa.Text(), nullable=False),
        sa.Column("idx", sa.Integer(), nullable=False),
        sa.Column("task_path", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["session_n"], ["sessions.n"], name=op.f("fk_checkpoint_writes_session_n"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("session_n", "ns", "checkpoint_id", "task_id", "idx"),
        sqlite_with_rowid=False,
    )


def _checkpoints() -> None:
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
        sqlite_with_rowid=False,
    )
    op.create_index("ix_checkpoints_run", "checkpoints", ["run_id"], unique=False)


def _effects() -> None:
    op.create_table(
        "effects",
        sa.Column("session_n", sa.Integer(), nullable=False),
        sa.Column("tool_call_id", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("tool_name", sa.Text(), nullable=False),
        sa.Column("effect", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("intent_at", sa.Integer(), nullable=False),
        sa.Column("result_at", sa.Integer(), nullable=True),
        sa.Column("result", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["session_n"], ["sessions.n"], name=op.f("fk_effects_session_n"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("session_n", "tool_call_id"),
        sqlite_with_rowid=False,
    )


def _errors() -> None:
    op.create_table(
        "errors",
        sa.Column("error_id", sa.Text(), nullable=False),
        sa.Column("session_n", sa.Integer(), nullable=True),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("node", sa.Text(), nullable=True),
        sa.Column("ts", sa.Integer(), nullable=False),
        sa.Column("error_type", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["session_n"], ["sessions.n"], name=op.f("fk_errors_session_n"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("error_id"),
    )
    op.create_index("ix_errors_fingerprint", "errors", ["fingerprint", "ts"], unique=False)
    op.create_index("ix_errors_session", "errors", ["session_n", "ts"], unique=False)
    op.create_index("ix_errors_ts", "errors", ["ts"], unique=False)


def _interrupts() -> None:
    op.create_table(
        "interrupts",
        sa.Column("interrupt_id", sa.Text(), nullable=False),
        sa.Column("session_n", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("graph_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("form", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("answered_by", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Integer(), nullable=False),
        sa.Column("answered_at", sa.Integer(), nullable=True),
        sa.Column("due_at", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["session_n"], ["sessions.n"], name=op.f("fk_interrupts_session_n"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("interrupt_id"),
    )
    op.create_index(
        "ix_interrupts_due", "interrupts", ["due_at"], unique=False, sqlite_where=sa.text("status = 'open'")
    )
    op.create_index(
        "ix_interrupts_open", "interrupts", ["session_n"], unique=False, sqlite_where=sa.text("status = 'open'")
    )
    op.create_index(op.f("ix_interrupts_session_n"), "interrupts", ["session_n"], unique=False)


def _llm_calls() -> None:
    op.create_table(
        "llm_calls",
        sa.Column("call_id", sa.Text(), nullable=False),
        sa.Column("session_n", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("ts", sa.Integer(), nullable=False),
        sa.Column("workflow_id", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("duration_us", sa.Integer(), nullable=False),
        sa.Column("first_token_us", sa.Integer(), nullable=True),
        sa.Column("prompt_tokens", sa.Integer(), nullable=False),
        sa.Column("completion_tokens", sa.Integer(), nullable=False),
        sa.Column("cached_tokens", sa.Integer(), nullable=False),
        sa.Column("cache_write_tokens", sa.Integer(), nullable=False),
        sa.Column("reasoning_tokens", sa.Integer(), nullable=False),
        sa.Column("cost_nano", sa.Integer(), nullable=True),
        sa.Column("price_source", sa.Text(), nullable=True),
        sa.Column("error_kind", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["session_n"], ["sessions.n"], name=op.f("fk_llm_calls_session_n"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("call_id"),
    )
    op.create_index("ix_llm_calls_session", "llm_calls", ["session_n", "ts"], unique=False)
    op.create_index("ix_llm_calls_ts", "llm_calls", ["ts"], unique=False)


def _log_files() -> None:
    op.create_table(
        "log_files",
        sa.Column("session_n", sa.Integer(), nullable=False),
        sa.Column("month", sa.Integer(), nullable=False),
        sa.Column("length", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["session_n"], ["sessions.n"], name=op.f("fk_log_files_session_n"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("session_n", "month"),
        sqlite_with_rowid=False,
    )


def _log_items() -> None:
    op.create_table(
        "log_items",
        sa.Column("session_n", sa.Integer(), nullable=False),
        sa.Column("segment", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["session_n"], ["sessions.n"], name=op.f("fk_log_items_session_n"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("session_n", "segment", "position"),
        sqlite_with_rowid=False,
    )


def _records() -> None:
    op.create_table(
        "records",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("session_n", sa.Integer(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("ts", sa.Integer(), nullable=False),
        sa.Column("record_type", sa.Text(), nullable=False),
        sa.Column("record_id", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("node", sa.Text(), nullable=True),
        sa.Column("month", sa.Integer(), nullable=False),
        sa.Column("offset", sa.Integer(), nullable=False),
        sa.Column("length", sa.Integer(), nullable=False),
        sa.Column("line", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["session_n"], ["sessions.n"], name=op.f("fk_records_session_n"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_records_place", "records", ["session_n", "seq", "record_type", "ts"], unique=True)


def _run_inbox() -> None:
    op.create_table(
        "run_inbox",
        sa.Column("inbox_id", sa.Text(), nullable=False),
        sa.Column("session_n", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["session_n"], ["sessions.n"], name=op.f("fk_run_inbox_session_n"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("inbox_id"),
    )
    op.create_index(op.f("ix_run_inbox_session_n"), "run_inbox", ["session_n"], unique=False)


def _runs() -> None:
    op.create_table(
        "runs",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("session_n", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("input", sa.Text(), nullable=False),
        sa.Column("limits", sa.Text(), nullable=False),
        sa.Column("spent", sa.Text(), nullable=False),
        sa.Column("pending", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.Integer(), nullable=True),
        sa.Column("ended_at", sa.Integer(), nullable=True),
        sa.Column("active_us", sa.Integer(), nullable=False),
        sa.Column("first_seq", sa.Integer(), nullable=False),
        sa.Column("current_node", sa.Text(), nullable=True),
        sa.Column("steps", sa.Integer(), nullable=False),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["session_n"], ["sessions.n"], name=op.f("fk_runs_session_n"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id"),
    )
    op.create_index(
        "ix_runs_active",
        "runs",
        ["status"],
        unique=False,
        sqlite_where=sa.text("status IN ('queued','running','pausing','paused','stopping')"),
    )
    op.create_index(
        "ix_runs_one_active",
        "runs",
        ["session_n"],
        unique=True,
        sqlite_where=sa.text("status IN ('queued','running','pausing','paused','stopping')"),
    )
    op.create_index("ix_runs_session", "runs", ["session_n", "created_at"], unique=False)


def _workflow_versions() -> None:
    op.create_table(
        "workflow_versions",
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("workflow_id", sa.Text(), nullable=False),
        sa.Column("config_path", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("bundle", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["workflow_id"],
            ["workflows.workflow_id"],
            name=op.f("fk_workflow_versions_workflow_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("content_hash"),
    )
    op.create_index(op.f("ix_workflow_versions_workflow_id"), "workflow_versions", ["workflow_id"], unique=False)
