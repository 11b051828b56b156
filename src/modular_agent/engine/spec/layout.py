"""Positions for drawing a workflow: in layers from START down to END, the same for the same file.

The layered method of Sugiyama, Tagawa and Toda (1981): edges that close a cycle are turned round, each node gets the
layer of its longest way from START, long edges get a place in every layer they cross, and the order within the layers
is improved by the mean position of the neighbours, down and up.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from modular_agent.engine.spec.drawing import drawn_edges, drawn_nodes
from modular_agent.engine.spec.model import END, START, WorkflowSpec

__all__ = ["ALGORITHM", "NODE_HEIGHT", "NODE_WIDTH", "Layout", "Position", "layout"]

ALGORITHM: Final = "layered"
NODE_WIDTH: Final = 180
NODE_HEIGHT: Final = 60
_GAP_X: Final = 60
_GAP_Y: Final = 60
_SWEEPS: Final = 8

_Edge = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Position:
    """The middle of a node, in pixels; y grows downwards."""

    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Layout:
    """`positions` by node name, START and END included; `width` and `height` of the whole drawing."""

    positions: dict[str, Position]
    width: float
    height: float
    algorithm: str = ALGORITHM


def layout(spec: WorkflowSpec) -> Layout:
    """Places every node so that none overlaps another (nodes are `NODE_WIDTH` by `NODE_HEIGHT`)."""
    names = [node.name for node in drawn_nodes(spec)]
    edges = _acyclic(names, [(edge.source, edge.target) for edge in drawn_edges(spec)])
    layers = _layers(names, edges)
    rows, segments = _rows(names, edges, layers)
    _order(rows, segments)
    step_x, step_y = NODE_WIDTH + _GAP_X, NODE_HEIGHT + _GAP_Y
    width = max(len(row) for row in rows) * step_x
    positions: dict[str, Position] = {}
    for level, row in enumerate(rows):
        left = (width - len(row) * step_x) / 2
        for column, name in enumerate(row):
            if name in layers:
                positions[name] = Position(left + (column + 0.5) * step_x, (level + 0.5) * step_y)
    return Layout({name: positions[name] for name in names}, float(width), float(len(rows) * step_y))


def _acyclic(names: list[str], edges: Iterable[_Edge]) -> list[_Edge]:
    """The edges, those that lead back to an ancestor of the search turned round, loops and doubles left out."""
    ways: dict[str, list[str]] = {name: [] for name in names}
    for source, target in edges:
        if source != target and target not in ways[source]:
            ways[source].append(target)
    done: set[str] = set()
    active: list[str] = []
    result: dict[_Edge, None] = {}
    for root in names:
        stack = [(root, iter(ways[root]))] if root not in done else []
        active = [name for name, _ in stack]
        while stack:
            name, rest = stack[-1]
            target = next(rest, None)
            if target is None:
                done.add(name)
                stack.pop()
                active.pop()
            elif target in active:
                result[(target, name)] = None
            else:
                result[(name, target)] = None
                if target not in done:
                    stack.append((target, iter(ways[target])))
                    active.append(target)
    return list(result)


def _layers(names: list[str], edges: list[_Edge]) -> dict[str, int]:
    """The longest way to each node; START is above and END below everything else."""
    before: dict[str, int] = dict.fromkeys(names, 0)
    after: dict[str, list[str]] = {name: [] for name in names}
    for source, target in edges:
        before[target] += 1
        after[source].append(target)
    layers = {name: 0 if name == START else 1 for name in names}
    ready = [name for name in names if before[name] == 0]
    while ready:
        name = ready.pop(0)
        for target in after[name]:
            layers[target] = max(layers[target], layers[name] + 1)
            before[target] -= 1
            if before[target] == 0:
                ready.append(target)
    layers[END] = 1 + max((layer for name, layer in layers.items() if name != END), default=0)
    return layers


def _rows(names: list[str], edges: list[_Edge], layers: dict[str, int]) -> tuple[list[list[str]], list[_Edge]]:
    """The layers' nodes in file order, and the edges cut into parts of one layer each (with places for the cuts)."""
    rows: list[list[str]] = [[] for _ in range(max(layers.values()) + 1)]
    for name in names:
        rows[layers[name]].append(name)
    segments: list[_Edge] = []
    for number, (source, target) in enumerate(edges):
        above = source
        for level in range(layers[source] + 1, layers[target]):
            place = f":{number}:{level}"  # no node name has a colon
            rows[level].append(place)
            segments.append((above, place))
            above = place
        segments.append((above, target))
    return rows, segments


def _order(rows: list[list[str]], segments: list[_Edge]) -> None:
    """Reorders each row by the mean position of its neighbours in the row before it, to and fro."""
    above: dict[str, list[str]] = {}
    below: dict[str, list[str]] = {}
    for source, target in segments:
        above.setdefault(target, []).append(source)
        below.setdefault(source, []).append(target)
    for sweep in range(_SWEEPS):
        downwards = sweep % 2 == 0
        pairs = list(pairwise(rows)) if downwards else list(pairwise(reversed(rows)))
        neighbours = above if downwards else below
        for fixed, moved in pairs:
            _arrange(fixed, moved, neighbours)


def _arrange(fixed: list[str], moved: list[str], neighbours: dict[str, list[str]]) -> None:
    places = {name: index for index, name in enumerate(fixed)}
    means: dict[str, float] = {}
    for index, name in enumerate(moved):
        found = [places[other] for other in neighbours.get(name, ()) if other in places]
        means[name] = sum(found) / len(found) if found else float(index)
    moved.sort(key=means.__getitem__)  # stable: the same file gives the same drawing
