"""Nodes and decisions run in the run's own task, without LangChain's callbacks, and as LangGraph would run them."""

import asyncio
import threading
from typing import Any, TypedDict

import pytest
from langchain_core.callbacks import AsyncCallbackHandler
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

import modular_agent.engine  # noqa: F401  # sets what the serializer reads when it is imported
from modular_agent.engine.sequence import Decision, NodeSequence, slim


class State(TypedDict, total=False):
    n: int


class Place:
    """Where the pieces of a graph ran."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, asyncio.Task[Any] | None]] = []

    def note(self, name: str) -> None:
        self.seen.append((name, threading.get_ident(), asyncio.current_task()))


def graph_of(place: Place, body: Any = None) -> Any:
    builder = StateGraph(State, context_schema=dict)

    async def add(state: State) -> State:
        place.note("node")
        return {"n": state["n"] + (body() if body else 1)}

    def decide(state: State, context: dict[str, int]) -> list[str]:
        place.note("decision")
        return ["add" if state["n"] < context["to"] else END]

    builder.add_node("add", add)
    builder.add_edge(START, "add")
    builder.add_conditional_edges("add", Decision(decide), ["add", END])
    graph = builder.compile(checkpointer=InMemorySaver())
    slim(graph)
    return graph


def config(**more: Any) -> Any:
    return {"configurable": {"thread_id": "t"}, **more}


async def test_langgraph_executes_every_node_with_writers_as_our_sequence():
    graph = graph_of(Place())
    assert isinstance(graph.nodes["add"].node, NodeSequence)


async def test_nodes_and_decisions_run_in_the_task_and_thread_of_the_run():
    place = Place()
    result = await graph_of(place).ainvoke({"n": 0}, config(), context={"to": 2}, durability="sync")
    assert result == {"n": 2}
    assert [name for name, _, _ in place.seen] == ["node", "decision"] * 2
    assert {(thread, task) for _, thread, task in place.seen} == {(threading.get_ident(), asyncio.current_task())}


async def test_an_interrupt_finds_its_task_and_its_answer():
    graph = graph_of(Place(), body=lambda: interrupt("how many?"))
    await graph.ainvoke({"n": 0}, config(), context={"to": 3}, durability="sync")
    asked = (await graph.aget_state(config())).interrupts
    assert [each.value for each in asked] == ["how many?"]
    assert await graph.ainvoke(Command(resume={asked[0].id: 5}), config(), context={"to": 3}) == {"n": 5}


async def test_an_error_of_a_node_is_the_runs():
    def fail() -> int:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await graph_of(Place(), body=fail).ainvoke({"n": 0}, config(), context={"to": 1}, durability="sync")


async def test_no_callback_is_told_of_a_node():
    told: list[str] = []

    class Watcher(AsyncCallbackHandler):
        async def on_chain_start(self, *_: Any, **more: Any) -> None:
            told.append(str(more.get("name")))

    await graph_of(Place()).ainvoke({"n": 0}, config(callbacks=[Watcher()]), context={"to": 1})
    assert told == ["LangGraph"]
