"""The workflows of the chaos tests, and the tools that leave traces outside of the server."""

from typing import Any

from chaos.planned_model import plan

__all__ = ["KINDS", "TOOLS", "WORKFLOWS", "run_input"]

MODELS = """
models:
  main: {provider: openai, model: planned, base_url: "${env.OPENAI_BASE_URL}", timeout: 60s}
"""
TOOLS_OF_A_LOOP = """
tools:
  note: {ref: "tools.traces:note", effect: idempotent}
  look: {ref: "tools.traces:look", effect: read}
  pay: {ref: "tools.traces:pay"}
"""
LOOP = """
nodes:
  think: {type: llm, model: main, tools: [note, look, pay]}
  act: {type: tools}
edges:
  - {from: START, to: think}
  - {from: think, to: act, when: has_tool_calls}
  - {from: think, to: END}
  - {from: act, to: think}
"""
AGENT = """
nodes:
  clerk: {type: agent, model: main, tools: [note, look, pay]}
edges:
  - {from: START, to: clerk}
  - {from: clerk, to: END}
"""
FAN = """
state:
  schema: {type: object, properties: {items: {type: array}, found: {type: array}}}
nodes:
  each:
    type: map
    over: state.items
    as: item
    writes: found
    max_parallel: 3
    node: {type: llm, model: main, input: "{{ item }}"}
  close: {type: llm, model: main}
edges:
  - {from: START, to: each}
  - {from: each, to: close}
  - {from: close, to: END}
"""
PARENT = """
nodes:
  inner: {type: workflow, workflow: workflows/react.yaml}
  close: {type: llm, model: main, input: "the end"}
edges:
  - {from: START, to: inner}
  - {from: inner, to: close}
  - {from: close, to: END}
"""
TALK = """
nodes:
  say: {type: llm, model: main}
edges:
  - {from: START, to: say}
  - {from: say, to: END}
"""
LINES = """
nodes:
  one: {type: llm, model: main, input: "one"}
  two: {type: llm, model: main, input: "two"}
  three: {type: llm, model: main, input: "three"}
edges:
  - {from: START, to: one}
  - {from: one, to: two}
  - {from: two, to: three}
  - {from: three, to: END}
"""


def _file(name: str, *parts: str) -> str:
    return f"schema: modular-agent/v1\nname: {name}\n" + "".join(parts)


WORKFLOWS = {
    "react": _file("react", MODELS, TOOLS_OF_A_LOOP, LOOP),
    "agent": _file("agent", MODELS, TOOLS_OF_A_LOOP, AGENT),
    "fan": _file("fan", MODELS, FAN),
    "parent": _file("parent", MODELS, PARENT),
    "talk": _file("talk", MODELS, TALK),
    "lines": _file("lines", MODELS, LINES),
}
KINDS = ("react", "agent", "fan", "parent")

# Each call is one line in a file, written at once and whole; `pay` says in a second one that it came to its end.
TOOLS = '''\
import asyncio
import json
import os
import time


def _trace(**fields):
    handle = os.open("LEDGER", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, (json.dumps(fields) + "\\n").encode())
    os.close(handle)


def note(label: str, context) -> str:
    """Notes a label."""
    _trace(tool="note", label=label, session=context.session_id, key=context.idempotency_key)
    time.sleep(0.02)
    return f"noted {label}"


async def look(label: str, context) -> str:
    """Looks something up."""
    await asyncio.sleep(0.03)
    _trace(tool="look", label=label, session=context.session_id, key=context.idempotency_key)
    return f"looked up {label}"


def pay(label: str, context) -> str:
    """Pays for a label."""
    _trace(tool="pay", label=label, session=context.session_id, key=context.idempotency_key)
    time.sleep(PAY_SECONDS)
    _trace(tool="paid", label=label, session=context.session_id, key=context.idempotency_key)
    return f"paid {label}"
'''


def run_input(kind: str) -> dict[str, Any]:
    """The body of a run of that workflow: calls one by one and in parallel, a map over items, words."""
    if kind == "fan":
        return {"message": "Find it.", "input": {"items": [f"item {number}" for number in range(5)]}}
    steps = plan(["note:a", "look:b", "note:c"], ["pay:d"], ["note:e", "pay:f"], "All of this was done in order.")
    return {"message": steps}
