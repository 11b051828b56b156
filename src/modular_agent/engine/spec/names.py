"""The names in a workflow file: models, tools, Python code, and what must be given with what."""

from collections.abc import Iterator
from typing import Any

from modular_agent.engine.expressions import VARIABLES
from modular_agent.engine.place import KeyPath, closest
from modular_agent.engine.spec.files import nodes_and_bodies
from modular_agent.engine.spec.known import Known
from modular_agent.engine.spec.model import (
    END,
    START,
    AgentNode,
    FunctionNode,
    GraphNode,
    LlmNode,
    MapNode,
    ModelSpec,
    RouterNode,
    ToolSpec,
    WaitNode,
    WorkflowSpec,
)
from modular_agent.engine.spec.report import Report
from modular_agent.errors import AgentError

__all__ = ["check_model", "check_names"]


def check_names(spec: WorkflowSpec, report: Report, known: Known) -> None:
    """Adds a fault for every name that stands for nothing, and for every choice that is not made or made twice."""
    _Names(spec, report, known).check()


def check_model(path: KeyPath, model: ModelSpec, report: Report, known: Known) -> None:
    """Adds what is wrong with one model, but for the names of its fallbacks."""
    provider = model.provider
    if provider not in known.providers and not provider.startswith("langchain:"):
        where = (*path, "provider")
        message = f"there is no provider {report.shown(where, provider)!r}"
        report.add(where, "unknown_provider", message, suggestion=closest(provider, [*known.providers, "langchain:"]))
    elif provider == "scripted" and model.script is None:
        report.add(path, "missing_key", "a scripted model needs a script", key=True, missing="script")
    elif provider != "scripted" and model.model is None:
        message = f"a model of {report.shown((*path, 'provider'), provider)} needs the provider's name of the model"
        report.add(path, "missing_key", message, missing="model")
    if provider != "scripted" and model.script is not None:
        report.add((*path, "script"), "unexpected_key", "only a scripted model has a script", key=True)


