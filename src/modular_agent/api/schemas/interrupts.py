"""The shape of the list of what waits for people."""

from typing import Any, Literal

from modular_agent.kit.late_model import LateModel

__all__ = ["Waiting", "WaitingList"]

JsonObject = dict[str, Any]  # any JSON object


class Waiting(LateModel):
    """An open question with the session it belongs to; `form` is a JSON Schema that the answer has to fit."""

    interrupt_id: str
    session_id: str
    workflow_id: str
    session_title: str | None
    run_id: str
    node: str
    kind: Literal["question", "approval", "budget", "effect", "wait"]
    question: JsonObject
    form: JsonObject | None
    status: str
    answer: Any
    answered_by: str | None
    created_at: str
    answered_at: str | None
    due_at: str | None


class WaitingList(LateModel):
    """What waits for people, oldest first."""

    interrupts: list[Waiting]
    total: int
    page: int
    page_size: int
    has_next: bool
    cursor: str | None
