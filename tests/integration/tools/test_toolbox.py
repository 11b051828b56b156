import asyncio
import dataclasses
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from modular_agent.engine.tools.config import McpConfig, ToolConfig
from modular_agent.engine.tools.errors import AttributeMissing, FunctionFailed
from modular_agent.engine.tools.port import Effect, Tool, ToolContext
from modular_agent.engine.tools.registry import ToolBox, ToolLimits
from modular_agent.errors import InvalidInput
from modular_agent.kit.clock import SystemClock

Write = Callable[[str, str], Path]
STDIO = (sys.executable, str(Path(__file__).parents[2] / "servers" / "mcp_stdio.py"))
SOURCE = '''
import asyncio, logging, time
from pathlib import Path

def fetch(ticket: int, verbose: bool = False) -> dict:
    """Fetches a ticket.

    Args:
        ticket: Its number.
    """
    if ticket < 0:
        raise LookupError("no ticket")
    return {"ticket": ticket, "verbose": verbose}

def long(size: int) -> str:
    return "x" * size

def nothing(): ...

def hang():
    while True: pass

async def later(ticket: int, context) -> str:
    """Fetches it later."""
    logging.getLogger("tickets").warning("fetching %d", ticket)
    await asyncio.to_thread(logging.getLogger("tickets").warning, "in a thread")
    await asyncio.sleep(0)
    return f"{ticket} for {context.session_id}"

async def fails_later():
    raise LookupError("no ticket, later")

async def waits(marker: str):
    try:
        Path(marker).write_text("started")
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0.05)
        Path(marker).write_text("cleaned up")

def state_in(state):
    return {"score": state["score"] + 1}

async def async_state(state):
    return {"score": state["score"] + 2}

class Strange: ...
def strange(value: Strange): ...
graph = {"compiled": True}
'''


@pytest.fixture
async def box(configs: Path, write_tool: Write) -> AsyncIterator[ToolBox]:
    write_tool("tickets", SOURCE)
    limits = ToolLimits(output_bytes=2_000, workers=2, warm_workers=0)
    async with ToolBox(configs, clock=SystemClock(), environ={}, limits=limits) as box:
        yield box


async def one(box: ToolBox, name: str, **options: object) -> Tool:
    config = ToolConfig(name=name, ref=f"tools.tickets:{name}", **options)  # pyright: ignore[reportArgumentType]
    return (await box.build([config]))[name][0]


async def test_python_code_becomes_a_tool(box: ToolBox, context: ToolContext) -> None:
    tool = await one(box, "fetch")
    assert tool.schema.name == "fetch"
    assert tool.schema.description == "Fetches a ticket."
    assert tool.schema.parameters["properties"]["ticket"] == {"type": "integer", "description": "Its number."}
    assert (tool.effect, tool.timeout) == (Effect.IRREVERSIBLE, None)
    outcome = await tool.call({"ticket": "7"}, context)
    assert (outcome.content, outcome.success) == ('{"ticket":7,"verbose":false}', True)


async def test_what_the_workflow_says_wins(box: ToolBox) -> None:
    tool = await one(box, "fetch", description="Mine", effect=Effect.READ, timeout=3.0)
    assert (tool.schema.description, tool.effect, tool.timeout) == ("Mine", Effect.READ, 3.0)


async def test_a_failing_tool_is_an_outcome_with_its_trace(box: ToolBox, context: ToolContext) -> None:
    for name, arguments in (("fetch", {"ticket": -1}), ("fails_later", {})):
        outcome = await (await one(box, name)).call(arguments, context)
        assert not outcome.success
        assert outcome.error_type == "LookupError"
        assert outcome.content.startswith("LookupError: no ticket")
        assert outcome.stack_trace is not None
        assert "tickets.py" in outcome.stack_trace


async def test_bad_arguments_are_an_outcome_for_the_model(box: ToolBox, context: ToolContext) -> None:
    for name in ("fetch", "later"):
        outcome = await (await one(box, name)).call({"ticket": "many", "more": 1}, context)
        assert outcome.error_type == "BadArguments"
        assert "- more: there is no such argument" in outcome.content
        assert outcome.stack_trace is None


