"""The shapes of budgets."""

from typing import Any, Literal

from pydantic import ConfigDict, Field

from modular_agent.api.schemas.runs import JsonObject
from modular_agent.kit.late_model import LateModel

__all__ = ["BudgetAnswer", "BudgetList", "SessionBudgets"]

_BUDGET: dict[str, Any] = {
    "budget": "workflow.day",
    "scope": "workflow",
    "subject": "react",
    "name": None,
    "period": "day",
    "limits": {"max_cost_usd": 20.0},
    "on_exceed": "pause",
    "spent": {
        "iterations": 214,
        "tokens": 512_400,
        "cost_usd": 7.31,
        "unpriced_tokens": 0,
        "steps": 640,
        "seconds": 913.2,
        "assumed_cost_usd": 0.0,
    },
    "held": {"iterations": 1, "tokens": 5_200, "cost_usd": 0.02},
    "remaining": {"max_cost_usd": 12.69},
    "day": "2025-10-22",
    "resets_at": "2025-10-23T00:00:00.000000Z",
}


class BudgetAnswer(LateModel):
    """What may be used together by the runs of a scope in a period, what was used, and what calls in progress hold."""

    model_config = ConfigDict(json_schema_extra={"examples": [_BUDGET]})

    budget: str = Field(
        description="`run`, `session`, `workflow`, `key`, `installation`; `key.run`; with `.day` of one."
    )
    scope: Literal["run", "session", "workflow", "key", "installation"]
    subject: str = Field(description="The id of the run, session, workflow or key; empty for the installation.")
    name: str | None = Field(description="The name of a key.")
    period: Literal["run", "total", "day"]
    limits: JsonObject = Field(
        description="`max_iterations`, `max_tokens`, `max_cost_usd`, `max_seconds`, `max_steps`."
    )
    on_exceed: Literal["pause", "fail"]
    spent: JsonObject = Field(
        description="`assumed_cost_usd` is what limits of money count for tokens without a known price."
    )
    held: JsonObject = Field(description="What calls in progress may use at most.")
    remaining: JsonObject = Field(description="By limit.")
    day: str | None = Field(description="The UTC day.")
    resets_at: str | None = Field(description="When the next day begins.")


class BudgetList(LateModel):
    """Budgets that many runs share."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"budgets": [_BUDGET], "total": 1, "page": 1, "page_size": 20, "has_next": False, "cursor": None}
            ]
        }
    )

    budgets: list[BudgetAnswer]
    total: int
    page: int
    page_size: int
    has_next: bool
    cursor: str | None


class SessionBudgets(LateModel):
    """All budgets that bound a session's run."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"budgets": [_BUDGET]}]})

    budgets: list[BudgetAnswer]
