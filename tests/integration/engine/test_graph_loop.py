"""The way a session's graph is driven against LangGraph's own: what comes of a run is the same."""

import dataclasses
import uuid
from collections import Counter
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph._internal._config import ensure_config
from langgraph._internal._constants import CONFIG_KEY_READ, CONFIG_KEY_SCRATCHPAD, CONFIG_KEY_SEND, PUSH
from langgraph.errors import GraphRecursionError
from langgraph.pregel._algo import apply_writes, increment, prepare_next_tasks
from langgraph.pregel._checkpoint import create_checkpoint

from integration.engine.lab import Lab, calls, loop_of, script
from modular_agent.engine import graph_loop, run
from modular_agent.engine.channels import LogRef
from modular_agent.engine.graph_plan import GraphPlan

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
EACH: Final = """
nodes:
  each:
    type: map
    over: last_message.content.split(' ')
    as: word
    node: {type: function, ref: "tools.code:quick", input: {word: word}}
    writes: counts
edges:
  - {from: START, to: each}
  - {from: each, to: END}
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


async def by_library(plan: GraphPlan, given: Any, config: RunnableConfig, *, context: Any, control: Any) -> None:
    await plan.graph.ainvoke(given, config, context=context, durability="sync", control=control, stream_mode=[])


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


KINDS: Final = pytest.mark.parametrize(
    ("text", "messages"),
    [
        (LOOP, ["hello", "use the tools", "bye"]),
        (LOOP, ["it gives up", "and now?"]),
        (SIDE_BY_SIDE, ["one", "two"]),
        (CHOICE_FIRST, ["one", "two", "three"]),
        (EACH, ["three words here", "one"]),
        (QUESTION, ["first", "second"]),
        (BROKEN, ["one", "two"]),
    ],
    ids=["tools", "cancelled by itself", "side by side", "choice first", "map", "question", "broken"],
)


@KINDS
async def test_what_comes_of_runs_is_what_comes_of_them_by_the_library(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, text: str, messages: list[str]
) -> None:
    ours = await outcome(lab, text, messages)
    monkeypatch.setattr(run, "run_graph", by_library)
    assert ours == await outcome(lab, text, messages)


class Compared:
    """Has every step that `GraphPlan` works out worked out by LangGraph too, and counts the kinds of them.

    A difference is kept in `faults`: raised where it is found, it would be a failure of the run.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.counts: Counter[str] = Counter()
        self.faults: list[Exception] = []
        for name in ("tasks", "apply", "checkpoint"):
            patch.setattr(GraphPlan, name, self._beside(getattr(GraphPlan, name), getattr(self, f"_{name}"), name))

    def _beside(self, ours: Any, by_library: Any, name: str) -> Any:
        def both(plan: GraphPlan, *given: Any) -> Any:
            expected, compare = by_library(plan, *given)
            found = ours(plan, *given)
            self.counts[name] += 1
            try:
                compare(found, expected)
            except Exception as error:
                self.faults.append(error)
            return found

        return both

    def _tasks(self, plan: GraphPlan, loop: Any) -> Any:
        names = ("checkpoint", "checkpoint_pending_writes", "nodes", "channels", "managed", "config", "step", "stop")
        more = {name: getattr(loop, name) for name in ("store", "checkpointer", "updated_channels")}
        starts, keys = plan.graph.trigger_to_nodes, list(plan.graph.builder.channels)
        given = [getattr(loop, name) for name in names]
        tasks = prepare_next_tasks(*given, for_execution=True, manager=None, trigger_to_nodes=starts, **more)

        def compare(found: Any, expected: Any) -> None:
            metadata = {"run_id": loop.config["metadata"]["run_id"]}
            assert loop.config == ensure_config(plan.graph.config, {**loop.config, "metadata": metadata})
            assert list(found) == list(expected)
            for task_id, task in expected.items():
                self.counts["sent" if task.path[0] == PUSH else "triggered"] += 1
                ours, theirs = outline(found[task_id], keys), outline(task, keys)
                assert [key for key in theirs.keys() | ours.keys() if ours.get(key) != theirs.get(key)] == []

        return tasks, compare

    def _apply(self, plan: GraphPlan, checkpoint: Any, channels: Any, tasks: Any) -> Any:
        copied, copies = deepcopy(checkpoint), {name: channel.copy() for name, channel in channels.items()}
        updated = apply_writes(copied, copies, tasks, increment, plan.graph.trigger_to_nodes)

        def compare(found: Any, expected: Any) -> None:
            assert (found, checkpoint, held(channels)) == (expected, copied, held(copies))

        return updated, compare

    def _checkpoint(self, _: GraphPlan, last: Any, channels: Any, step: int, updated: Any) -> Any:
        copies = {name: channel.copy() for name, channel in channels.items()}
        made = create_checkpoint(deepcopy(last), copies, step, updated_channels=updated, get_next_version=increment)

        def compare(found: Any, expected: Any) -> None:
            assert list(found) == list(expected)
            for checkpoint in (found, expected):
                assert uuid.UUID(checkpoint["id"]).version == 6
                assert datetime.fromisoformat(checkpoint["ts"]).tzinfo is UTC
            assert saved(found) == saved(expected)

        return made, compare


def outline(task: Any, keys: list[str]) -> dict[str, Any]:
    """All that a task is, with what is made for each alone by what it says."""
    fields = {field.name: getattr(task, field.name) for field in dataclasses.fields(task)}
    config = dict(fields.pop("config"))
    configurable = dict(config.pop("configurable"))
    read, pad = configurable.pop(CONFIG_KEY_READ), configurable.pop(CONFIG_KEY_SCRATCHPAD)
    assert configurable.pop(CONFIG_KEY_SEND).__self__ is task.writes
    configurable["read"] = read(keys, True)
    configurable["pad"] = (pad.step, pad.stop, pad.resume, pad.get_null_resume())
    return {**fields, **config, **configurable}


def held(channels: Any) -> dict[str, Any]:
    return {name: channel.get() for name, channel in channels.items() if channel.is_available()}


def saved(checkpoint: Any) -> dict[str, Any]:
    values = {
        name: (value.items, value.new, value.frozen) if isinstance(value, LogRef) else value
        for name, value in checkpoint["channel_values"].items()
    }
    return {**checkpoint, "channel_values": values, "id": None, "ts": None}


@KINDS
async def test_every_step_of_a_run_is_the_librarys(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, text: str, messages: list[str]
) -> None:
    compared = Compared(monkeypatch)
    await outcome(lab, text, messages)
    for fault in compared.faults:
        raise fault
    kinds = {"tasks", "apply", "checkpoint", "triggered", *(["sent"] if text in {LOOP, EACH} else [])}
    assert compared.counts.keys() == kinds


async def test_a_graph_that_never_ends_is_ended(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    await lab.open(HEAD + LOOP, files=FILES)

    async def limited(plan: GraphPlan, given: Any, config: RunnableConfig, **more: Any) -> None:
        await graph_loop.run_graph(plan, given, {**config, "recursion_limit": 1}, **more)

    monkeypatch.setattr(run, "run_graph", limited)
    row = await lab.run("use the tools")
    assert row.status == "failed"
    assert row.error is not None
    assert row.error["type"] == GraphRecursionError.__name__
