"""The shapes of requests and answers about runs."""

from typing import Any, Final, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from modular_agent.kit.late_model import LateModel

__all__ = ["AnswerInterrupt", "InterruptList", "RunAnswer", "RunList", "RunWorkflow", "StartRun"]

JsonObject = dict[str, Any]  # any JSON object
HELD: Final = "Of a paused run: only `resume` or `step` has it go on, also when its questions are answered."
Status = Literal["queued", "running", "pausing", "paused", "stopping", "completed", "failed", "stopped"]


RUN_EXAMPLE: Final[JsonObject] = {
    "run_id": "run_1f73e8c09ab45d1e22f0",
    "session_id": "react-251022-174800-1f73e8",
    "workflow_id": "react",
    "status": "completed",
    "held": False,
    "created_at": "2025-10-22T17:48:01.000000Z",
    "started_at": "2025-10-22T17:48:01.000000Z",
    "ended_at": "2025-10-22T17:48:02.000000Z",
    "current_node": "think",
    "execution_time": 0.91,
    "result": {"output": "The result is 391.", "state": {}},
    "error": None,
    "execution_path": ["think", "act", "think"],
    "node_states": {"think": "completed", "act": "completed"},
    "steps": 3,
    "performance_metrics": {
        "llm_calls": 2,
        "llm_errors": 0,
        "llm_time": 0.85,
        "avg_response_time": 0.425,
    },
    "usage": {"prompt_tokens": 310, "completion_tokens": 24, "total_tokens": 334, "cost_usd": 0.0},
    "interrupts": [],
}
BRIEF: Final = frozenset({"execution_path", "node_states", "steps", "performance_metrics", "usage", "interrupts"})
QUESTION_EXAMPLE: Final[JsonObject] = {
    "interrupt_id": "int_f0f40b0230ced5ce811a",
    "run_id": "run_1f73e8c09ab45d1e22f0",
    "node": "review",
    "kind": "question",
    "question": {"text": "Send this answer?"},
    "form": {"type": "object", "properties": {"approve": {"type": "boolean"}}, "required": ["approve"]},
    "status": "open",
    "answer": None,
    "answered_by": None,
    "created_at": "2025-10-22T17:48:02.000000Z",
    "answered_at": None,
    "due_at": None,
}


class StartRun(LateModel):
    """A new run of a session."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"message": "What is 17 * 23?", "mode": "wait"}]}
    )

    message: str | list[JsonObject] | None = Field(
        default=None, description="What the person says: text, or content parts (text, image_url, ...)."
    )
    input: str | JsonObject | None = Field(
        default=None, description="The same as `message` when it is text; otherwise changes of the state."
    )
    mode: Literal["background", "wait", "stream"] = Field(
        default="background",
        description="background: 202 at once; wait: 200 when the run has ended or paused; stream: its events (SSE).",
    )
    multitask: Literal["reject", "enqueue", "interrupt", "rollback"] = Field(
        default="reject",
        description="While a run is active: reject (409), enqueue, interrupt it (its state stays), or roll it back.",
    )
    limits: JsonObject = Field(
        default_factory=dict, description="max_iterations, max_tokens, max_cost_usd, max_seconds, max_steps, on_exceed."
    )
    checkpoint_id: str | None = Field(
        default=None,
        max_length=100,
        description="Start from the state at this checkpoint; the log keeps what came since.",
    )

    @model_validator(mode="after")
    def _one_message(self) -> Self:
        if self.message is not None and isinstance(self.input, str):
            raise PydanticCustomError(
                "message_twice",
                "gives a message twice: as message and as text in input",
                {"zh": "重复给出了消息：message 与 input 的文本"},
            )
        return self


class RunWorkflow(LateModel):
    """A run of a workflow in a session of its own."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"initial_state": {"messages": [{"role": "user", "content": "What is 17 * 23?"}]}}]
        },
    )

    initial_state: JsonObject = Field(default_factory=dict)
    agent_config: JsonObject = Field(default_factory=dict)
    limits: JsonObject = Field(default_factory=dict)
    message: str | list[JsonObject] | None = Field(default=None, description="A first user message.")


class RunError(LateModel):
    """Why a run failed."""

    error_id: str
    type: str
    message: str
    node: str | None


class RunAnswer(LateModel):
    """A run. `result` is there when it has completed, `error` when it has failed."""

    model_config = ConfigDict(json_schema_extra={"examples": [RUN_EXAMPLE]})

    run_id: str
    session_id: str
    workflow_id: str
    status: Status
    held: bool = Field(description=HELD)
    created_at: str
    started_at: str | None
    ended_at: str | None
    current_node: str | None
    execution_time: float = Field(description="Seconds of execution, without pauses.")
    result: JsonObject | None
    error: RunError | None
    execution_path: list[str]
    node_states: dict[str, str]
    steps: int
    performance_metrics: JsonObject
    usage: JsonObject
    interrupts: list[JsonObject] = Field(description="Questions that are open.")


class RunBrief(LateModel):
    """A run in a list."""

    run_id: str
    session_id: str
    workflow_id: str
    status: Status
    held: bool = Field(description=HELD)
    created_at: str
    started_at: str | None
    ended_at: str | None
    current_node: str | None
    execution_time: float
    result: JsonObject | None
    error: RunError | None


class RunList(LateModel):
    """A page of runs, newest first."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "runs": [{key: value for key, value in RUN_EXAMPLE.items() if key not in BRIEF}],
                    "total": 1,
                    "page": 1,
                    "page_size": 20,
                    "has_next": False,
                    "cursor": None,
                }
            ]
        }
    )

    runs: list[RunBrief]
    total: int
    page: int
    page_size: int
    has_next: bool
    cursor: str | None


class AnswerInterrupt(LateModel):
    """A person's answer; it must fit the question's form."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"answer": {"approve": True}}]})

    answer: Any = Field(description="Any JSON value that fits the form.")


class InterruptList(LateModel):
    """The open questions of a session."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"interrupts": [QUESTION_EXAMPLE]}]})

    interrupts: list[JsonObject]
