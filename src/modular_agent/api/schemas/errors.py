"""The shapes of requests and answers about errors."""

from typing import Any, Literal

from pydantic import ConfigDict, Field

from modular_agent.kit.late_model import LateModel

__all__ = ["ErrorAnswer", "ErrorList", "GroupAnswer", "GroupList", "ResolveGroup", "RetryAnswer", "RetryGroup"]

_ERROR: dict[str, Any] = {
    "error_id": "err_1f73e8c09ab45d1e22f0",
    "session_id": "react-251022-174800-1f73e8",
    "workflow_id": "react",
    "run_id": "run_1f73e8c09ab45d1e22f0",
    "node": "think",
    "timestamp": "2025-10-22T17:48:00.000000Z",
    "error_type": "all_models_failed",
    "error_message": "The model gpt-4.1-mini at openai failed: 500.",
    "severity": "error",
    "fingerprint": "5a1d0c9be2f47711",
    "status": "open",
}
_GROUP: dict[str, Any] = {
    "fingerprint": "5a1d0c9be2f47711",
    "status": "open",
    "regressed": False,
    "error_type": "all_models_failed",
    "severity": "error",
    "count": 3,
    "open_count": 3,
    "first_seen": "2025-10-22T17:40:00.000000Z",
    "last_seen": "2025-10-22T17:48:00.000000Z",
    "session_count": 2,
    "sessions": ["react-251022-174800-1f73e8", "react-251022-174000-9ab45d"],
    "run_count": 3,
    "resolved_at": None,
    "resolved_by": None,
    "note": None,
    "sample": _ERROR,
}


class ErrorAnswer(LateModel):
    """An error. `stack_trace` is there in DEBUG only; it is stored always."""

    model_config = ConfigDict(json_schema_extra={"examples": [_ERROR]})

    error_id: str
    session_id: str | None = Field(description="Null for a failure of the server itself.")
    workflow_id: str | None
    run_id: str | None
    node: str | None
    timestamp: str
    error_type: str
    error_message: str
    severity: str
    fingerprint: str = Field(description="The same for errors of the same cause.")
    status: Literal["open", "resolved"]
    stack_trace: str | None = None


class ErrorList(LateModel):
    """A page of errors, newest first."""

    errors: list[ErrorAnswer]
    total: int
    page: int
    page_size: int
    has_next: bool
    cursor: str | None


class GroupAnswer(LateModel):
    """Errors of one cause."""

    model_config = ConfigDict(json_schema_extra={"examples": [_GROUP]})

    fingerprint: str
    status: Literal["open", "resolved"]
    regressed: bool = Field(description="It was resolved and has happened again.")
    error_type: str
    severity: str
    count: int
    open_count: int
    first_seen: str
    last_seen: str
    session_count: int
    sessions: list[str] = Field(description="The sessions it happened in last, ten at most.")
    run_count: int
    resolved_at: str | None
    resolved_by: str | None
    note: str | None
    sample: ErrorAnswer = Field(description="The newest of the errors.")


class GroupList(LateModel):
    """A page of groups, the last seen first."""

    groups: list[GroupAnswer]
    total: int
    page: int
    page_size: int
    has_next: bool
    cursor: str | None


class ResolveGroup(LateModel):
    """Why the group counts as resolved."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"note": "The key was renewed."}]})

    note: str | None = Field(default=None, max_length=2000)


class RetryGroup(LateModel):
    """How many runs to take up."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"limit": 20}]})

    limit: int = Field(default=20, ge=1, le=100)


class RetriedRun(LateModel):
    """What became of one run: its `status`, or the `code` of why it was not taken up."""

    session_id: str
    run_id: str
    status: str | None
    code: str | None
    detail: str | None


class RetryAnswer(LateModel):
    """What became of each run. `remaining` counts failed runs of the group beyond the limit."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "fingerprint": "5a1d0c9be2f47711",
                    "retried": 1,
                    "remaining": 0,
                    "runs": [
                        {
                            "session_id": "react-251022-174800-1f73e8",
                            "run_id": "run_1f73e8c09ab45d1e22f0",
                            "status": "running",
                            "code": None,
                            "detail": None,
                        }
                    ],
                }
            ]
        }
    )

    fingerprint: str
    retried: int
    remaining: int
    runs: list[RetriedRun]
