"""What there is to draw of a workflow: its nodes with START and END, and every way between them."""

from modular_agent.engine.spec.model import END, START, MapNode, WorkflowSpec
from modular_agent.kit.dataclass import dataclass

__all__ = ["DrawnEdge", "DrawnNode", "drawn_edges", "drawn_nodes"]


@dataclass(frozen=True, slots=True)
class DrawnNode:
    """A node; `type` is its type, or `start` and `end`; `detail` what it names (a model, a file, Python code)."""

    name: str
    type: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class DrawnEdge:
    """A way; `label` is its condition, `otherwise` where others have one, and empty for a plain way."""

    source: str
    target: str
    label: str = ""
    conditional: bool = False


def drawn_nodes(spec: WorkflowSpec) -> list[DrawnNode]:
    """START, the nodes in file order, END."""
    inner = [DrawnNode(name, node.type, _detail(node)) for name, node in spec.nodes.items()]
    return [DrawnNode(START, "start"), *inner, DrawnNode(END, "end")]


def drawn_edges(spec: WorkflowSpec) -> list[DrawnEdge]:
    """The edges in file order, then a way to END for each node that no edge leads out of."""
    choosing = {edge.from_ for edge in spec.edges if edge.when is not None}
    edges = [
        DrawnEdge(
            edge.from_,
            edge.to,
            edge.when or ("otherwise" if edge.from_ in choosing else ""),
            edge.from_ in choosing,
        )
        for edge in spec.edges
    ]
    left = {edge.from_ for edge in spec.edges}
    return edges + [DrawnEdge(name, END) for name in spec.nodes if name not in left]


def _detail(node: object) -> str:
    if isinstance(node, MapNode) and node.node is not None:
        return f"each {node.as_}: {node.node.type}"
    for key in ("model", "workflow", "ref"):
        value = getattr(node, key, None)
        if isinstance(value, str):
            return value
    return ""
