"""From a checked workflow to a LangGraph graph.

An `agent` becomes two nodes and a `map` three, a `tools` node with conditions behind it gets a hidden join; a hidden
`.route` node stands by for conditions that fail, because a routing function must never raise.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send

from modular_agent.engine.context import RunContext
from modular_agent.engine.errors import NoRoute
from modular_agent.engine.expressions import Condition, ExpressionFailed
from modular_agent.engine.node_bodies import NodeBodies
from modular_agent.engine.nodes.agent import count_key
from modular_agent.engine.nodes.conversation import open_tool_calls
from modular_agent.engine.nodes.map import MapItem, MapJoin, MapList, items_key, results_key, sends
from modular_agent.engine.nodes.reading import with_standard_keys
from modular_agent.engine.nodes.result_cache import ResultCache
from modular_agent.engine.nodes.step import Step, StepPolicy
from modular_agent.engine.nodes.visit import SENT, Body, Updates, Visit
from modular_agent.engine.nodes.workflow import Graph, SubWorkflow
from modular_agent.engine.sequence import Decision, slim
from modular_agent.engine.spec.loader import LoadedWorkflow
from modular_agent.engine.spec.model import (
    AgentNode,
    EdgeSpec,
    FunctionNode,
    GraphNode,
    MapNode,
    NodeSpec,
    RetrySpec,
    ToolsNode,
)
from modular_agent.engine.state import StateShape, opened

__all__ = ["Compiler"]

Targets = list[str | Send]
_ONCE: Final = RetrySpec(max_attempts=1)


@dataclass(slots=True)
class Compiler:
    """Builds the graph of one workflow. `shape` is its state's."""

    workflow: LoadedWorkflow
    bodies: NodeBodies
    shape: StateShape = field(init=False)
    graph: Any = field(init=False)  # a StateGraph: its overloads are only partly typed

    def __post_init__(self) -> None:
        hidden: dict[str, str] = {}
        for name, node in self.workflow.spec.nodes.items():
            if isinstance(node, AgentNode):
                hidden[count_key(name)] = "replace"
            elif isinstance(node, MapNode):
                hidden |= {items_key(name): "replace", results_key(name): "add", node.writes or name: "replace"}
        self.shape = StateShape(self.workflow, hidden=hidden)
        self.graph = StateGraph(self.shape.schema(), context_schema=RunContext)

    def compile(self, checkpointer: Any) -> Graph:
        """The graph; `checkpointer` is None for one that runs inside another."""
        for name, node in self.workflow.spec.nodes.items():
            self._add_node(name, node)
        for source in [START, *self.workflow.spec.nodes]:
            self._add_edges(source)
        graph = self.graph.compile(checkpointer=checkpointer, name=self.workflow.spec.name)
        slim(graph)
        return graph

    # -- nodes -------------------------------------------------------------------------------------------------

    def _add_node(self, name: str, node: NodeSpec) -> None:
        body = self.bodies.body(name, node)
        if isinstance(node, MapNode):
            over = self.workflow.expressions[f"nodes.{name}.over"]
            self._add_step(name, MapList(name, over), node)
            self._add_step(f"{name}.item", MapItem(name, body), node, visible=False, slots=node.max_parallel)
            self._add_step(f"{name}.join", MapJoin(name, node.writes or name), None, logged=False)
            targets = Decision(self._map_targets(name, node.as_))
            self.graph.add_conditional_edges(name, targets, [f"{name}.item", f"{name}.join"])
            self.graph.add_edge(f"{name}.item", f"{name}.join")
        elif isinstance(node, AgentNode):
            self._add_step(name, body, node)
            tools = self.bodies.tools(node.tools, node.retry or _ONCE)
            self._add_step(f"{name}.tools", tools, None, visible=False, slots=node.max_parallel)
            self.graph.add_edge(f"{name}.tools", name)
        elif isinstance(node, ToolsNode):
            self._add_step(name, body, node, slots=node.max_parallel, retry=_ONCE)  # each call retries by itself
            if self._exit(name) != name:
                self._add_step(self._exit(name), _nothing, None, logged=False)
        else:
            self._add_step(name, body, node)

    def _add_step(
        self,
        name: str,
        body: Body,
        node: NodeSpec | None,
        *,
        visible: bool = True,
        logged: bool = True,
        slots: int | None = None,
        retry: RetrySpec | None = None,
    ) -> None:
        policy = StepPolicy(
            shape=self.shape,
            retry=retry or (node.retry if node else None) or _ONCE,
            timeout=node.timeout if node else None,
            cache=ResultCache(ttl=node.cache.ttl) if node and node.cache else None,
            slots=slots,
            visible=visible,
            loop_key=count_key(name) if isinstance(node, AgentNode) else None,
            logged=logged,
            has_effects=isinstance(node, FunctionNode | GraphNode | MapNode),
            leaf=not isinstance(body.body if isinstance(body, MapItem) else body, SubWorkflow),
        )
        self.graph.add_node(name, Step(name, body, policy).node())

    def _exit(self, name: str) -> str:
        """The compiled node that a node's edges leave from."""
        node = self.workflow.spec.nodes.get(name)
        if isinstance(node, MapNode):
            return f"{name}.join"
        if isinstance(node, ToolsNode) and self._is_conditional(name):
            return f"{name}.join"
        return name

    # -- edges -------------------------------------------------------------------------------------------------

    def _edges(self, source: str) -> list[tuple[int, EdgeSpec]]:
        found = [(i, edge) for i, edge in enumerate(self.workflow.spec.edges) if edge.from_ == _spec_name(source)]
        return sorted(found, key=lambda each: each[1].when is None)  # "otherwise" comes last; the sort is stable

    def _is_conditional(self, source: str) -> bool:
        """Whether where a node leads to is decided when it has ended."""
        edges = [edge for _, edge in self._edges(source)]
        nodes = self.workflow.spec.nodes
        return any(edge.when is not None or isinstance(nodes.get(edge.to), ToolsNode) for edge in edges)

    def _add_edges(self, source: str) -> None:
        exit_node = self._exit(source)
        is_agent = isinstance(self.workflow.spec.nodes.get(source), AgentNode)
        if not (self._is_conditional(source) or is_agent):
            for _, edge in self._edges(source):
                self.graph.add_edge(exit_node, _graph_name(edge.to))
            return
        decide = self._agent_targets(source) if is_agent else self._targets(source)
        rescue = f"{_spec_name(source)}.route"
        ends = [_graph_name(edge.to) for _, edge in self._edges(source)]
        self.graph.add_node(rescue, Step(_spec_name(source), _rerouted(decide), self._hidden_policy()).node())

        def route(state: dict[str, Any], context: RunContext) -> Targets:
            try:
                return decide(state, context)
            except (ExpressionFailed, NoRoute):
                return [rescue]  # evaluates it again, and fails as a node can

        more = [f"{source}.tools"] if is_agent else []
        self.graph.add_conditional_edges(exit_node, Decision(route), [*ends, *more, rescue])

    def _hidden_policy(self) -> StepPolicy:
        return StepPolicy(shape=self.shape, visible=False, logged=False)

    def _targets(self, source: str) -> Callable[[Mapping[str, Any], RunContext], Targets]:
        """The function that decides where to go on from `source`; raises what a condition raises."""
        edges = self._edges(source)
        expressions = self.workflow.expressions
        choices = [
            (cast("Condition", expressions[f"edges[{i}].when"]) if edge.when else None, edge.to) for i, edge in edges
        ]
        fans_out = all(condition is None for condition, _ in choices)

        def decide(state: Mapping[str, Any], context: RunContext) -> Targets:
            state = opened(state)
            if fans_out:
                return [target for _, to in choices for target in self._entry(to, state)]
            for condition, to in choices:
                if condition is None or condition.evaluate(with_standard_keys(state, context, condition.state_keys)):
                    return self._entry(to, state)
            raise NoRoute(node=source)

        return decide

    def _agent_targets(self, name: str) -> Callable[[Mapping[str, Any], RunContext], Targets]:
        outside = self._targets(name)

        def decide(state: Mapping[str, Any], context: RunContext) -> Targets:
            calls = open_tool_calls(state)
            return _sends(f"{name}.tools", calls) if calls else outside(state, context)

        return decide

    def _map_targets(self, name: str, as_name: str) -> Callable[[dict[str, Any], RunContext], Targets]:
        def decide(state: dict[str, Any], _: RunContext) -> Targets:
            items = sends(name, as_name, state)
            return [Send(f"{name}.item", {SENT: item}) for item in items] or [f"{name}.join"]

        return decide

    def _entry(self, to: str, state: Mapping[str, Any]) -> Targets:
        """What to start for an edge to `to`: for a `tools` node a task for each call."""
        if isinstance(self.workflow.spec.nodes.get(to), ToolsNode):
            return _sends(to, open_tool_calls(state)) or [Send(to, {SENT: {}})]
        return [_graph_name(to)]


def _sends(node: str, calls: Sequence[Any]) -> Targets:
    return [Send(node, {SENT: {"call": call, "index": i}}) for i, call in enumerate(calls)]


def _graph_name(name: str) -> str:
    return {"END": END, "START": START}.get(name, name)


def _spec_name(name: str) -> str:
    return "START" if name == START else name


async def _nothing(visit: Visit) -> Updates:
    return {}


def _rerouted(decide: Callable[[Mapping[str, Any], RunContext], Targets]) -> Any:
    async def body(visit: Visit) -> Command[Any]:
        return Command(goto=decide(visit.state, visit.context))

    return body
