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
from modular_agent.engine.spec.report import Report, no_such
from modular_agent.errors import AgentError, Text

__all__ = ["check_model", "check_names"]


def check_names(spec: WorkflowSpec, report: Report, known: Known) -> None:
    """Adds a fault for every name that stands for nothing, and for every choice that is not made or made twice."""
    _Names(spec, report, known).check()


def check_model(path: KeyPath, model: ModelSpec, report: Report, known: Known) -> None:
    """Adds what is wrong with one model, but for the names of its fallbacks."""
    provider = model.provider
    if provider not in known.providers and not provider.startswith("langchain:"):
        where = (*path, "provider")
        text = no_such("provider", "提供方", report.shown(where, provider))
        report.add(where, "unknown_provider", text, suggestion=closest(provider, [*known.providers, "langchain:"]))
    elif provider == "scripted" and model.script is None:
        text = Text("a scripted model needs a script", "scripted 模型需要 script")
        report.add(path, "missing_key", text, key=True, missing="script")
    elif provider != "scripted" and model.model is None:
        shown = report.shown((*path, "provider"), provider)
        text = Text(
            f"a model of {shown} needs the provider's name of the model", f"{shown} 的模型需要给出提供方所用的模型名称"
        )
        report.add(path, "missing_key", text, missing="model")
    if provider != "scripted" and model.script is not None:
        text = Text("only a scripted model has a script", "只有 scripted 模型才有 script")
        report.add((*path, "script"), "unexpected_key", text, key=True)


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
                text = Text(f"{name!r} is a name of the engine's own", f"{name!r} 是引擎保留的名称")
                self._report.add(("nodes", name), "reserved_name", text, key=True)
        for path, node, item in nodes_and_bodies(self._spec):
            self._node(path, node)
            if isinstance(node, MapNode) and item is None and node.as_ in VARIABLES:
                text = Text(f"{node.as_!r} is a variable of every expression", f"{node.as_!r} 是所有表达式已有的变量")
                self._report.add((*path, "as"), "reserved_name", text)
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
                circle = " -> ".join(chain)
                text = Text(f"these models fall back on each other: {circle}", f"这些模型互为后备：{circle}")
                self._report.add(("models", start, "fallback"), "fallback_cycle", text)

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
            text = no_such("model", "模型", self._report.shown(path, name))
            suggestion = closest(name, (*self._models, *self._known.offered))
            self._report.add(path, "unknown_model", text, suggestion=suggestion)

    def _tool(self, path: KeyPath, tool: ToolSpec) -> None:
        given = [key for key in ("use", "ref", "mcp") if getattr(tool, key) is not None]
        if len(given) != 1:
            text = Text(
                f"a tool is exactly one of use, ref and mcp; this has {' and '.join(given) or 'none of them'}",
                f"工具须恰好给出 use、ref、mcp 之一；此处给出了 {'、'.join(given) or '零个'}",
            )
            self._report.add(path, "tool_source", text, key=True)
        if tool.options and tool.use is None:
            text = Text("only a built-in tool takes options", "只有内置工具才有 options")
            self._report.add((*path, "options"), "unexpected_key", text, key=True)
        builtin = self._known.builtin_tools
        if tool.use is not None and builtin is not None and tool.use not in builtin:
            where = (*path, "use")
            text = no_such("built-in tool", "内置工具", self._report.shown(where, tool.use))
            self._report.add(where, "unknown_builtin", text, suggestion=closest(tool.use, builtin))
        if tool.mcp is not None and (tool.mcp.command is None) == (tool.mcp.url is None):
            text = Text("an MCP server has exactly one of command and url", "MCP 服务器须恰好给出 command、url 之一")
            self._report.add((*path, "mcp"), "mcp_transport", text, key=True)
        if tool.ref is not None:
            self._reference((*path, "ref"), tool.ref)

    def _reference(self, path: KeyPath, reference: str) -> None:
        if self._known.references is None:
            return
        try:
            self._known.references.check(reference)
        except AgentError as error:
            suggestion: Any = getattr(error, "suggestion", None)
            self._report.add(path, error.code, error.text, suggestion=suggestion)

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
                text = Text("a wait has exactly one of duration and until", "wait 须恰好给出 duration、until 之一")
                self._report.add(path, "wait_time", text, key=True)
        elif isinstance(node, MapNode) and (node.node is None) == (node.workflow is None):
            text = Text("a map has exactly one of node and workflow", "map 须恰好给出 node、workflow 之一")
            self._report.add(path, "map_body", text, key=True)

    def _node_model(self, path: KeyPath, node: LlmNode | AgentNode | RouterNode) -> None:
        if node.model is not None:
            self._known_model((*path, "model"), node.model)
        elif isinstance(node, AgentNode) and node.agent is not None:
            return  # the agent says which
        elif len(self._models) > 1 and not (isinstance(node, RouterNode) and _asks_no_model(node)):
            known = ", ".join(self._models)
            text = Text(f"name the model: there are several ({known})", f"请指明模型：有多个（{known}）")
            self._report.add(path, "missing_model", text, missing="model")

    def _node_tools(self, path: KeyPath, tools: tuple[str, ...]) -> None:
        for index, name in enumerate(tools):
            where = (*path, "tools", index)
            if name not in self._tools:
                text = no_such("tool", "工具", self._report.shown(where, name))
                self._report.add(where, "unknown_tool", text, suggestion=closest(name, self._tools))
            elif name in tools[:index]:
                text = Text(f"the tool {name!r} is in the list twice", f"工具 {name!r} 在列表中出现了两次")
                self._report.add(where, "duplicate_name", text)

    def _router(self, path: KeyPath, node: RouterNode) -> None:
        if not node.choices and not node.rules:
            text = Text("a router needs choices (for a model) or rules", "router 需要 choices（供模型选择）或 rules")
            self._report.add(path, "missing_key", text, missing="choices")
        if not node.choices:
            return
        for where, choice in _chosen(path, node):
            if choice not in node.choices:
                text = no_such("choice", "选项", self._report.shown(where, choice))
                self._report.add(where, "unknown_choice", text, suggestion=closest(choice, node.choices))

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
                    text = no_such("node", "节点", self._report.shown(where, name))
                    self._report.add(where, "unknown_node", text, suggestion=closest(name, nodes))
            for call, name in enumerate(test.expect.tool_calls or ()):
                if known_tools is not None and name not in known_tools:
                    where = (*path, "expect", "tool_calls", call)
                    text = no_such("tool", "工具", self._report.shown(where, name))
                    self._report.add(where, "unknown_tool", text, suggestion=closest(name, known_tools))


def _asks_no_model(node: RouterNode) -> bool:
    return bool(node.rules) and (node.default is not None or not node.choices)


def _chosen(path: KeyPath, node: RouterNode) -> Iterator[tuple[KeyPath, str]]:
    for index, rule in enumerate(node.rules):
        yield (*path, "rules", index, "choose"), rule.choose
    if node.default is not None:
        yield (*path, "default"), node.default
