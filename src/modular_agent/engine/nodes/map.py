"""`map`: one body for each item of a list, then their results in order.

It is compiled to three nodes: `name` makes the list, `name.item` runs once per item (a task
each), `name.join` collects.
"""

from collections.abc import Mapping
from typing import Any, Final

from modular_agent.engine.errors import OutputInvalid
from modular_agent.engine.expressions import Expression
from modular_agent.engine.nodes.reading import evaluate
from modular_agent.engine.nodes.visit import Body, Updates, Visit, replace
from modular_agent.engine.state import opened
from modular_agent.kit.dataclass import dataclass

__all__ = ["RESULT", "MapItem", "MapJoin", "MapList", "items_key", "results_key", "sends"]

RESULT: Final = "__result"  # the key under which a body in a map gives its result
MAX_ITEMS: Final = 10_000


def items_key(name: str) -> str:
    """The hidden state key of a map's list."""
    return f"__items.{name}"


def results_key(name: str) -> str:
    """The hidden state key of a map's results so far, as [index, result] pairs."""
    return f"__results.{name}"


@dataclass(frozen=True, slots=True)
class MapList:
    """The first part: evaluates the list."""

    name: str
    over: Expression

    async def __call__(self, visit: Visit) -> Updates:
        items = evaluate(visit, self.over)
        if not isinstance(items, list):
            raise OutputInvalid(node=visit.node, reason=f"`over` gave {type(items).__name__}, not a list")
        if len(items) > MAX_ITEMS:  # pyright: ignore[reportUnknownArgumentType]
            raise OutputInvalid(node=visit.node, reason=f"`over` gave more than {MAX_ITEMS} items")
        return {items_key(self.name): replace(items), results_key(self.name): replace([])}


@dataclass(frozen=True, slots=True)
class MapItem:
    """The second part: runs the body for one item and keeps its result with the item's index."""

    name: str
    body: Body

    async def __call__(self, visit: Visit) -> Updates:
        visit.state = opened(await visit.context.state_at(visit.config, visit.step_id))
        updates = await self.body(visit)
        result = updates.pop(RESULT, None)
        return {**updates, results_key(self.name): [[visit.sent["index"], result]]}


@dataclass(frozen=True, slots=True)
class MapJoin:
    """The last part: the results in the items' order, under `writes`."""

    name: str
    writes: str

    async def __call__(self, visit: Visit) -> Updates:
        pairs: list[list[Any]] = visit.state.get(results_key(self.name)) or []
        results = [result for _, result in sorted(pairs, key=lambda pair: pair[0])]
        return {self.writes: results, items_key(self.name): replace([]), results_key(self.name): replace([])}


def sends(name: str, as_name: str, state: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What each task of a map is sent: its item under its name, and its index."""
    return [{as_name: item, "index": i} for i, item in enumerate(state.get(items_key(name)) or ())]
