"""Workflow versions made ready to run, each once."""

import asyncio
import dataclasses
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from modular_agent.engine.checkpoints import Saver
from modular_agent.engine.compiler import Compiler
from modular_agent.engine.graph_plan import GraphPlan
from modular_agent.engine.models import ConfiguredModels, ModelDirectory
from modular_agent.engine.node_bodies import NodeBodies
from modular_agent.engine.nodes.workflow import Graph
from modular_agent.engine.providers.registry import ModelFactory
from modular_agent.engine.spec.loader import LoadedWorkflow
from modular_agent.engine.spec.model import AgentNode, EdgeSpec, MapNode, StateSpec, ToolSpec
from modular_agent.engine.tools.config import McpConfig, ToolConfig
from modular_agent.engine.tools.port import Effect, Tool
from modular_agent.engine.tools.registry import ToolBox
from modular_agent.engine.workflow import Workflow

__all__ = ["WorkflowRegistry"]

KEPT_VERSIONS: Final = 256
_ALONE: Final = ({"from": "START", "to": "agent"}, {"from": "agent", "to": "END"})


class WorkflowRegistry:
    """Compiles workflow versions on first use and keeps the newest ones.

    Compiling connects to the MCP servers that a workflow names and inspects its Python tools, so it can fail with
    `InvalidInput` for what the file alone does not show.
    """

    def __init__(
        self, *, saver: Saver, factory: ModelFactory, toolbox: ToolBox, configured: ConfiguredModels | None = None
    ) -> None:
        self._configured = configured
        self._saver = saver
        self._factory = factory
        self._toolbox = toolbox
        self._ready: OrderedDict[str, asyncio.Task[Workflow]] = OrderedDict()

    async def workflow(self, loaded: LoadedWorkflow) -> Workflow:
        """The compiled workflow of a version. Raises `InvalidInput`."""
        task = self._ready.get(loaded.content_hash)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = asyncio.create_task(self._compile(loaded), name=f"compile {loaded.spec.name}")
            self._ready[loaded.content_hash] = task
            if len(self._ready) > KEPT_VERSIONS:
                self._ready.popitem(last=False)
        self._ready.move_to_end(loaded.content_hash)
        return await asyncio.shield(task)

    async def prepare(self) -> None:
        """Makes ready what the first runs will need, and what a server that only starts need not wait for."""
        self._toolbox.prepare()
        await asyncio.to_thread(self._factory.prepare)

    def ready(self, content_hash: str) -> Workflow | None:
        """The compiled workflow of a version that was used before, without waiting."""
        task = self._ready.get(content_hash)
        if task is None or not task.done() or task.cancelled() or task.exception() is not None:
            return None
        return task.result()

    async def _compile(self, loaded: LoadedWorkflow) -> Workflow:
        compiler = await self._compiler(loaded)
        return Workflow(loaded=loaded, plan=GraphPlan(compiler.compile(self._saver)), shape=compiler.shape)

    async def _compiler(self, loaded: LoadedWorkflow) -> Compiler:
        models = ModelDirectory(loaded, self._factory, self._configured)
        tool_set = await self._toolbox.build([_tool_config(name, spec) for name, spec in loaded.spec.tools.items()])
        children: dict[str, Graph] = {}
        for path, child in loaded.children.items():
            children[path] = (await self._compiler(child)).compile(None)
        for path, agent in _agents_in_maps(loaded):
            alone = _alone(loaded, agent)
            bodies = self._bodies(alone, models, tool_set, {})
            children[path] = Compiler(alone, bodies).compile(None)
        return Compiler(loaded, self._bodies(loaded, models, tool_set, children))

    def _bodies(
        self,
        loaded: LoadedWorkflow,
        models: ModelDirectory,
        tool_set: Mapping[str, Sequence[Tool]],
        children: Mapping[str, Graph],
    ) -> NodeBodies:
        return NodeBodies(workflow=loaded, models=models, toolbox=self._toolbox, tool_set=tool_set, children=children)


def _agents_in_maps(loaded: LoadedWorkflow) -> list[tuple[str, AgentNode]]:
    """The agents that are bodies of a `map`: their loops run in a graph of their own."""
    return [
        (f"nodes.{name}.node", node.node)
        for name, node in loaded.spec.nodes.items()
        if isinstance(node, MapNode) and isinstance(node.node, AgentNode)
    ]


def _alone(loaded: LoadedWorkflow, agent: AgentNode) -> LoadedWorkflow:
    """A workflow of one agent, with the models, tools and prompts of `loaded`."""
    edges = tuple(EdgeSpec.model_validate(edge) for edge in _ALONE)
    node = agent.model_copy(update={"input": None, "writes": None})
    update: dict[str, Any] = {"nodes": {"agent": node}, "edges": edges, "state": StateSpec()}
    return dataclasses.replace(loaded, spec=loaded.spec.model_copy(update=update), children={})


def _tool_config(name: str, spec: ToolSpec) -> ToolConfig:
    mcp = spec.mcp
    return ToolConfig(
        name=name,
        use=spec.use,
        options=spec.options,
        ref=spec.ref,
        mcp=None if mcp is None else McpConfig(**{key: getattr(mcp, key) for key in type(mcp).model_fields}),
        description=spec.description,
        effect=Effect(spec.effect) if spec.effect else None,
        timeout=spec.timeout,
    )
