"""`graph`: an existing LangGraph graph as one node."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from modular_agent.engine.expressions import Expression
from modular_agent.engine.nodes.visit import Body, Updates, Visit

__all__ = ["UserGraph", "user_graph"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UserGraph:
    load: Callable[[], Any]
    inputs: Mapping[str, Expression] | None
    outputs: Mapping[str, Expression] | None
    writes: str | None


def user_graph(graph: UserGraph) -> Body:
    async def body(visit: Visit) -> Updates:
        raise NotImplementedError

    return body
