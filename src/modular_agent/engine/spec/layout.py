"""Positions for drawing a workflow: in layers from START down to END, the same for the same file.

The layered method of Sugiyama, Tagawa and Toda (1981): edges that close a cycle are turned round, each node gets the
layer of its longest way from START, long edges get a place in every layer they cross, and the order within the layers
is improved by the mean position of the neighbours, down and up. An edge goes straight down through its places and bends
between the layers only, where no node is, so that it crosses none; one that leads back goes up beside the others.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final

from modular_agent.engine.spec.drawing import drawn_edges, drawn_nodes
from modular_agent.engine.spec.model import END, START, WorkflowSpec
from modular_agent.kit.dataclass import dataclass

__all__ = ["ALGORITHM", "NODE_HEIGHT", "NODE_WIDTH", "Layout", "Position", "layout"]

ALGORITHM: Final = "layered"
NODE_WIDTH: Final = 180
NODE_HEIGHT: Final = 60
_BACK_X: Final = NODE_WIDTH / 4  # how far beside the middle an edge goes up
_GAP_X: Final = 60
_GAP_Y: Final = 60
_SWEEPS: Final = 8

_Edge = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Position:
    """The middle of a node, or a bend of an edge, in pixels; y grows downwards."""

    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Layout:
    """`positions` by node name, START and END included; `width` and `height` of the whole drawing.

    `routes` has the points of each edge by its ends, from the one to the other; `back` those that lead back.
    """

    positions: dict[str, Position]
    routes: dict[tuple[str, str], tuple[Position, ...]]
    back: frozenset[tuple[str, str]]
    width: float
    height: float
    algorithm: str = ALGORITHM


def layout(spec: WorkflowSpec) -> Layout:
    """Places every node so that none overlaps another (nodes are `NODE_WIDTH` by `NODE_HEIGHT`)."""
    names = [node.name for node in drawn_nodes(spec)]
    drawn = [(edge.source, edge.target) for edge in drawn_edges(spec)]
    edges = _acyclic(names, drawn)
    layers = _layers(names, edges)
    rows, ways = _rows(names, edges, layers)
    _order(rows, [segment for way in ways.values() for segment in pairwise(way)])
    step_x, step_y = NODE_WIDTH + _GAP_X, NODE_HEIGHT + _GAP_Y
    width = max(len(row) for row in rows) * step_x
    places: dict[str, Position] = {}
    for level, row in enumerate(rows):
        left = (width - len(row) * step_x) / 2
        for column, name in enumerate(row):
            places[name] = Position(left + (column + 0.5) * step_x, (level + 0.5) * step_y)
    return Layout(
        positions={name: places[name] for name in names},
        routes={edge: tuple(_route(edge, ways, places)) for edge in drawn},
        back=frozenset(edge for edge in drawn if edge not in ways),
        width=float(width),
        height=float(len(rows) * step_y),
    )


def _route(edge: _Edge, ways: dict[_Edge, list[str]], places: dict[str, Position]) -> Iterator[Position]:
    """The points of an edge: down from node to node, up beside that if it leads back, out and in at a loop."""
    source, target = edge
    half = NODE_HEIGHT / 2
    if source == target:
        at, right = places[source], places[source].x + NODE_WIDTH / 2
        for x, y in ((right, -half / 2), (right + _GAP_X / 2, -half / 2), (right + _GAP_X / 2, half / 2)):
            yield Position(x, at.y + y)
        yield Position(right, at.y + half / 2)
        return
    down = edge in ways
    way = ways[edge] if down else ways[target, source][::-1]
    shift, step = (0.0, half) if down else (_BACK_X, -half)
    for number, name in enumerate(way):
        at = places[name]
        if number > 0:
            yield Position(at.x + shift, at.y - step)
        if number < len(way) - 1:
            yield Position(at.x + shift, at.y + step)


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


def _rows(
    names: list[str], edges: list[_Edge], layers: dict[str, int]
) -> tuple[list[list[str]], dict[_Edge, list[str]]]:
    """The layers' nodes in file order, and each edge's way: its ends, and between them a place in every layer."""
    rows: list[list[str]] = [[] for _ in range(max(layers.values()) + 1)]
    for name in names:
        rows[layers[name]].append(name)
    ways: dict[_Edge, list[str]] = {}
    for number, (source, target) in enumerate(edges):
        levels = range(layers[source] + 1, layers[target])
        places = [f":{number}:{level}" for level in levels]  # no node name has a colon
        for level, place in zip(levels, places, strict=True):
            rows[level].append(place)
        ways[source, target] = [source, *places, target]
    return rows, ways


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
