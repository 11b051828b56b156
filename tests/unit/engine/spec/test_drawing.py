import re
from itertools import combinations, pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from modular_agent.engine.spec.drawing import drawn_edges
from modular_agent.engine.spec.layout import NODE_HEIGHT, NODE_WIDTH, Layout, Position, layout
from modular_agent.engine.spec.mermaid import mermaid
from modular_agent.engine.spec.model import WorkflowSpec


def workflow(nodes: dict[str, dict[str, Any]], edges: list[dict[str, str]]) -> WorkflowSpec:
    return WorkflowSpec.model_validate({"schema": "modular-agent/v1", "name": "x", "nodes": nodes, "edges": edges})


REACT = workflow(
    {
        "think": {"type": "llm", "model": "main"},
        "act": {"type": "tools"},
        "review": {"type": "human", "question": "?"},
        "pick": {"type": "router", "rules": [{"when": "true", "choose": "a"}]},
        "nap": {"type": "wait", "duration": 1},
    },
    [
        {"from": "START", "to": "think"},
        {"from": "think", "to": "act", "when": "has_tool_calls"},
        {"from": "think", "to": "review", "when": 'state.a < 1 && state.b == "x" || state.c == `y#;`'},
        {"from": "think", "to": "END"},
        {"from": "act", "to": "think"},
        {"from": "review", "to": "pick"},
        {"from": "pick", "to": "nap"},
    ],
)


@st.composite
def graphs(draw: st.DrawFn) -> WorkflowSpec:
    names = [f"n{index}" for index in range(draw(st.integers(1, 12)))]
    pairs = st.tuples(st.sampled_from(["START", *names]), st.sampled_from([*names, "END"]))
    edges = draw(st.lists(pairs, min_size=1, max_size=30, unique=True))
    return workflow({name: {"type": "llm"} for name in names}, [{"from": a, "to": b} for a, b in edges])


def test_mermaid_shows_nodes_by_type_and_conditions_as_labels() -> None:
    assert mermaid(REACT).splitlines() == [
        "flowchart TD",
        '  n0(["START"])',
        '  n1["think<br/>llm main"]',
        '  n2[/"act<br/>tools"/]',
        '  n3[\\"review<br/>human"/]',
        '  n4{"pick<br/>router"}',
        '  n5(("nap<br/>wait"))',
        '  n6(["END"])',
        "  n0 --> n1",
        '  n1 -. "has_tool_calls" .-> n2',
        '  n1 -. "state.a #lt; 1 #amp;#amp; state.b == #quot;x#quot; || state.c == #96;y#35;#59;#96;" .-> n3',
        '  n1 -. "otherwise" .-> n6',
        "  n2 --> n1",
        "  n3 --> n4",
        "  n4 --> n5",
        "  n5 --> n6",
    ]


@given(st.text(min_size=1))
def test_no_condition_can_break_out_of_its_label(condition: str) -> None:
    spec = workflow(
        {"a": {"type": "llm"}}, [{"from": "START", "to": "a"}, {"from": "a", "to": "END", "when": condition}]
    )
    line = mermaid(spec).splitlines()[-1]
    assert re.fullmatch(r'  n1 -\. "[^"<>&`\\]*" \.-> n2', line)


def test_a_long_condition_is_cut() -> None:
    spec = workflow(
        {"a": {"type": "llm"}}, [{"from": "START", "to": "a"}, {"from": "a", "to": "END", "when": "x" * 500}]
    )
    assert len(mermaid(spec).splitlines()[-1]) < 100


def test_a_node_that_nothing_leads_out_of_ends_the_drawing() -> None:
    assert [(edge.source, edge.target) for edge in drawn_edges(REACT)][-1] == ("nap", "END")


