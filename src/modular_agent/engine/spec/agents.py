"""Agents in workflow terms: the file of an agent as a workflow of one node, and an agent in nodes of a workflow.

The workflow is made of the nodes of the agent's own text, so that every fault has its place there.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Final

from modular_agent.engine.spec.configured import AgentFile, agent_of, agent_workflow_name
from modular_agent.engine.spec.document import Document
from modular_agent.engine.spec.errors import WorkflowInvalid
from modular_agent.engine.spec.model import AgentNode, LimitsSpec, LlmNode, MapNode, NodeSpec, WorkflowSpec
from modular_agent.engine.spec.nodes import Entry, MappingNode, Mark, Node, ScalarNode, SequenceNode
from modular_agent.engine.spec.typed import read_typed
from modular_agent.errors import Fault

__all__ = [
    "AGENT_NODE",
    "agent_limits",
    "agent_workflow",
    "is_agent_file",
    "own_paths",
    "takers",
    "used_agents",
    "with_agent",
]

AGENT_NODE: Final = "agent"
_TAKEN: Final = ("model", "prompt", "tools", "temperature", "max_tokens", "parameters", "max_iterations")
_TAKEN_BY_ONE_CALL: Final = ("model", "prompt", "temperature", "max_tokens", "parameters")
_INSIDE: Final = f"nodes.{AGENT_NODE}."


def is_agent_file(path: str) -> bool:
    """Whether a file below the configs root is an agent's."""
    return agent_of(path) is not None


def agent_workflow(document: Document) -> Document:
    """The workflow `agent-NAME` of an agent's file. Raises `WorkflowInvalid` with every fault of its shape."""
    agent, faults = read_typed(document, AgentFile)
    root = document.root
    if agent is None or not isinstance(root, MappingNode):
        raise WorkflowInvalid(faults)
    start, given = root.start, root.entries
    name = agent_workflow_name(PurePosixPath(document.file or "").stem)
    node = {"type": _scalar(start, "agent"), **{key: given[key].node for key in _TAKEN if key in given}}
    node["tools"] = SequenceNode(start, [_scalar(start, tool) for tool in agent.tools])
    if agent.limits.max_iterations is not None:
        node["max_iterations"] = _scalar(start, agent.limits.max_iterations)
    whole: dict[str, Node] = {
        "schema": _scalar(start, "modular-agent/v1"),
        "name": _scalar(start, name),
        **{key: given[key].node for key in ("description", "version", "tools", "limits") if key in given},
        "nodes": _mapping(start, {AGENT_NODE: _mapping(start, node)}),
        "edges": SequenceNode(start, [_edge(start, "START", AGENT_NODE), _edge(start, AGENT_NODE, "END")]),
    }
    return Document(document.text, _mapping(start, whole), file=document.file)


def own_paths(faults: Sequence[Fault], file: str) -> list[Fault]:
    """Faults of the workflow of an agent, with the key paths of the agent's `file`."""
    return [
        dataclasses.replace(fault, path=fault.path.removeprefix(_INSIDE)) if fault.file == file else fault
        for fault in faults
    ]


def used_agents(spec: WorkflowSpec) -> list[tuple[tuple[str | int, ...], AgentNode]]:
    """The nodes, and bodies of maps, that take an agent, with their key paths."""
    found: list[tuple[tuple[str | int, ...], AgentNode]] = []
    for name, node in spec.nodes.items():
        body = _body(node)
        if isinstance(body, AgentNode) and body.agent is not None:
            found.append((("nodes", name, "node") if isinstance(node, MapNode) else ("nodes", name), body))
    return found


def takers(spec: WorkflowSpec) -> list[str]:
    """The nodes that a session's agent can fill up: those that call a model, or whose body does."""
    return [name for name, node in spec.nodes.items() if isinstance(_body(node), AgentNode | LlmNode)]


def with_agent(spec: WorkflowSpec, name: str, agent: WorkflowSpec) -> WorkflowSpec:
    """`spec` with its node `name` filled up from `agent`, the workflow of an agent: what the node says itself stays.

    The agent's tools and models come along; a tool or model of the same name in the workflow is the one that counts.
    An `llm` node takes no tools: who runs them is the workflow's.
    """
    node, own = spec.nodes[name], agent.nodes[AGENT_NODE]
    body = _body(node)
    assert isinstance(own, AgentNode)
    assert isinstance(body, AgentNode | LlmNode)
    keys = _TAKEN if isinstance(body, AgentNode) else _TAKEN_BY_ONE_CALL
    full = body.model_copy(update={key: getattr(own, key) for key in keys if key not in body.model_fields_set})
    filled: NodeSpec = node.model_copy(update={"node": full}) if isinstance(node, MapNode) else full
    update: dict[str, Any] = {
        "nodes": {**spec.nodes, name: filled},
        "tools": _under(spec.tools, agent.tools) if isinstance(body, AgentNode) else spec.tools,
        "limits": agent_limits(spec.limits, agent.limits),
    }
    return spec.model_copy(update=update)


def agent_limits(workflow: LimitsSpec, agent: LimitsSpec) -> LimitsSpec:
    """The workflow's limits over the agent's, whose `max_iterations` is that of its node."""
    taken = {
        key: getattr(agent, key) for key in agent.model_fields_set - workflow.model_fields_set - {"max_iterations"}
    }
    return workflow.model_copy(update=taken)


def _body(node: NodeSpec) -> Any:  # of the kinds of nodes, or None
    return node.node if isinstance(node, MapNode) else node


def _under(above: Mapping[str, Any], below: Mapping[str, Any]) -> dict[str, Any]:
    return {**above, **{name: value for name, value in below.items() if name not in above}}


def _scalar(mark: Mark, value: str | int) -> ScalarNode:
    return ScalarNode(mark, mark, str(value), plain=True, value=value)


def _mapping(mark: Mark, nodes: Mapping[str, Node]) -> MappingNode:
    return MappingNode(mark, {key: Entry(node.start, node) for key, node in nodes.items()})


def _edge(mark: Mark, source: str, target: str) -> MappingNode:
    return _mapping(mark, {"from": _scalar(mark, source), "to": _scalar(mark, target)})