async def test_a_timeout_is_an_outcome(box: ToolBox, context: ToolContext, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    for name, arguments in (("hang", {}), ("waits", {"marker": str(marker)})):
        outcome = await (await one(box, name, timeout=0.2)).call(arguments, context)
        assert outcome.error_type == "TimeoutError"
        assert "0.2 seconds" in outcome.content
    assert marker.read_text() == "cleaned up"


async def test_a_tool_that_returns_nothing_says_so(box: ToolBox, context: ToolContext) -> None:
    assert (await (await one(box, "nothing")).call({}, context)).content == "null"


async def test_a_large_output_goes_to_a_file(box: ToolBox, context: ToolContext) -> None:
    outcome = await (await one(box, "long")).call({"size": 5_000}, context)
    assert len(outcome.content) < 2_200
    assert (context.files / "call_1.txt").stat().st_size == 5_000


async def test_an_async_tool_runs_in_the_loop_with_its_own_log(
    box: ToolBox, context: ToolContext, logged: list[tuple[str, str]]
) -> None:
    tool = await one(box, "later")
    other: list[tuple[str, str]] = []
    second = dataclasses.replace(context, log=lambda level, message: other.append((level, message)))
    one_of, two_of = await asyncio.gather(tool.call({"ticket": 1}, context), tool.call({"ticket": 2}, second))
    logging.getLogger("tickets").warning("of nobody")
    assert one_of.content == f"1 for {context.session_id}"
    assert two_of.success
    assert logged == [("warning", "fetching 1"), ("warning", "in a thread")]
    assert other == [("warning", "fetching 2"), ("warning", "in a thread")]


async def test_a_cancelled_async_tool_has_cleaned_up(box: ToolBox, context: ToolContext, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    task = asyncio.create_task((await one(box, "waits")).call({"marker": str(marker)}, context))
    async with asyncio.timeout(5):
        while not marker.exists() or not marker.read_text():
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert marker.read_text() == "cleaned up"


async def test_an_edited_async_tool_is_used_at_once(box: ToolBox, context: ToolContext, write_tool: Write) -> None:
    write_tool("edited", "async def say(): return 'one'\n")
    (tool,) = (await box.build([ToolConfig(name="say", ref="tools.edited:say")]))["say"]
    assert (await tool.call({}, context)).content == "one"
    write_tool("edited", "async def say(): return 'two'\n")
    assert (await tool.call({}, context)).content == "two"
    write_tool("edited", "async def other(): ...\n")
    assert (await tool.call({}, context)).error_type == "attribute_not_found"


async def test_every_kind_of_tool_in_one_workflow(box: ToolBox, context: ToolContext) -> None:
    built = await box.build(
        [
            ToolConfig(name="calculator", use="builtin.calculator"),
            ToolConfig(name="fetch", ref="tools.tickets:fetch"),
            ToolConfig(name="docs", mcp=McpConfig(command=STDIO, include=("add",), prefix="docs_")),
        ]
    )
    assert {name: [tool.schema.name for tool in tools] for name, tools in built.items()} == {
        "calculator": ["calculator"],
        "fetch": ["fetch"],
        "docs": ["docs_add"],
    }
    assert (await built["calculator"][0].call({"expression": "17 * 23"}, context)).content == "391"
    assert (await built["docs"][0].call({"a": 1, "b": 2}, context)).content == "3"


async def test_all_faults_are_told_at_once(box: ToolBox) -> None:
    configs = [
        ToolConfig(name="a", use="builtin.calculater"),
        ToolConfig(name="b", use="builtin.read_file", options={"folde": "x"}),
        ToolConfig(name="c", ref="tools.tickets:fetsh"),
        ToolConfig(name="d", ref="os:system"),
        ToolConfig(name="e", ref="tools.tickets:strange"),
        ToolConfig(name="f", mcp=McpConfig(command=("no-such-command-here",))),
        ToolConfig(name="g", mcp=McpConfig()),
        ToolConfig(name="h"),
        ToolConfig(name="i", ref="tools.tickets:graph"),
    ]
    with pytest.raises(InvalidInput) as caught:
        await box.build(configs)
    assert {(fault.path, fault.code) for fault in caught.value.faults} == {
        ("tools.a.use", "builtin_unknown"),
        ("tools.b.folde", "option_unknown"),
        ("tools.c.ref", "attribute_not_found"),
        ("tools.d.ref", "reference_not_allowed"),
        ("tools.e", "signature_unsupported"),
        ("tools.f", "mcp_unavailable"),
        ("tools.g.mcp", "mcp_kind"),
        ("tools.h", "tool_kind"),
        ("tools.i.ref", "not_callable"),
    }


async def test_two_tools_of_one_name_are_a_fault(box: ToolBox) -> None:
    configs = [
        ToolConfig(name="add", use="builtin.calculator"),
        ToolConfig(name="docs", mcp=McpConfig(command=STDIO, include=("add",))),
    ]
    with pytest.raises(InvalidInput) as caught:
        await box.build(configs)
    assert [(fault.code, fault.path) for fault in caught.value.faults] == [("tool_name_taken", "tools.docs")]


async def test_an_import_that_hangs_is_ended(configs: Path, write_tool: Write) -> None:
    write_tool("slow", "import time\ntime.sleep(60)\ndef f(): ...\n")
    async with ToolBox(configs, clock=SystemClock(), environ={}) as box:
        reply = await box.pool.describe("tools.slow:f", patience=0.3)
        assert reply.failure is not None
        assert reply.failure.kind == "timeout"


async def test_functions_of_nodes_are_called_with_json(box: ToolBox, logged: list[tuple[str, str]]) -> None:
    def log(level: str, message: str) -> None:
        logged.append((level, message))

    assert await box.function("tools.tickets:state_in")({"state": {"score": 1}}, log) == {"score": 2}
    assert await box.function("tools.tickets:async_state")({"state": {"score": 1}}, log) == {"score": 3}


async def test_a_function_that_fails_raises_with_the_authors_trace(box: ToolBox) -> None:
    for name, arguments in (("fetch", {"ticket": -1}), ("fails_later", {})):
        with pytest.raises(FunctionFailed, match="LookupError: no ticket") as caught:
            await box.function(f"tools.tickets:{name}")(arguments, lambda *_: None)
        assert caught.value.error_type == "LookupError"
        assert "tickets.py" in (caught.value.stack_trace or "")
    with pytest.raises(FunctionFailed, match=r"0\.2 seconds"):
        await box.function("tools.tickets:hang", timeout=0.2)({}, lambda *_: None)
    with pytest.raises(AttributeMissing):
        await box.function("tools.tickets:nowhere")({}, lambda *_: None)


async def test_graphs_are_loaded_as_they_are(box: ToolBox) -> None:
    assert await asyncio.to_thread(box.references.load, "tools.tickets:graph") == {"compiled": True}


def test_the_sdk_of_mcp_is_imported_only_when_a_workflow_names_it() -> None:
    code = "import modular_agent.engine.tools.registry, sys; print('mcp' in sys.modules, 'langgraph' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False False"
