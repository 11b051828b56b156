"""What each kind of node does, built from what the file says of it."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from modular_agent.engine.expressions import Condition, Expression
from modular_agent.engine.models import ModelDirectory
from modular_agent.engine.nodes.agent import AgentTurn
from modular_agent.engine.nodes.function import function
from modular_agent.engine.nodes.graph import UserGraph
from modular_agent.engine.nodes.human import human
from modular_agent.engine.nodes.llm import Llm
from modular_agent.engine.nodes.map import RESULT
from modular_agent.engine.nodes.router import DEFAULT_KEY, Router, choice_schema
from modular_agent.engine.nodes.tool_calls import Approval, ToolCalls
from modular_agent.engine.nodes.visit import Body
from modular_agent.engine.nodes.wait import parse_time, wait
from modular_agent.engine.nodes.workflow import Graph, SubWorkflow
from modular_agent.engine.prompts import Prompt, PromptSet
from modular_agent.engine.providers.port import ToolSchema
from modular_agent.engine.spec.code import is_time
from modular_agent.engine.spec.loader import LoadedWorkflow
from modular_agent.engine.spec.model import (
    AgentNode,
    FunctionNode,
    GraphNode,
    HumanNode,
    LlmNode,
    MapNode,
    NodeSpec,
    RetrySpec,
    RouterNode,
    ToolsNode,
    WaitNode,
    WorkflowNode,
)
from modular_agent.engine.tools.port import Tool
from modular_agent.engine.tools.registry import ToolBox
from modular_agent.kit.dataclass import dataclass

__all__ = ["NodeBodies"]

_ONCE: Final = RetrySpec(max_attempts=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeBodies:
    """Builds the bodies of one workflow's nodes.

    `tool_set` has the tools by the name of their entry in the file, `children` the compiled graphs of sub-workflows
    (and of agents inside a `map`), by file name or node path.
    """

    workflow: LoadedWorkflow
    models: ModelDirectory
    toolbox: ToolBox
    tool_set: Mapping[str, Sequence[Tool]]
    children: Mapping[str, Graph]

    def body(self, name: str, node: NodeSpec) -> Body:
        """The body of node `name`; of a `map`, what runs for each item."""
        path = f"nodes.{name}"
        if isinstance(node, MapNode):
            return self._map_body(path, node)
        return self._body(name, node, path, item=None)

    def _map_body(self, path: str, node: MapNode) -> Body:
        if node.workflow is not None:
            graph = self.children[node.workflow]
            return SubWorkflow(graph=graph, inputs=None, outputs=None, writes=RESULT, item=node.as_)
        assert node.node is not None  # checked by the loader
        return self._body(path, node.node, f"{path}.node", item=node.as_)

    def _body(self, name: str, node: NodeSpec, path: str, *, item: str | None) -> Body:
        writes = RESULT if item is not None else node.writes
        match node:
            case LlmNode():
                body: Body = self._llm(node, tools=node.tools, output=node.output, writes=writes, item=item)
            case AgentNode():
                body = self._agent(name, node, path, writes, item)
            case ToolsNode():
                body = self.tools(None, node.retry or _ONCE)
            case RouterNode():
                body = self._router(node, path, writes or DEFAULT_KEY, item)
            case FunctionNode():
                body = function(self.toolbox.function(node.ref), self._inputs(path, node.input), writes=writes)
            case HumanNode():
                body = human(node, self._prompt(node.question), writes=writes)
            case _:
                body = self._other(node, path, writes=writes, item=item)
        return body

    def _agent(self, name: str, node: AgentNode, path: str, writes: str | None, item: str | None) -> Body:
        question = self._prompt(node.input) if node.input else None
        if item is not None:
            graph = self.children[path]
            return SubWorkflow(graph=graph, inputs=None, outputs=None, writes=RESULT, item=item, question=question)
        llm = self._llm(node, tools=node.tools, output=None, writes=None, item=None, asks=False)
        return AgentTurn(name=name, llm=llm, question=question, max_iterations=node.max_iterations, writes=writes)

    def _other(self, node: NodeSpec, path: str, *, writes: str | None, item: str | None) -> Body:
        if isinstance(node, WorkflowNode):
            return SubWorkflow(
                graph=self.children[node.workflow],
                inputs=self._inputs(path, node.input),
                outputs=self._expressions(f"{path}.output", node.output),
                writes=writes,
                item=item,
            )
        if isinstance(node, GraphNode):
            return UserGraph(
                reference=node.ref,
                load=lambda: self.toolbox.references.load(node.ref),
                inputs=self._inputs(path, node.input),
                outputs=self._expressions(f"{path}.output", node.output),
                writes=writes,
                item=item,
            )
        assert isinstance(node, WaitNode)
        return wait(node, self._until(node, path))

    def tools(self, names: Sequence[str] | None, retry: RetrySpec) -> ToolCalls:
        """The body that runs the calls of a model that was told of the entries `names` (None: all of the file)."""
        entries = self.workflow.spec.tools if names is None else names
        tools: dict[str, Tool] = {}
        approvals: dict[str, Approval] = {}
        for entry in entries:
            for tool in self.tool_set[entry]:
                tools[tool.schema.name] = tool
                approvals[tool.schema.name] = self._approval(entry)
        return ToolCalls(tools=tools, approvals=approvals, retry=retry)

    def _approval(self, entry: str) -> Approval:
        approval = self.workflow.spec.tools[entry].approval
        if approval in {"always", "never"}:
            return cast("Approval", approval)
        return cast("Condition", self.workflow.expressions[f"tools.{entry}.approval"])

    def _llm(
        self,
        node: LlmNode | AgentNode | RouterNode,
        *,
        tools: Sequence[str],
        output: Mapping[str, Any] | None,
        writes: str | None,
        item: str | None,
        asks: bool = True,
    ) -> Llm:
        parameters = {**node.parameters}
        parameters |= {key: v for key in ("temperature", "max_tokens") if (v := getattr(node, key)) is not None}
        question = self._prompt(node.input) if asks and node.input else None
        if question is None and item is not None:
            question = PromptSet(lambda _: None).prompt(f"{{{{ {item} if {item} is string else {item} | tojson }}}}")
        return Llm(
            models=self.models,
            model=node.model,
            prompt=self._prompt(node.prompt) if node.prompt else None,
            question=question,
            schemas=self._schemas(tools),
            parameters=parameters,
            output=output,
            writes=writes,
        )

    def _schemas(self, entries: Sequence[str]) -> list[ToolSchema]:
        return [tool.schema for entry in entries for tool in self.tool_set[entry]]

    def _router(self, node: RouterNode, path: str, writes: str, item: str | None) -> Router:
        expressions = self.workflow.expressions
        rules = [
            (cast("Condition", expressions[f"{path}.rules[{i}].when"]), rule.choose)
            for i, rule in enumerate(node.rules)
        ]
        known = {*node.choices, *(choice for _, choice in rules), *([node.default] if node.default else [])}
        asks = bool(node.choices) and (node.model is not None or node.prompt is not None or not node.rules)
        llm = self._llm(node, tools=(), output=choice_schema(node.choices), writes=None, item=item) if asks else None
        return Router(rules=rules, choices=frozenset(known), default=node.default, llm=llm, writes=writes)

    def _prompt(self, written: str) -> Prompt:
        return self.workflow.templates[written]

    def _inputs(self, path: str, inputs: Mapping[str, str] | None) -> dict[str, Expression] | None:
        return self._expressions(f"{path}.input", inputs)

    def _expressions(self, path: str, written: Mapping[str, str] | None) -> dict[str, Expression] | None:
        if written is None:
            return None
        return {key: self.workflow.expressions[f"{path}.{key}"] for key in written}

    def _until(self, node: WaitNode, path: str) -> Expression | int | None:
        if node.until is None:
            return None
        return parse_time(node.until) if is_time(node.until) else self.workflow.expressions[f"{path}.until"]
