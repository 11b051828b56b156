"""What is said of tool calls that the end of a run leaves open."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from modular_agent.engine.open_calls import interrupted

PHASES = st.sampled_from(["intent", "result", "interrupted"])


def call(call_id: str, phase: str) -> tuple[str, dict[str, Any]]:
    names = ("tool_name", "tool_input", "effect", "tool_output", "success", "execution_time")
    return "act", {"tool_call_id": call_id, "phase": phase, **dict.fromkeys(names, "x")}


@given(st.lists(st.tuples(st.sampled_from("abc"), PHASES)))
def test_a_call_is_interrupted_if_the_last_that_is_known_of_it_is_its_intent(events: list[tuple[str, str]]) -> None:
    last = dict(events)
    records = interrupted("run", [call(*event) for event in events])
    assert {r.fields["tool_call_id"] for r in records} == {name for name, phase in last.items() if phase == "intent"}
    assert len({r.fields["tool_call_id"] for r in records}) == len(records)


def test_it_is_told_as_the_call_that_it_was_and_nothing_of_its_end_is_claimed() -> None:
    [record] = interrupted("run_1", [call("a", "intent"), call("b", "intent"), call("b", "result")])
    assert (record.run_id, record.node, record.fields["phase"]) == ("run_1", "act", "interrupted")
    assert (record.fields["tool_name"], record.fields["tool_input"], record.fields["effect"]) == ("x", "x", "x")
    assert {record.fields[name] for name in ("tool_output", "success", "execution_time")} == {None}