class _Names:
    def __init__(self, spec: WorkflowSpec, report: Report, known: Known) -> None:
        self._spec = spec
        self._report = report
        self._known = known
        self._models = (*report.names("models"), *known.models)
        self._tools = report.names("tools")

    def check(self) -> None:
        for name, model in self._spec.models.items():
            self._model(("models", name), model)
        self._fallback_cycles()
        for name, tool in self._spec.tools.items():
            self._tool(("tools", name), tool)
        for name in self._spec.nodes:
            if name in (START, END) or name.startswith("__"):
                message = f"{name!r} is a name of the engine's own"
                self._report.add(("nodes", name), "reserved_name", message, key=True)
        for path, node, item in nodes_and_bodies(self._spec):
            self._node(path, node)
            if isinstance(node, MapNode) and item is None and node.as_ in VARIABLES:
                self._report.add((*path, "as"), "reserved_name", f"{node.as_!r} is a variable of every expression")
        self._tests()

    def _model(self, path: KeyPath, model: ModelSpec) -> None:
        check_model(path, model, self._report, self._known)
        for index, other in enumerate(model.fallback):
            self._known_model((*path, "fallback", index), other)

    def _fallback_cycles(self) -> None:
        reported: set[str] = set()
        for start in self._spec.models:
            chain = self._cycle_from(start)
            if chain and not reported & set(chain):
                reported |= set(chain)
                message = f"these models fall back on each other: {' -> '.join(chain)}"
                self._report.add(("models", start, "fallback"), "fallback_cycle", message)

    def _cycle_from(self, start: str) -> list[str]:
        stack = [(start, [start])]
        seen: set[str] = set()
        while stack:
            name, chain = stack.pop()
            for other in self._spec.models[name].fallback if name in self._spec.models else ():
                if other == start:
                    return [*chain, start]
                if other not in seen:
                    seen.add(other)
                    stack.append((other, [*chain, other]))
        return []

    def _known_model(self, path: KeyPath, name: str) -> None:
        if name not in self._models:
            message = f"there is no model {self._report.shown(path, name)!r}"
            suggestion = closest(name, (*self._models, *self._known.offered))
            self._report.add(path, "unknown_model", message, suggestion=suggestion)

    def _tool(self, path: KeyPath, tool: ToolSpec) -> None:
        given = [key for key in ("use", "ref", "mcp") if getattr(tool, key) is not None]
        if len(given) != 1:
            said = "none of them" if not given else " and ".join(given)
            message = f"a tool is exactly one of use, ref and mcp; this has {said}"
            self._report.add(path, "tool_source", message, key=True)
        if tool.options and tool.use is None:
            self._report.add((*path, "options"), "unexpected_key", "only a built-in tool takes options", key=True)
        builtin = self._known.builtin_tools
        if tool.use is not None and builtin is not None and tool.use not in builtin:
            where = (*path, "use")
            message = f"there is no built-in tool {self._report.shown(where, tool.use)!r}"
            self._report.add(where, "unknown_builtin", message, suggestion=closest(tool.use, builtin))
        if tool.mcp is not None and (tool.mcp.command is None) == (tool.mcp.url is None):
            message = "an MCP server has exactly one of command and url"
            self._report.add((*path, "mcp"), "mcp_transport", message, key=True)
        if tool.ref is not None:
            self._reference((*path, "ref"), tool.ref)

    def _reference(self, path: KeyPath, reference: str) -> None:
        if self._known.references is None:
            return
        try:
            self._known.references.check(reference)
        except AgentError as error:
            suggestion: Any = getattr(error, "suggestion", None)
            self._report.add(path, error.code, error.message(), suggestion=suggestion)

    def _node(self, path: KeyPath, node: Any) -> None:
        if isinstance(node, (LlmNode, AgentNode, RouterNode)):
            self._node_model(path, node)
        if isinstance(node, (LlmNode, AgentNode)):
            self._node_tools(path, node.tools)
        elif isinstance(node, RouterNode):
            self._router(path, node)
        elif isinstance(node, (FunctionNode, GraphNode)):
            self._reference((*path, "ref"), node.ref)
        elif isinstance(node, WaitNode):
            if (node.duration is None) == (node.until is None):
                self._report.add(path, "wait_time", "a wait has exactly one of duration and until", key=True)
        elif isinstance(node, MapNode) and (node.node is None) == (node.workflow is None):
            self._report.add(path, "map_body", "a map has exactly one of node and workflow", key=True)

    def _node_model(self, path: KeyPath, node: LlmNode | AgentNode | RouterNode) -> None:
        if node.model is not None:
            self._known_model((*path, "model"), node.model)
        elif isinstance(node, AgentNode) and node.agent is not None:
            return  # the agent says which
        elif len(self._models) > 1 and not (isinstance(node, RouterNode) and _asks_no_model(node)):
            message = f"name the model: there are several ({', '.join(self._models)})"
            self._report.add(path, "missing_model", message, missing="model")

    def _node_tools(self, path: KeyPath, tools: tuple[str, ...]) -> None:
        for index, name in enumerate(tools):
            where = (*path, "tools", index)
            if name not in self._tools:
                message = f"there is no tool {self._report.shown(where, name)!r}"
                self._report.add(where, "unknown_tool", message, suggestion=closest(name, self._tools))
            elif name in tools[:index]:
                self._report.add(where, "duplicate_name", f"the tool {name!r} is in the list twice")

    def _router(self, path: KeyPath, node: RouterNode) -> None:
        if not node.choices and not node.rules:
            message = "a router needs choices (for a model) or rules"
            self._report.add(path, "missing_key", message, missing="choices")
        if not node.choices:
            return
        for where, choice in _chosen(path, node):
            if choice not in node.choices:
                message = f"there is no choice {self._report.shown(where, choice)!r}"
                self._report.add(where, "unknown_choice", message, suggestion=closest(choice, node.choices))

    def _tests(self) -> None:
        nodes = self._report.names("nodes")
        known_tools = None if any(tool.mcp for tool in self._spec.tools.values()) else self._tools
        for index, test in enumerate(self._spec.tests):
            path: KeyPath = ("tests", index)
            if test.model is not None:
                self._known_model((*path, "model"), test.model)
            for step, name in enumerate(test.expect.path or ()):
                if name not in nodes:
                    where = (*path, "expect", "path", step)
                    message = f"there is no node {self._report.shown(where, name)!r}"
                    self._report.add(where, "unknown_node", message, suggestion=closest(name, nodes))
            for call, name in enumerate(test.expect.tool_calls or ()):
                if known_tools is not None and name not in known_tools:
                    where = (*path, "expect", "tool_calls", call)
                    message = f"there is no tool {self._report.shown(where, name)!r}"
                    self._report.add(where, "unknown_tool", message, suggestion=closest(name, known_tools))


def _asks_no_model(node: RouterNode) -> bool:
    return bool(node.rules) and (node.default is not None or not node.choices)


def _chosen(path: KeyPath, node: RouterNode) -> Iterator[tuple[KeyPath, str]]:
    for index, rule in enumerate(node.rules):
        yield (*path, "rules", index, "choose"), rule.choose
    if node.default is not None:
        yield (*path, "default"), node.default
