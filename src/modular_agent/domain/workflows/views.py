"""Workflows as the API shows them."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any, Final

from modular_agent.engine.spec.drawing import DrawnNode, drawn_edges, drawn_nodes
from modular_agent.engine.spec.layout import NODE_HEIGHT, NODE_WIDTH, Layout, layout
from modular_agent.engine.spec.loader import LoadedWorkflow
from modular_agent.engine.spec.mermaid import mermaid
from modular_agent.engine.spec.model import END, START, WorkflowSpec
from modular_agent.kit.clock import rfc3339
from modular_agent.kit.dataclass import dataclass
from modular_agent.storage.repositories.workflows import VersionHead, VersionRow, WorkflowRow

__all__ = ["LiveState", "difference_view", "drawing_view", "summary_view", "version_view", "workflow_view"]

PENDING: Final = "pending"
_DIRECTION: Final = "TB"
# The state of a node made of several (an agent and its tools) is the first of these that one of them has.
_STATES: Final = ("running", "failed", "interrupted", "cancelled", "completed")


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveState:
    """How far a session's newest run has come, by its log. `run_id` is None while there is none."""

    session_id: str
    run_id: str | None = None
    run_status: str | None = None
    current_node: str | None = None
    node_states: Mapping[str, str] = field(default_factory=dict[str, str])

    def of(self, node: str) -> str:
        """The state of a node of the file: `pending`, or what its steps are."""
        if node == START:
            return "completed" if self.node_states else PENDING
        if node == END:
            return "completed" if self.run_status == "completed" else PENDING
        inside = f"{node}."
        held = {state for name, state in self.node_states.items() if name == node or name.startswith(inside)}
        return next((state for state in _STATES if state in held), PENDING)


def summary_view(row: WorkflowRow, loaded: LoadedWorkflow | None) -> dict[str, Any]:
    """A workflow in a list; of one whose stored version cannot be used any more, what is stored."""
    spec = None if loaded is None else loaded.spec
    return {
        "workflow_id": row.workflow_id,
        "name": row.workflow_id,
        "description": spec.description if spec else "",
        "version": spec.version if spec else None,
        "content_hash": row.content_hash,
        "config_path": row.config_path,
        "loaded_at": rfc3339(row.loaded_at),
        "last_used": None if row.last_used is None else rfc3339(row.last_used),
        "usage_count": row.usage_count,
        "node_count": len(spec.nodes) if spec else None,
    }


def workflow_view(row: WorkflowRow, loaded: LoadedWorkflow, versions: Sequence[VersionHead]) -> dict[str, Any]:
    """Everything about a workflow."""
    spec = loaded.spec
    return {
        **summary_view(row, loaded),
        "nodes": [_node(spec, node) for node in drawn_nodes(spec) if node.name in spec.nodes],
        "edges": _edges(spec),
        "models": sorted(spec.models),
        "tools": sorted(spec.tools),
        "limits": spec.limits.model_dump(exclude_none=True),
        "state_schema": spec.state.schema_,
        "versions": [version_view(version, row) for version in versions],
    }


def version_view(version: VersionHead, row: WorkflowRow) -> dict[str, Any]:
    """A version in a list; `is_current`: new sessions get it."""
    return {
        "content_hash": version.content_hash,
        "version": version.version,
        "config_path": version.config_path,
        "created_at": rfc3339(version.created_at),
        "is_current": version.content_hash == row.content_hash and not row.unloaded,
    }


def drawing_view(workflow_id: str, loaded: LoadedWorkflow, live: LiveState | None) -> dict[str, Any]:
    """What draws a workflow; with `live`, every node has a `state`."""
    spec = loaded.spec
    placed = layout(spec)
    positions = {name: {"x": at.x, "y": at.y} for name, at in placed.positions.items()}
    nodes: list[dict[str, Any]] = [
        {**_node(spec, node), "position": positions[node.name]} for node in drawn_nodes(spec)
    ]
    view: dict[str, Any] = {
        "workflow_id": workflow_id,
        "content_hash": loaded.content_hash,
        "nodes": nodes,
        "edges": [{**edge, **_routed(edge, placed)} for edge in _edges(spec)],
        "node_positions": positions,
        "layout_algorithm": placed.algorithm,
        "visualization_settings": {
            "direction": _DIRECTION,
            "node_width": NODE_WIDTH,
            "node_height": NODE_HEIGHT,
            "width": placed.width,
            "height": placed.height,
        },
        "mermaid": mermaid(spec),
    }
    if live is not None:
        for node in nodes:
            node["state"] = live.of(node["name"])
        view |= {
            "session_id": live.session_id,
            "run_id": live.run_id,
            "run_status": live.run_status,
            "current_node": live.current_node,
            "node_states": {node["name"]: node["state"] for node in nodes},
        }
    return view


def difference_view(old: VersionRow, new: VersionRow) -> dict[str, Any]:
    """What changed from one version to another: each file that differs, with a unified diff. Blocks."""
    return {
        "workflow_id": new.workflow_id,
        "from": old.content_hash,
        "to": new.content_hash,
        "files": list(_differences(old.bundle, new.bundle)),
    }


def _differences(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    for path in sorted({*old, *new}):
        before, after = old.get(path), new.get(path)
        if before == after:
            continue
        change = "added" if before is None else "removed" if after is None else "changed"
        lines = difflib.unified_diff((before or "").splitlines(), (after or "").splitlines(), path, path, lineterm="")
        yield {"path": path, "change": change, "diff": "\n".join(lines)}


def _node(spec: WorkflowSpec, drawn: DrawnNode) -> dict[str, Any]:
    node = spec.nodes.get(drawn.name)
    tools: Sequence[str] = getattr(node, "tools", ())
    return {
        "name": drawn.name,
        "type": drawn.type,
        "detail": drawn.detail,
        "description": (node.description or "") if node else "",
        "tools": list(tools),
    }


def _routed(edge: Mapping[str, Any], placed: Layout) -> dict[str, Any]:
    ends = (edge["from"], edge["to"])
    return {"points": [{"x": at.x, "y": at.y} for at in placed.routes[ends]], "back": ends in placed.back}


def _edges(spec: WorkflowSpec) -> list[dict[str, Any]]:
    return [
        {"from": edge.source, "to": edge.target, "label": edge.label, "conditional": edge.conditional}
        for edge in drawn_edges(spec)
    ]
