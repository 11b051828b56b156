"""The way a session's graph is driven against LangGraph's own: what comes of a run is the same."""

from typing import Any, Final, NamedTuple

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphRecursionError

from integration.engine.lab import Lab, calls, loop_of, script
from modular_agent.engine import graph_loop, run

CODE = """
import asyncio

async def quick(word: str) -> str:
    "Answers at once."
    return word

async def gives_up(word: str) -> str:
    "Ends as if somebody had cancelled it."
    raise asyncio.CancelledError

async def count(state):
    return {"counts": [len(state["messages"])]}

async def breaks(state):
    raise ValueError("broken")
"""
FILES: Final = {
    "tools/code.py": CODE,
    "scripts/a.yaml": script(
        turns=[
            {
                "when": {"last_role": "user", "last_user": "tools"},
                **calls(("quick", {"word": "a"}), ("quick", {"word": "b"})),
            },
            {"when": {"last_role": "user", "last_user": "gives up"}, **calls(("gives_up", {"word": "a"}))},
            {"when": {"last_role": "user"}, "reply": "You said {{ input }}"},
        ],
        otherwise={"reply": "done"},
    ),
}
HEAD: Final = """
models: {main: {provider: scripted, script: scripts/a.yaml}}
state: {schema: {type: object, properties: {counts: {type: array}}}, reducers: {counts: add}}
tools:
  quick: {ref: "tools.code:quick", effect: read}
  gives_up: {ref: "tools.code:gives_up", effect: read}
"""
LOOP: Final = loop_of("quick", "gives_up")
SIDE_BY_SIDE: Final = """
nodes:
  say: {type: llm}
  count: {type: function, ref: "tools.code:count"}
  after: {type: function, ref: "tools.code:count"}
edges:
  - {from: START, to: say}
  - {from: START, to: count}
  - {from: say, to: after}
  - {from: count, to: after}
  - {from: after, to: END}
"""
CHOICE_FIRST: Final = """
nodes:
  short: {type: llm}
  long: {type: function, ref: "tools.code:count"}
edges:
  - {from: START, to: long, when: "state.messages.size() > 2"}
  - {from: START, to: short}
  - {from: short, to: END}
  - {from: long, to: END}
"""
QUESTION: Final = """
nodes:
  ask: {type: human, question: "Go on?"}
  say: {type: llm}
edges:
  - {from: START, to: ask}
  - {from: ask, to: say}
  - {from: say, to: END}
"""
BROKEN: Final = """
nodes:
  say: {type: llm}
  fail: {type: function, ref: "tools.code:breaks"}
edges:
  - {from: START, to: say}
  - {from: say, to: fail}
  - {from: fail, to: END}
"""


class Came(NamedTuple):
    """What came of the runs of a session."""

    statuses: list[str]
    errors: list[str | None]
    state: dict[str, Any]
    path: list[str]
    records: list[tuple[str, str | None]]


async def by_library(graph: Any, given: Any, config: RunnableConfig, *, context: Any, control: Any) -> None:
    await graph.ainvoke(given, config, context=context, durability="sync", control=control, stream_mode=[])


async def outcome(lab: Lab, text: str, messages: list[str]) -> Came:
    await lab.open(HEAD + text, files=FILES)
    statuses: list[str] = []
    errors: list[str | None] = []
    for message in messages:
        row = await lab.run(message)
        if row.status == "paused":
            statuses.append(row.status)
            row = await lab.answer("yes")
        statuses.append(row.status)
        errors.append((row.error or {}).get("type"))
    state = await lab.state()
    for message in state.get("messages") or []:
        message.pop("id", None)
        for call in message.get("tool_calls") or []:
            call.pop("id")
        message.pop("tool_call_id", None)
    records = [(record["record_type"], record.get("node")) for record in await lab.records()]
    return Came(statuses, errors, state, await lab.path_taken(), sorted(records, key=str))


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        (LOOP, ["hello", "use the tools", "bye"]),
        (LOOP, ["it gives up", "and now?"]),
        (SIDE_BY_SIDE, ["one", "two"]),
        (CHOICE_FIRST, ["one", "two", "three"]),
        (QUESTION, ["first", "second"]),
        (BROKEN, ["one", "two"]),
    ],
    ids=["tools", "cancelled by itself", "side by side", "choice first", "question", "broken"],
)
async def test_what_comes_of_runs_is_what_comes_of_them_by_the_library(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, text: str, messages: list[str]
) -> None:
    ours = await outcome(lab, text, messages)
    monkeypatch.setattr(run, "run_graph", by_library)
    assert ours == await outcome(lab, text, messages)


async def test_a_graph_that_never_ends_is_ended(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    await lab.open(HEAD + LOOP, files=FILES)

    async def limited(graph: Any, given: Any, config: RunnableConfig, **more: Any) -> None:
        await graph_loop.run_graph(graph, given, {**config, "recursion_limit": 1}, **more)

    monkeypatch.setattr(run, "run_graph", limited)
    row = await lab.run("use the tools")
    assert row.status == "failed"
    assert row.error is not None
    assert row.error["type"] == GraphRecursionError.__name__
