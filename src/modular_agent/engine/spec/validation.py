"""What a workflow file means: every check beyond its shape, in one call."""

from collections.abc import Mapping

from modular_agent.engine.expressions import Expression, Expressions
from modular_agent.engine.spec.code import Code
from modular_agent.engine.spec.forms import check_forms
from modular_agent.engine.spec.graph import check_graph
from modular_agent.engine.spec.known import Known
from modular_agent.engine.spec.model import WorkflowSpec
from modular_agent.engine.spec.names import check_names
from modular_agent.engine.spec.report import Report
from modular_agent.engine.spec.shape import Shape
from modular_agent.engine.spec.state_keys import StateKeys, check_state

__all__ = ["validate"]


def validate(
    spec: WorkflowSpec,
    report: Report,
    shape: Shape,
    *,
    known: Known,
    compiler: Expressions,
    children: Mapping[str, WorkflowSpec],
) -> dict[str, Expression]:
    """Adds what is wrong to `report`; returns the compiled expressions by key path."""
    check_names(spec, report, known)
    check_graph(spec, report, whole=shape.whole_graph)
    check_state(spec, report)
    check_forms(spec, report)
    keys = StateKeys.of(spec, whole=not shape.dropped)
    children_keys = {written: StateKeys.of(child, whole=True) for written, child in children.items()}
    code = Code(report, compiler, keys=keys, children=children_keys)
    code.check(spec)
    return code.compiled
