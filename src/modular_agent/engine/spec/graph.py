"""The graph of a workflow: whether every edge leads somewhere, every node is reached, and every run can end.

A node that no edge leads out of is an end, as if an edge led from it to END.
"""

from collections.abc import Iterable, Mapping

from modular_agent.engine.place import KeyPath, closest
from modular_agent.engine.spec.model import (
    END,
    START,
    AgentNode,
    EdgeSpec,
    LlmNode,
    RouterNode,
    ToolsNode,
    WorkflowSpec,
)
from modular_agent.engine.spec.report import Report, no_such
from modular_agent.errors import Text

__all__ = ["check_graph", "cycles"]


def check_graph(spec: WorkflowSpec, report: Report, *, whole: bool) -> None:
    """Adds the graph's faults; with `whole` False (parts of the file could not be read) only those of single edges."""
    graph = _Graph(spec, report)
    graph.check_edges()
    if whole:
        graph.check_ways()


def cycles(ways: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """The strongly connected parts of more than one node, or of one that leads to itself, in the order of `ways`.

    Tarjan's algorithm, without recursion (R. Tarjan, Depth-first search and linear graph algorithms, 1972).
    """
    order = {name: position for position, name in enumerate(ways)}
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    open_nodes: list[str] = []
    found: list[list[str]] = []
    for root in ways:
        work = [(root, iter(tuple(ways[root])))] if root not in index else []
        while work:
            name, rest = work[-1]
            if name not in index:
                index[name] = low[name] = len(index)
                open_nodes.append(name)
            for other in rest:
                if other not in ways:
                    continue
                if other not in index:
                    work.append((other, iter(tuple(ways[other]))))
                    break
                if other in open_nodes:
                    low[name] = min(low[name], index[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[name])
                if low[name] == index[name]:
                    at = open_nodes.index(name)
                    part, open_nodes[at:] = open_nodes[at:], []
                    if len(part) > 1 or name in ways[name]:
                        found.append(sorted(part, key=order.__getitem__))
    return sorted(found, key=lambda part: order[part[0]])


class _Graph:
    def __init__(self, spec: WorkflowSpec, report: Report) -> None:
        self._spec = spec
        self._report = report
        self._names = report.names("nodes")
        self._edges = [edge for edge in spec.edges if self._usable(edge)]
        self._out: dict[str, list[EdgeSpec]] = {name: [] for name in (START, *spec.nodes)}
        for edge in self._edges:
            self._out.setdefault(edge.from_, []).append(edge)

    def check_edges(self) -> None:
        """Each edge for itself, and those of one node together."""
        seen: dict[tuple[str, str, str | None], int] = {}
        otherwise: dict[str, int] = {}
        conditional = {edge.from_ for edge in self._spec.edges if edge.when is not None}
        for index, edge in enumerate(self._spec.edges):
            self._check_ends(("edges", index), edge)
            first = seen.setdefault((edge.from_, edge.to, edge.when), index)
            if first != index:
                text = Text("this edge is in the file already", "文件中已有这条边")
                self._report.add(("edges", index), "duplicate_edge", text)
            elif edge.when is None and edge.from_ in conditional and otherwise.setdefault(edge.from_, index) != index:
                text = Text(
                    f"{edge.from_} has edges with `when`, so only one edge without may follow: it means otherwise, "
                    "and this is the second",
                    f"{edge.from_} 有带 `when` 的边，因此只能再有一条不带的边（表示“否则”），而这是第二条",
                )
                self._report.add(("edges", index), "ambiguous_otherwise", text)

    def check_ways(self) -> None:
        """Whether everything is reached and can end."""
        if not any(edge.from_ == START for edge in self._spec.edges):
            text = Text(
                "no edge leads from START: add {from: START, to: ...}",
                "没有从 START 出发的边：请加上 {from: START, to: ...}",
            )
            self._report.add(("edges",), "no_start", text, key=True)
        elif len(self._edges) == len(self._spec.edges):
            reached = _reach((START,), {name: [edge.to for edge in out] for name, out in self._out.items()})
            for name in self._spec.nodes:
                if name not in reached:
                    text = Text(f"no way leads from START to {name}", f"从 START 无法到达 {name}")
                    self._report.add(("nodes", name), "unreachable_node", text, key=True)
        if len(self._edges) == len(self._spec.edges):
            self._check_endings()
        self._check_callers()

    def _usable(self, edge: EdgeSpec) -> bool:
        return edge.from_ in (START, *self._names) and edge.to in (END, *self._names)

    def _check_ends(self, path: KeyPath, edge: EdgeSpec) -> None:
        if edge.from_ == END:
            self._report.add((*path, "from"), "edge_from_end", Text("nothing leads out of END", "没有从 END 出发的边"))
        elif edge.from_ not in (START, *self._names):
            self._nowhere((*path, "from"), "edge_from_nowhere", edge.from_, (START, *self._names))
        if edge.to == START:
            text = Text("nothing leads to START: name the first node", "没有通向 START 的边：请写第一个节点的名称")
            self._report.add((*path, "to"), "edge_to_start", text)
        elif edge.to not in (END, *self._names):
            self._nowhere((*path, "to"), "edge_to_nowhere", edge.to, (END, *self._names))

    def _nowhere(self, path: KeyPath, code: str, name: str, known: tuple[str, ...]) -> None:
        text = no_such("node", "节点", self._report.shown(path, name))
        self._report.add(path, code, text, suggestion=closest(name, known))

    def _check_endings(self) -> None:
        ways = {name: [edge.to for edge in self._out[name]] for name in self._spec.nodes}
        always = {name: to if all(e.when is None for e in self._out[name]) else [] for name, to in ways.items()}
        reported: set[str] = set()
        closed = [part for part in cycles(ways) if all(to in part for name in part for to in ways[name])]
        for part in (*cycles(always), *closed):
            if reported & set(part) or self._ends_by_limit(part):
                continue
            reported |= set(part)
            circle = " -> ".join([*part, part[0]])
            text = Text(
                f"{circle} never ends: add an edge with `when` that leads out of it, or limits.max_steps",
                f"{circle} 永不结束：请加上一条带 `when` 的离开它的边，或 limits.max_steps",
            )
            self._report.add(("nodes", part[0]), "endless_cycle", text, key=True)

    def _ends_by_limit(self, part: list[str]) -> bool:
        limits = self._spec.limits
        if limits.max_steps is not None or limits.max_seconds is not None:
            return True
        asks = any(isinstance(self._spec.nodes[name], (LlmNode, AgentNode)) for name in part)
        asks = asks or any(isinstance(node := self._spec.nodes[name], RouterNode) and not node.rules for name in part)
        return asks and any((limits.max_iterations, limits.max_tokens, limits.max_cost_usd))

    def _check_callers(self) -> None:
        back: dict[str, list[str]] = {name: [] for name in self._spec.nodes}
        for edge in self._edges:
            if edge.to in back:
                back[edge.to].append(edge.from_)
        for name, node in self._spec.nodes.items():
            if not isinstance(node, ToolsNode):
                continue
            before = [self._spec.nodes.get(other) for other in _reach((name,), back) if other != name]
            if not any(isinstance(other, LlmNode) and other.tools for other in before):
                text = Text(
                    f"no node with `tools` leads to {name}, so there are no tool calls for it to run",
                    f"没有带 `tools` 的节点通向 {name}，因此没有可供其执行的工具调用",
                )
                self._report.add(("nodes", name), "tools_without_caller", text, key=True)


def _reach(start: Iterable[str], ways: Mapping[str, Iterable[str]]) -> set[str]:
    found = set(start)
    waiting = list(found)
    while waiting:
        for other in ways.get(waiting.pop(), ()):
            if other not in found:
                found.add(other)
                waiting.append(other)
    return found
