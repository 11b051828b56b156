"""Reading the state: with the keys that every workflow can read without declaring them, computed only where named."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from modular_agent.engine.context import RunContext
from modular_agent.engine.expressions import Expression
from modular_agent.engine.nodes.conversation import tool_results
from modular_agent.engine.nodes.visit import Visit
from modular_agent.engine.prompts import Prompt
from modular_agent.kit.clock import rfc3339, utc_datetime

__all__ = ["evaluate", "render", "with_standard_keys"]

_KEYS: Final[Mapping[str, Callable[[Mapping[str, Any], RunContext], Any]]] = {
    "tool_results": lambda state, _: tool_results(state.get("messages") or ()),
    "current_step": lambda _, context: context.progress.current_node,
    "iteration_count": lambda _, context: context.budget.run.spent.calls,
    "max_iterations": lambda _, context: context.budget.maximum("max_iterations"),
    "workflow_name": lambda _, context: context.workflow_id,
    "start_time": lambda _, context: rfc3339(context.started_at),
    "errors": lambda _, __: [],
}


def with_standard_keys(state: Mapping[str, Any], context: RunContext, names: Collection[str]) -> Mapping[str, Any]:
    """The state with those of `names` that the product itself knows; a workflow's own keys win."""
    wanted = {name: _KEYS[name](state, context) for name in names if name in _KEYS and name not in state}
    return {**state, **wanted} if wanted else state


def evaluate(visit: Visit, expression: Expression, /, **extra: Any) -> Any:
    """The value of an expression where a node stands; `extra` are more variables than what the task was sent."""
    state = with_standard_keys(visit.state, visit.context, expression.state_keys)
    return expression.evaluate(state, extra={**(visit.sent or {}), **extra})


def render(visit: Visit, prompt: Prompt) -> str:
    """The text of a prompt where a node stands."""
    if prompt.text is not None:
        return prompt.text
    names = _KEYS if prompt.includes or "state" in prompt.names else prompt.names
    state = with_standard_keys(visit.state, visit.context, names)
    return prompt.render(state, now=utc_datetime(visit.context.clock.now_us()), extra=visit.sent or {})
