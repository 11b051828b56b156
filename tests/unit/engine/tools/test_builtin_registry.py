import pytest

from modular_agent.engine.tools.builtin.registry import BUILTINS, build_builtin, builtin_faults
from modular_agent.engine.tools.builtin.tool import Setup
from modular_agent.engine.tools.port import Effect, ToolContext
from modular_agent.errors import InvalidInput
from modular_agent.kit.clock import SystemClock


def test_every_builtin_is_built_without_options_and_only_reads(context: ToolContext) -> None:
    for name in BUILTINS:
        tool = build_builtin(f"builtin.{name}", {}, Setup(name="mine", root=context.files, clock=SystemClock()))
        assert tool.schema.name == "mine"
        assert tool.schema.description
        assert tool.schema.parameters["type"] == "object"
        assert tool.effect is Effect.READ
        assert tool.timeout


def test_an_unknown_name_is_a_fault_with_the_likely_one() -> None:
    (fault,) = builtin_faults("builtin.calulator", {}, path="tools.calc")
    assert (fault.code, fault.path, fault.suggestion) == ("builtin_unknown", "tools.calc.use", "builtin.calculator")
    assert builtin_faults("calculator", {})[0].code == "builtin_unknown"


def test_every_fault_of_the_options_is_located() -> None:
    options = {"max_byte": 5, "timeout": -1, "methods": ["POST"], "allow_private": "yes"}
    faults = builtin_faults("builtin.http_fetch", options, path="tools.web")
    places = {(fault.code, fault.path) for fault in faults}
    assert places == {
        ("option_unknown", "tools.web.max_byte"),
        ("option_invalid", "tools.web.timeout"),
        ("option_invalid", "tools.web.methods.0"),
        ("option_invalid", "tools.web.allow_private"),
    }
    assert next(fault for fault in faults if fault.code == "option_unknown").suggestion == "max_bytes"


def test_building_with_faults_raises_them(context: ToolContext) -> None:
    with pytest.raises(InvalidInput) as caught:
        build_builtin("builtin.read_file", {"max_bytes": 0}, Setup(name="x", root=context.files, clock=SystemClock()))
    assert caught.value.faults[0].path == "max_bytes"
