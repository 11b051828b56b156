"""Limits at work: before a model call or a step, a run over its limit asks a person, or fails."""

from typing import Final

from modular_agent.engine.budgets import LIMIT_NAMES, Excess
from modular_agent.engine.errors import LimitReached
from modular_agent.engine.nodes.asking import ask, object_form
from modular_agent.engine.nodes.visit import Visit

__all__ = ["within_budget"]

BUDGET_FORM: Final = object_form(
    {**{name: {"type": "number", "exclusiveMinimum": 0} for name in LIMIT_NAMES}, "stop": {"type": "boolean"}},
    required=(),
)


def within_budget(visit: Visit, *, calls: int = 0, tokens: int = 0) -> None:
    """Returns once `calls` more model calls of about `tokens` tokens are within the limits.

    Asks for higher limits until they suffice. Raises `LimitReached` where the workflow, or the person, says so.
    """
    budget = visit.context.budget
    while (excess := budget.excess(calls=calls, tokens=tokens, steps=visit.context.progress.steps)) is not None:
        if budget.on_exceed == "fail":
            raise _reached(excess)
        answer = ask(
            visit,
            "budget",
            form=BUDGET_FORM,
            limit=excess.limit,
            maximum=excess.maximum,
            used=excess.used,
            spent=budget.spent(),
        )
        if answer.get("stop"):
            raise _reached(excess)
        budget.raise_limits(answer)


def _reached(excess: Excess) -> LimitReached:
    return LimitReached(limit=excess.limit, maximum=f"{excess.maximum:g}", used=f"{excess.used:g}")