@given(graphs())
def test_no_two_nodes_overlap_and_all_are_inside(spec: WorkflowSpec) -> None:
    drawing = layout(spec)
    assert set(drawing.positions) == {"START", *spec.nodes, "END"}
    for one, other in combinations(drawing.positions.values(), 2):
        assert abs(one.x - other.x) >= NODE_WIDTH or abs(one.y - other.y) >= NODE_HEIGHT
    for position in drawing.positions.values():
        assert NODE_WIDTH / 2 <= position.x <= drawing.width - NODE_WIDTH / 2
        assert NODE_HEIGHT / 2 <= position.y <= drawing.height - NODE_HEIGHT / 2


@given(graphs())
def test_the_same_workflow_is_drawn_the_same(spec: WorkflowSpec) -> None:
    assert layout(spec) == layout(spec)


@given(graphs())
def test_start_is_on_top_and_end_at_the_bottom(spec: WorkflowSpec) -> None:
    positions = layout(spec).positions
    inner = [positions[name].y for name in spec.nodes]
    assert positions["START"].y < min(inner)
    assert max(inner) < positions["END"].y


def crosses(one: Position, other: Position, node: Position) -> bool:
    """Whether a straight line goes through the inside of a node (Liang and Barsky, 1984)."""
    first, last = 0.0, 1.0
    for start, way, middle, size in (
        (one.x, other.x - one.x, node.x, NODE_WIDTH),
        (one.y, other.y - one.y, node.y, NODE_HEIGHT),
    ):
        near, far = middle - size / 2 - start, middle + size / 2 - start
        if way == 0:
            if near >= 0 or far <= 0:
                return False
            continue
        enter, leave = sorted((near / way, far / way))
        first, last = max(first, enter), min(last, leave)
    return first + 1e-9 < last


def is_on_border(point: Position, node: Position) -> bool:
    x, y = abs(point.x - node.x), abs(point.y - node.y)
    return (x == NODE_WIDTH / 2 and y <= NODE_HEIGHT / 2) or (y == NODE_HEIGHT / 2 and x <= NODE_WIDTH / 2)


def lines_of(drawing: Layout, edge: tuple[str, str]) -> set[frozenset[tuple[float, float]]]:
    return {frozenset(((one.x, one.y), (other.x, other.y))) for one, other in pairwise(drawing.routes[edge])}


@given(graphs())
def test_no_edge_goes_through_a_node_or_out_of_the_drawing(spec: WorkflowSpec) -> None:
    drawing = layout(spec)
    assert set(drawing.routes) == {(edge.source, edge.target) for edge in drawn_edges(spec)}
    for (source, target), points in drawing.routes.items():
        assert is_on_border(points[0], drawing.positions[source])
        assert is_on_border(points[-1], drawing.positions[target])
        for one, other in pairwise(points):
            assert not any(crosses(one, other, node) for node in drawing.positions.values()), (source, target)
        assert all(0 <= at.x <= drawing.width and 0 <= at.y <= drawing.height for at in points)


@given(graphs())
def test_edges_that_lead_back_go_up_and_lie_on_no_other(spec: WorkflowSpec) -> None:
    drawing = layout(spec)
    for source, target in drawing.routes:
        up = drawing.positions[source].y >= drawing.positions[target].y
        assert ((source, target) in drawing.back) == up
        if source != target and (target, source) in drawing.routes:
            assert not lines_of(drawing, (source, target)) & lines_of(drawing, (target, source))


def test_ways_lead_down_and_only_cycles_lead_up() -> None:
    positions = layout(REACT).positions
    up = [(e.source, e.target) for e in drawn_edges(REACT) if positions[e.source].y >= positions[e.target].y]
    assert up == [("act", "think")]


def test_a_large_workflow_is_drawn_at_once() -> None:
    names = [f"n{index}" for index in range(300)]
    edges = [{"from": "START", "to": "n0"}, *({"from": a, "to": b} for a, b in pairwise(names))]
    edges += [{"from": name, "to": "END"} for name in names[::3]]
    assert len(layout(workflow({name: {"type": "llm"} for name in names}, edges)).positions) == 302
