"""The shapes of requests and answers about many sessions to be deleted."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints

from modular_agent.api.times import Time
from modular_agent.kit.late_model import LateModel

__all__ = ["BulkDelete", "BulkDeleteAnswer", "SessionsFilter"]

MAX_SESSIONS = 500
SessionId = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class SessionsFilter(LateModel):
    """Sessions to which everything that is given applies: one condition at least, one of workflow and agent at most."""

    model_config = ConfigDict(extra="forbid")

    status: Literal["active", "paused", "completed", "error", "stopped"] | None = None
    search: str | None = Field(
        default=None, min_length=1, max_length=200, description="A piece of the id, workflow, title or metadata."
    )
    workflow_id: str | None = Field(default=None, max_length=64)
    agent_type: str | None = Field(default=None, max_length=57, description="Sessions of this agent.")
    start_time: Time | None = Field(default=None, description="Made from this time on (included).")
    end_time: Time | None = Field(default=None, description="Made before this time.")


class BulkDelete(LateModel):
    """Which sessions to delete: exactly one of `session_ids` and `filter`."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"session_ids": ["react-251022-174800-000000"]},
                {"filter": {"status": "error", "end_time": "2025-10-22T17:48:00Z"}, "limit": 100, "dry_run": True},
            ]
        },
    )

    session_ids: list[SessionId] | None = Field(default=None, min_length=1, max_length=MAX_SESSIONS)
    filter: SessionsFilter | None = None
    limit: int = Field(
        default=100, ge=1, le=MAX_SESSIONS, description="With `filter`: at most so many, those made first."
    )
    dry_run: bool = Field(default=False, description="Only tells which sessions it would be.")


class DeletedSession(LateModel):
    """What became of one session; `code` and `detail` say why it is still there."""

    session_id: str
    outcome: Literal["deleted", "would_delete", "not_found", "failed"]
    code: str | None
    detail: str | None


class BulkDeleteAnswer(LateModel):
    """What became of each session, in the order in which they were named. `remaining` more match the filter."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "deleted": 1,
                    "not_found": 1,
                    "failed": 0,
                    "remaining": 0,
                    "dry_run": False,
                    "sessions": [
                        {
                            "session_id": "react-251022-174800-1f73e8",
                            "outcome": "deleted",
                            "code": None,
                            "detail": None,
                        },
                        {
                            "session_id": "react-251022-174800-000000",
                            "outcome": "not_found",
                            "code": "session_not_found",
                            "detail": "There is no session react-251022-174800-000000.",
                        },
                    ],
                }
            ]
        }
    )

    deleted: int
    not_found: int
    failed: int
    remaining: int
    dry_run: bool
    sessions: list[DeletedSession]
