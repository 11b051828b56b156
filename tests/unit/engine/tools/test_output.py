import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modular_agent.engine.providers.port import ToolSchema
from modular_agent.engine.tools.output import LimitedTool, OutputLimit, file_name
from modular_agent.engine.tools.port import Effect, ToolContext, ToolOutcome


async def test_a_small_output_is_left_alone(context: ToolContext) -> None:
    outcome = ToolOutcome(content="é" * 50)
    assert await OutputLimit(100).apply(outcome, context) is outcome
    assert not context.files.exists()


async def test_a_large_output_goes_to_a_file_that_the_model_is_told_of(context: ToolContext) -> None:
    text = "é" * 100
    outcome = await OutputLimit(101).apply(ToolOutcome(content=text, success=False), context)
    assert outcome.content.startswith("é" * 50 + "\n")
    assert "200 bytes" in outcome.content
    assert "call_1.txt" in outcome.content
    assert not outcome.success
    assert (context.files / "call_1.txt").read_text(encoding="utf-8") == text


async def test_a_long_stack_trace_keeps_its_end(context: ToolContext) -> None:
    outcome = ToolOutcome(content="x", success=False, stack_trace="a" * 1_000 + "ValueError: the end")
    kept = (await OutputLimit(100).apply(outcome, context)).stack_trace
    assert kept is not None
    assert len(kept) <= 110
    assert kept.endswith("ValueError: the end")


async def test_a_file_that_cannot_be_written_is_said(context: ToolContext) -> None:
    context.files.write_text("in the way")
    outcome = await OutputLimit(10).apply(ToolOutcome(content="x" * 100), context)
    assert outcome.content.startswith("x" * 10)
    assert "could not be kept" in outcome.content


@settings(deadline=None)
@given(st.text(max_size=200), st.text(max_size=200))
def test_file_names_stay_in_their_folder_and_differ(one: str, other: str) -> None:
    for name in (file_name(one), file_name(other)):
        assert "/" not in name
        assert "\\" not in name
        assert "\x00" not in name
        assert not name.startswith("..")
        assert len(name) < 130
    assert (file_name(one) == file_name(other)) == (one == other)


class _Raising:
    schema = ToolSchema(name="x", description="", parameters={})
    effect = Effect.READ
    timeout = None

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
        raise RuntimeError("a mistake of ours")


async def test_an_exception_is_an_outcome(context: ToolContext) -> None:
    outcome = await LimitedTool(_Raising(), OutputLimit(1_000)).call({}, context)
    assert (outcome.success, outcome.error_type) == (False, "RuntimeError")
    assert "a mistake of ours" in outcome.content
    assert outcome.stack_trace is not None


@pytest.mark.parametrize("call_id", ["../../etc/passwd", "", "a/b", "."])
async def test_a_hostile_call_id_stays_in_the_folder(context: ToolContext, call_id: str) -> None:
    await OutputLimit(1).apply(ToolOutcome(content="long"), dataclasses.replace(context, tool_call_id=call_id))
    (file,) = context.files.iterdir()
    assert file.read_text() == "long"
