from typing import Any

import pytest

from modular_agent.engine.spec.model import WorkflowSpec
from modular_agent.engine.spec.state_keys import STANDARD_KEYS, StateKeys


def keys(state: dict[str, Any]) -> StateKeys:
    nodes = {
        "say": {"type": "llm", "writes": "answer"},
        "pick": {"type": "router", "rules": [{"when": "true", "choose": "a"}]},
        "each": {"type": "map", "over": "[1]", "workflow": "x.yaml"},
        "sub": {"type": "workflow", "workflow": "x.yaml", "output": {"result": "state.a"}},
        "plain": {"type": "llm"},
    }
    data = {"schema": "modular-agent/v1", "name": "x", "nodes": nodes, "edges": [{"from": "START", "to": "say"}]}
    return StateKeys.of(WorkflowSpec.model_validate({**data, "state": state}), whole=True)


@pytest.mark.parametrize(
    ("schema", "is_open"),
    [
        ({}, True),
        ({"type": "object"}, True),
        ({"type": "object", "properties": {"a": {}}}, False),
        ({"type": "object", "properties": {"a": {}}, "additionalProperties": True}, True),
        ({"type": "object", "properties": {"a": {}}, "additionalProperties": {"type": "number"}}, True),
        ({"type": "object", "additionalProperties": False}, False),
    ],
)
def test_a_state_is_open_unless_its_schema_says_what_is_in_it(schema: dict[str, Any], is_open: bool) -> None:
    assert keys({"schema": schema}).open is is_open


def test_what_can_be_read_is_what_is_declared_or_written() -> None:
    found = keys({"schema": {"type": "object", "properties": {"score": {}}}, "reducers": {"findings": "append"}})
    assert found.declared == {"score", "findings"}
    assert found.readable == {"score", "findings", "answer", "route", "each", "result", *STANDARD_KEYS}
