"""Agents of `agents/`, for sessions that are one or that name one."""

from collections.abc import Mapping
from typing import Any

from modular_agent.domain.sessions.errors import AgentUnknown
from modular_agent.domain.workflows.catalog import WorkflowCatalog
from modular_agent.domain.workflows.errors import WorkflowNameTaken, WorkflowVersionUnknown
from modular_agent.engine.errors import AgentConfigInvalid
from modular_agent.engine.spec.configured import agent_path, agent_workflow_name
from modular_agent.engine.spec.errors import FileNotFound
from modular_agent.engine.spec.loader import LoadedWorkflow, takes_agent
from modular_agent.errors import Fault, Text

__all__ = ["Agents"]


class Agents:
    """Finds agents, each as the workflow of it alone."""

    def __init__(self, catalog: WorkflowCatalog) -> None:
        self._catalog = catalog

    async def load(self, name: str) -> LoadedWorkflow:
        """The agent as its file says now. Raises `AgentUnknown`, `WorkflowInvalid`, `WorkflowNameTaken`."""
        path = agent_path(name)
        if path is None:
            raise AgentUnknown(agent_type=name)
        row = await self._catalog.rows.get(agent_workflow_name(name))
        if row is not None and not row.unloaded and row.config_path != path:
            raise WorkflowNameTaken(workflow_id=row.workflow_id, config_path=row.config_path)
        try:
            return await self._catalog.load(path)
        except FileNotFound:
            raise AgentUnknown(agent_type=name) from None

    async def pinned(self, config: Mapping[str, Any], loaded: LoadedWorkflow) -> Mapping[str, Any]:
        """An `agent_config` for a session of the workflow `loaded`, with the version of the agent that it names.

        The agent's file may change then. Raises `AgentConfigInvalid` for what cannot be meant, and what `load` raises.
        """
        name: str | None = config.get("agent")
        version: str | None = config.get("agent_version")
        if name is None:
            if version is not None:
                raise _fault(
                    "agent_version", "agent_missing", Text("says nothing without an agent", "没有 agent 时不起作用")
                )
            return config
        agent = await self.load(name) if version is None else await self._stored(name, version)
        if not takes_agent(loaded):
            raise _fault(
                "agent",
                "agent_unused",
                Text(
                    f"no node of the workflow {loaded.spec.name} calls a model",
                    f"工作流 {loaded.spec.name} 没有调用模型的节点",
                ),
            )
        return {**config, "agent_version": agent.content_hash}

    async def _stored(self, name: str, version: str) -> LoadedWorkflow:
        try:
            agent = await self._catalog.loaded(version)
        except WorkflowVersionUnknown:
            agent = None
        if agent is None or agent.path != agent_path(name):
            raise _fault(
                "agent_version",
                "agent_version_unknown",
                Text(f"is no version of the agent {name}", f"不是智能体 {name} 的版本"),
            )
        return agent


def _fault(key: str, code: str, text: Text) -> AgentConfigInvalid:
    return AgentConfigInvalid([Fault(code=code, text=text, path=f"agent_config.{key}")])
