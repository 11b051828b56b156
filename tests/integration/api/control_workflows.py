"""Workflows that the tests of control share, and how to read what became of them."""

from typing import Any

from servers.live_server import LiveServer

__all__ = ["STEPS", "TWICE", "messages", "users", "write_steps"]

STEPS = """
models: {main: {provider: scripted, script: scripts/steps.yaml}}
state:
  schema:
    type: object
    properties: {seen: {type: array}, note: {type: string}, score: {type: number}}
    additionalProperties: false
  reducers: {seen: append}
nodes:
  one: {type: llm, model: main}
  two: {type: llm, model: main}
  three: {type: llm, model: main}
edges: [{from: START, to: one}, {from: one, to: two}, {from: two, to: three}, {from: three, to: END}]
"""
TWICE = """
state: {schema: {type: object, properties: {a: {type: string}, b: {type: string}}}}
nodes:
  left: {type: human, question: "Left?", writes: a}
  right: {type: human, question: "Right?", writes: b}
edges: [{from: START, to: left}, {from: START, to: right}, {from: left, to: END}, {from: right, to: END}]
"""


def write_steps(server: LiveServer, *, delay: str = "120ms", name: str = "steps") -> str:
    """Three model calls in a row; answers the path of the workflow."""
    text = STEPS.replace("scripts/steps.yaml", f"scripts/{name}.yaml")
    return server.workflow(text, name=name, otherwise={"reply": "answer", "delay": delay})


async def messages(server: LiveServer, session_id: str) -> list[tuple[str, Any]]:
    """The role and content of each message in the session's state."""
    state = await server.get(f"/sessions/{session_id}/state")
    return [(message["role"], message["content"]) for message in state["messages"]]


async def users(server: LiveServer, session_id: str) -> list[Any]:
    """What people said, in the order of the state."""
    return [content for role, content in await messages(server, session_id) if role == "user"]
