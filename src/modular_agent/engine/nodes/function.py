"""`function`: calls Python code with the state, or with arguments made of it."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from modular_agent.engine.budgets import Need
from modular_agent.engine.errors import OutputInvalid
from modular_agent.engine.expressions import Expression
from modular_agent.engine.nodes.conversation import public
from modular_agent.engine.nodes.reading import evaluate
from modular_agent.engine.nodes.spending import within_limits
from modular_agent.engine.nodes.visit import Body, Updates, Visit
from modular_agent.events import RecordType

__all__ = ["FunctionCall", "function"]

FunctionCall = Callable[[Mapping[str, Any], Callable[[str, str], None]], Awaitable[Any]]
"""Runs the code with keyword arguments and a (level, message) log; raises what the code raises."""


def function(call: FunctionCall, inputs: Mapping[str, Expression] | None, *, writes: str | None) -> Body:
    """The body of a `function` node: with `inputs` the code gets these arguments, without it gets `state`."""

    async def body(visit: Visit) -> Updates:
        within_limits(visit, Need())  # a cycle of code alone is bounded by steps and seconds
        if inputs is None:
            arguments: dict[str, Any] = {"state": public({**visit.state, **(visit.sent or {})})}
        else:
            arguments = {name: evaluate(visit, each) for name, each in inputs.items()}
        context = visit.context

        def log(level: str, message: str) -> None:
            context.emit(context.record(RecordType.LOG, visit.node, level=level, message=message))

        result = await call(arguments, log)
        if writes:
            return {writes: result}
        if result is None:
            return {}
        if isinstance(result, dict):
            return cast("Updates", result)
        raise OutputInvalid(
            node=visit.node, reason="a function without `writes` returns a dict of state changes, or nothing"
        )

    return body
