"""The shapes of requests and answers about sessions."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints

from modular_agent.kit.late_model import LateModel

__all__ = [
    "SESSION_EXAMPLE",
    "CreateSession",
    "HistoryAnswer",
    "Message",
    "SessionAnswer",
    "SessionList",
    "StateAnswer",
    "UpdateSession",
]

JsonObject = dict[str, Any]  # any JSON object: workflows say what they mean
Tag = Annotated[str, StringConstraints(min_length=1, max_length=100)]

SESSION_EXAMPLE: JsonObject = {
    "session_id": "react-251022-174800-1f73e8",
    "workflow_config_path": "workflows/react.yaml",
    "workflow_id": "react",
    "workflow_version": "9f2c4b1e0d7a53f6c8e1b2a4d5f60718293a4b5c6d7e8f901a2b3c4d5e6f7081",
    "agent_type": None,
    "status": "active",
    "title": "Arithmetic",
    "tags": ["demo"],
    "created_at": "2025-10-22T17:48:00.000000Z",
    "updated_at": "2025-10-22T17:48:00.000000Z",
    "agent_config": {"temperature": 0.1},
    "metadata": {"user": "ada"},
    "current_run_id": None,
    "last_seq": 0,
    "usage": {
        "messages": 0,
        "tool_calls": 0,
        "errors": 0,
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "total_tokens": 0,
        "cached_tokens": 0,
        "reasoning_tokens": 0,
        "unpriced_tokens": 0,
        "cost_usd": 0.0,
    },
}


class _Body(LateModel):
    """A request body: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid")


class CreateSession(_Body):
    """A new session: exactly one of `workflow_config_path`, `workflow_id` and `agent_type`."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "workflow_config_path": "workflows/react.yaml",
                    "metadata": {"user": "ada"},
                    "title": "Arithmetic",
                    "tags": ["demo"],
                }
            ]
        },
    )

    workflow_config_path: str | None = Field(
        default=None, max_length=500, description="A workflow file below the configs root."
    )
    workflow_id: str | None = Field(default=None, max_length=64, description="The name of a loaded workflow.")
    agent_type: str | None = Field(
        default=None, max_length=64, description="An agent of agents/, in a workflow of its own."
    )
    agent_config: JsonObject = Field(
        default_factory=dict,
        description="Overrides: agent, model, prompt, temperature, top_p, max_tokens, parameters, limits.",
    )
    initial_state: JsonObject = Field(default_factory=dict, description="State that the first run starts with.")
    metadata: JsonObject = Field(default_factory=dict)
    title: str | None = Field(default=None, max_length=500)
    tags: list[Tag] = Field(default_factory=list, max_length=50)


class UpdateSession(_Body):
    """What to change; what is left out stays."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"metadata": {"reviewed": True}, "title": "Sums"}]}
    )

    status: str | None = Field(
        default=None, max_length=20, description="paused, active and stopped pause, resume and stop the session's run."
    )
    metadata: JsonObject | None = Field(default=None, description="Merged into what is there, key by key.")
    title: str | None = Field(default=None, max_length=500)
    tags: list[Tag] | None = Field(default=None, max_length=50)


class SessionUsage(LateModel):
    """What a session has used so far; tokens without a known price are counted in `unpriced_tokens`."""

    messages: int
    tool_calls: int
    errors: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    unpriced_tokens: int
    cost_usd: float


class SessionAnswer(LateModel):
    """A session."""

    model_config = ConfigDict(json_schema_extra={"examples": [SESSION_EXAMPLE]})

    session_id: str
    workflow_config_path: str
    workflow_id: str
    workflow_version: str
    agent_type: str | None
    status: Literal["active", "paused", "completed", "error", "stopped"]
    title: str | None
    tags: list[str]
    created_at: str
    updated_at: str
    agent_config: JsonObject
    metadata: JsonObject
    current_run_id: str | None
    last_seq: int
    usage: SessionUsage


class SessionList(LateModel):
    """A page of sessions."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "sessions": [SESSION_EXAMPLE],
                    "total": 41,
                    "page": 1,
                    "page_size": 1,
                    "has_next": True,
                    "cursor": "WyJjcmVhdGVkX2F0Iix0cnVlLDE3NjExNTUyODAwMDAwMDAsNDFd",
                }
            ]
        }
    )

    sessions: list[SessionAnswer]
    total: int
    page: int
    page_size: int
    has_next: bool
    cursor: str | None


class Message(LateModel):
    """What was done."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"message": "Session deleted."}]})

    message: str


class HistoryAnswer(LateModel):
    """The newest records, oldest of them first; each as it stands in the log."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "history": [
                        {
                            "seq": 2,
                            "timestamp": "2025-10-22T17:48:01.000000Z",
                            "record_id": "rec_4416350448da3cdeb648",
                            "session_id": "react-251022-174800-1f73e8",
                            "run_id": "run_1f73e8c09ab45d1e22f0",
                            "record_type": "message",
                            "message_type": "user",
                            "content": "What is 17 * 23?",
                        }
                    ]
                }
            ]
        }
    )

    history: list[JsonObject]


class StateAnswer(LateModel):
    """A session's state: the conversation, and what the workflow's schema adds."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "messages": [
                        {"role": "user", "content": "What is 17 * 23?"},
                        {"role": "assistant", "content": "The result is 391."},
                    ],
                    "tool_results": [],
                    "current_step": "think",
                    "iteration_count": 1,
                    "max_iterations": 10,
                    "workflow_name": "react",
                    "start_time": "2025-10-22T17:48:01.000000Z",
                    "errors": [],
                }
            ]
        },
    )

    messages: list[JsonObject]
    tool_results: list[JsonObject]
    current_step: str | None
    iteration_count: int
    max_iterations: int | None
    workflow_name: str
    start_time: str | None
    errors: list[JsonObject]
