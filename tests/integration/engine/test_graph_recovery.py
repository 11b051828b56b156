"""A user's graph that fails, is stopped, or stands inside something else."""

import asyncio

from integration.engine.conftest import OpenLab
from integration.engine.lab import Lab

GRAPHS = """
import asyncio, operator, pathlib
from typing import Annotated, Any, TypedDict
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.func import entrypoint
from langgraph.types import interrupt, RetryPolicy
from pydantic import BaseModel

HERE = pathlib.Path(__file__).parent

def note(text):
    with (HERE / "log.txt").open("a") as file: file.write(text + "\\n")

class Found(BaseModel):
    name: str
    score: float = 0.5

class State(TypedDict, total=False):
    topic: str
    found: Annotated[list[Found], operator.add]

async def first(state: State):
    note("first")
    return {"found": [Found(name=state["topic"])]}

async def second(state: State):
    note("second")
    assert isinstance(state["found"][0], Found), type(state["found"][0])
    if not (HERE / "mended").exists(): raise ValueError("broken")
    return {"found": [Found(name="second", score=1)]}

async def slow(state: State):
    note("slow")
    await asyncio.sleep(0.4 if (HERE / "mended").exists() else 30)
    return {"found": []}

def chain(*nodes, **more):
    builder = StateGraph(State)
    for name, node in nodes: builder.add_node(name, node, **more)
    builder.add_edge(START, nodes[0][0])
    for (a, _), (b, _) in zip(nodes, nodes[1:]): builder.add_edge(a, b)
    return builder.compile()

failing = chain(("first", first), ("second", second))
slowly = chain(("first", first), ("slow", slow))
tries = []

async def third_time(state: State):
    note("try")
    if (HERE / "log.txt").read_text().count("try") < 3: raise ConnectionError("again")
    return {"found": []}

patient = chain(("third", third_time), retry_policy=RetryPolicy(initial_interval=0.01, max_attempts=5))

async def ask(state: MessagesState):
    return {"messages": [AIMessage(f"{state['messages'][-1].text}: {interrupt('Sure?')}")]}

asking = StateGraph(MessagesState).add_node("ask", ask).add_edge(START, "ask").compile()

@entrypoint()
async def functional(text: str) -> str:
    return text.upper()
"""
ONE = """
state: {schema: {type: object, properties: {topic: {type: string}, found: {type: array}}}}
nodes: {bot: {type: graph, ref: "tools.graphs:NAME"}}
edges: [{from: START, to: bot}, {from: bot, to: END}]
"""
FILES = {"tools/graphs.py": GRAPHS}


def log(lab: Lab) -> list[str]:
    file = lab.path / "configs/tools/log.txt"
    return file.read_text().splitlines() if file.exists() else []


def mend(lab: Lab) -> None:
    (lab.path / "configs/tools/mended").write_text("")


async def test_a_failure_is_the_nodes_and_a_retry_goes_on_inside(open_lab: OpenLab) -> None:
    async with open_lab() as lab:
        await lab.open(ONE.replace("NAME", "failing"), files=FILES, initial_state={"topic": "cats"})
        assert (await lab.run()).status == "failed"
        error = await lab.error()
        assert (error["node"], error["type"], error["message"]) == ("bot", "ValueError", "broken")
        session, run_id = lab.session, lab.run_id
    async with open_lab() as lab:  # its own types come back as they were, also from the database
        lab.session, lab.run_id = session, run_id
        mend(lab)
        run = await lab.retry()
        assert run.status == "completed", run.error
        assert log(lab) == ["first", "second", "second"]
        state = await lab.state()
        assert state["found"] == [{"name": "cats", "score": 0.5}, {"name": "second", "score": 1.0}]


async def test_a_stopped_graph_goes_on_where_it_was(lab: Lab) -> None:
    await lab.open(ONE.replace("NAME", "slowly"), files=FILES, initial_state={"topic": "cats"})
    await lab.start()
    while "slow" not in log(lab):
        await asyncio.sleep(0.01)
    await lab.runtime.control.stop(await lab.reload(), by="test")
    assert (await lab.run_row()).status == "stopped"
    mend(lab)
    run = await lab.retry()
    assert run.status == "completed", run.error
    assert log(lab) == ["first", "slow", "slow"]


async def test_its_own_retries_are_its_own(lab: Lab) -> None:
    await lab.open(ONE.replace("NAME", "patient"), files=FILES, initial_state={"topic": "cats"})
    run = await lab.run()
    assert run.status == "completed", run.error
    assert log(lab) == ["try"] * 3


async def test_every_item_of_a_map_can_be_a_graph_that_asks(lab: Lab) -> None:
    text = """
    nodes:
      each: {type: map, over: state.items, node: {type: graph, ref: "tools.graphs:asking"}, writes: found}
    edges: [{from: START, to: each}, {from: each, to: END}]
    """
    await lab.open(text, files=FILES, initial_state={"items": ["a", "b"]})
    assert (await lab.run()).status == "paused"
    first, second = await lab.questions()
    assert {first.node, second.node} == {"each.item"}
    await lab.answer("yes", question=first)
    run = await lab.answer("yes", question=second)
    assert run.status == "completed", run.error
    assert (await lab.state())["found"] == ["a: yes", "b: yes"]


async def test_a_graph_inside_a_sub_workflow_asks_with_its_place(lab: Lab) -> None:
    sub = (
        'schema: modular-agent/v1\nname: sub\nnodes: {bot: {type: graph, ref: "tools.graphs:asking"}}\n'
        "edges: [{from: START, to: bot}, {from: bot, to: END}]\n"
    )
    text = """
    nodes: {inner: {type: workflow, workflow: workflows/sub.yaml}}
    edges: [{from: START, to: inner}, {from: inner, to: END}]
    """
    await lab.open(text, files={**FILES, "workflows/sub.yaml": sub})
    assert (await lab.run("hello")).status == "paused"
    assert [q.node for q in await lab.questions()] == ["inner/bot"]
    assert (await lab.answer("yes")).status == "completed"
    assert (await lab.conversation())[-1] == ("assistant", "hello: yes")


async def test_a_functional_graph_is_called_with_the_last_message(lab: Lab) -> None:
    await lab.open(
        """
        nodes: {bot: {type: graph, ref: "tools.graphs:functional"}}
        edges: [{from: START, to: bot}, {from: bot, to: END}]
        """,
        files=FILES,
    )
    run = await lab.run("hello")
    assert run.status == "completed", run.error
    assert await lab.conversation() == [("user", "hello"), ("assistant", "HELLO")]
