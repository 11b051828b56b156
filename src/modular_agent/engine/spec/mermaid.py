"""A workflow as Mermaid text (https://mermaid.js.org/syntax/flowchart.html)."""

from typing import Final

from modular_agent.engine.spec.drawing import DrawnNode, drawn_edges, drawn_nodes
from modular_agent.engine.spec.model import WorkflowSpec

__all__ = ["mermaid"]

_MAX_LABEL: Final = 60
_SHAPES: Final = {
    "start": ("([", "])"),
    "end": ("([", "])"),
    "llm": ("[", "]"),
    "agent": ("[[", "]]"),
    "tools": ("[/", "/]"),
    "router": ("{", "}"),
    "human": ("[\\", "/]"),
    "function": ("[", "]"),
    "map": ("[[", "]]"),
    "workflow": ("[[", "]]"),
    "graph": ("[[", "]]"),
    "wait": ("((", "))"),
}
# Mermaid's own entity codes: the characters that end a label, start markup or begin an entity.
_ENTITIES: Final = str.maketrans(
    {"#": "#35;", '"': "#quot;", "&": "#amp;", "<": "#lt;", ">": "#gt;", "`": "#96;", "\\": "#92;", ";": "#59;"}
)


def mermaid(spec: WorkflowSpec) -> str:
    """A `flowchart TD`. Nodes are `n0`, `n1`, ... in file order after START, so no name can break the text."""
    nodes = drawn_nodes(spec)
    ids = {node.name: f"n{index}" for index, node in enumerate(nodes)}
    lines = ["flowchart TD", *(f"  {_node(ids[node.name], node)}" for node in nodes)]
    for edge in drawn_edges(spec):
        arrow = f'-. "{_label(edge.label)}" .->' if edge.conditional else "-->"
        lines.append(f"  {ids[edge.source]} {arrow} {ids[edge.target]}")
    return "\n".join(lines) + "\n"


def _node(identifier: str, node: DrawnNode) -> str:
    opening, closing = _SHAPES[node.type]
    label = _label(node.name)
    if node.type not in ("start", "end"):
        label += f"<br/>{_label(f'{node.type} {node.detail}'.strip())}"
    return f'{identifier}{opening}"{label}"{closing}'


def _label(text: str) -> str:
    line = " ".join(text.split())
    if len(line) > _MAX_LABEL:
        line = f"{line[: _MAX_LABEL - 1]}…"
    return line.translate(_ENTITIES)
