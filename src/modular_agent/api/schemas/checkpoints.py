"""The shapes of requests and answers about checkpoints, and of what a person puts into a run."""

from typing import Any

from pydantic import ConfigDict, Field

from modular_agent.kit.late_model import LateModel

__all__ = [
    "CheckpointList",
    "EditState",
    "ForkSession",
    "InjectMessage",
    "InjectedAnswer",
    "MigrateSession",
    "RestoreSession",
    "SaveSession",
    "Saved",
]

JsonObject = dict[str, Any]  # any JSON object


class _Body(LateModel):
    """A request body: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid")


class SaveSession(_Body):
    """A name for the newest checkpoint."""

    name: str = Field(default="saved", min_length=1, max_length=200)


class Saved(LateModel):
    """What was saved."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"message": "Checkpoint saved.", "checkpoint_id": "1f1e4d2c-ba87-6f35-8003-51c57f56b020"}]
        }
    )

    message: str
    checkpoint_id: str


class RestoreSession(_Body):
    """Where to go back to."""

    checkpoint_id: str | None = Field(default=None, max_length=100, description="Left out: the last saved one.")


class ForkSession(_Body):
    """A new session that goes on from a checkpoint; what is left out is as in the source."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"agent_config": {"model": "offline"}}]})

    checkpoint_id: str | None = Field(default=None, max_length=100, description="Left out: the newest.")
    workflow_config_path: str | None = Field(default=None, max_length=500, description="Another workflow file.")
    workflow_version: str | None = Field(default=None, max_length=100, description="A content hash.")
    agent_config: JsonObject | None = None
    as_node: str | None = Field(
        default=None, max_length=64, description="The node to go on after, where a pending one does not exist."
    )
    title: str | None = Field(default=None, max_length=500)
    tags: list[str] = Field(default_factory=list, max_length=50)
    metadata: JsonObject = Field(default_factory=dict)


class MigrateSession(_Body):
    """The version to bind a session to; left out: the newest of its workflow."""

    workflow_version: str | None = Field(default=None, max_length=100, description="A content hash.")


class CheckpointAnswer(LateModel):
    """A checkpoint; `size` in bytes, `diff` says what changed since the one before."""

    checkpoint_id: str
    parent_id: str | None
    run_id: str | None
    step: int
    source: str
    created_at: str
    saved_name: str | None
    size: int
    diff: JsonObject


class CheckpointList(LateModel):
    """Checkpoints, newest first."""

    checkpoints: list[CheckpointAnswer]
    has_next: bool
    cursor: str | None


class InjectMessage(_Body):
    """A user message for the run in progress."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"message": "Use metric units."}]})

    message: str | list[JsonObject] = Field(description="Text, or content parts.")


class InjectedAnswer(LateModel):
    """What became of an injected message: waiting, consumed, or not_consumed (then it started the run `run_id`)."""

    inbox_id: str
    status: str
    run_id: str | None


class EditState(_Body):
    """Changes of a paused run's state: each key's value is replaced."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"state": {"score": 0.9}}]})

    state: JsonObject
