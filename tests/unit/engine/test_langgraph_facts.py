"""What the engine relies on in LangGraph, one test for each fact: an upgrade that changes one fails here, loudly."""

import asyncio
import operator
import os
import subprocess
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tracers._streaming import _StreamingCallbackHandler
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphBubbleUp, GraphDrained
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import RunControl, Runtime
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, Overwrite, Send, interrupt

import modular_agent.engine  # noqa: F401  # sets what the serializer reads when it is imported


class State(TypedDict, total=False):
    seen: Annotated[list[str], operator.add]
    n: Annotated[int, operator.add]


def graph_of(nodes: dict[str, Any], edges: Sequence[tuple[str, str]], saver: Any, schema: Any = State) -> Any:
    builder = StateGraph(schema)
    for name, node in nodes.items():
        builder.add_node(name, node)
    for source, target in edges:
        builder.add_edge(source, target)
    return builder.compile(checkpointer=saver)


def says(name: str) -> Any:
    async def node(state: State) -> State:
        return {"seen": [name]}

    return node


CONFIG: Any = {"configurable": {"thread_id": "t"}}
ABC = [(START, "a"), ("a", "b"), ("b", "c"), ("c", END)]


def test_strict_msgpack_makes_a_shallow_copy_of_the_saver() -> None:
    saver = InMemorySaver()
    graph = graph_of({"a": says("a")}, [(START, "a")], saver)
    assert graph.checkpointer is not saver
    assert graph.checkpointer.storage is saver.storage


async def test_a_failing_write_of_a_task_is_reported_only_when_the_run_ends() -> None:
    ran: list[str] = []

    class Failing(InMemorySaver):
        async def aput_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
            if any(value == ["a"] for _, value in writes):
                raise OSError("refused")
            await super().aput_writes(config, writes, task_id, task_path)

    def noting(name: str) -> Any:
        async def node(state: State) -> State:
            await asyncio.sleep(0.005)
            ran.append(name)
            return {"seen": [name]}

        return node

    graph = graph_of({name: noting(name) for name in "abc"}, ABC, Failing())
    with pytest.raises(OSError, match="refused"):
        await graph.ainvoke({"seen": []}, CONFIG, durability="sync")
    assert ran == ["a", "b", "c"]


async def test_a_failing_checkpoint_stops_the_run_before_the_next_step() -> None:
    ran: list[str] = []

    class Failing(InMemorySaver):
        async def aput(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
            if metadata["step"] == 1:
                raise OSError("refused")
            return await super().aput(config, checkpoint, metadata, new_versions)

    def noting(name: str) -> Any:
        async def node(state: State) -> State:
            ran.append(name)
            return {"seen": [name]}

        return node

    graph = graph_of({name: noting(name) for name in "abc"}, ABC, Failing())
    with pytest.raises(OSError, match="refused"):
        await graph.ainvoke({"seen": []}, CONFIG, durability="sync")
    assert ran == ["a"]


async def test_max_concurrency_holds_back_what_finished_tasks_wrote() -> None:
    """It guards the saver with the nodes' own semaphore: so we have one of ours, and never pass it."""
    order: list[str] = []

    class Noting(InMemorySaver):
        async def aput_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
            order.extend(f"write {value[0]}" for channel, value in writes if channel == "seen" and value)
            await super().aput_writes(config, writes, task_id, task_path)

    async def item(state: Any) -> State:
        order.append(f"start {state['i']}")
        await asyncio.sleep(0.01)
        return {"seen": [str(state["i"])]}

    builder = StateGraph(State)
    builder.add_node("item", item)
    builder.add_conditional_edges(START, lambda _: [Send("item", {"i": i}) for i in range(8)], ["item"])
    graph = builder.compile(checkpointer=Noting())
    await graph.ainvoke({"seen": []}, {**CONFIG, "max_concurrency": 2}, durability="sync")
    assert order.index("write 0") > order.index("start 7")


async def test_an_input_with_the_run_id_of_the_checkpoint_is_taken_for_a_resume() -> None:
    graph = graph_of({"a": says("a")}, [(START, "a")], InMemorySaver())
    config = {**CONFIG, "metadata": {"run_id": "run_1"}}
    await graph.ainvoke({"seen": ["one"]}, config, durability="sync")
    await graph.ainvoke({"seen": ["two"]}, config, durability="sync")
    state = await graph.aget_state(CONFIG)
    assert state.values["seen"] == ["one", "a"]
    await graph.ainvoke({"seen": ["two"]}, {**CONFIG, "metadata": {"run_id": "run_2"}}, durability="sync")
    assert (await graph.aget_state(CONFIG)).values["seen"] == ["one", "a", "two", "a"]


async def test_a_plain_prune_empties_a_delta_channel_without_an_error() -> None:
    """The reason why our pruning keeps ancestors: nothing else would tell."""

    class Deltas(TypedDict):
        found: Annotated[list[str], DeltaChannel(lambda old, new: [*old, *(i for each in new for i in each)], list)]

    async def find(state: Any) -> Any:
        return {"found": ["x"]}

    saver = InMemorySaver()
    graph = graph_of({"find": find}, [(START, "find")], saver, Deltas)
    await graph.ainvoke({"found": ["in"]}, CONFIG, durability="sync")
    assert (await graph.aget_state(CONFIG)).values["found"] == ["in", "x"]
    newest = max(saver.storage["t"][""])
    for checkpoint_id in [each for each in saver.storage["t"][""] if each != newest]:
        del saver.storage["t"][""][checkpoint_id]
    assert (await graph.aget_state(CONFIG)).values["found"] == []


async def test_a_routing_function_that_raised_is_never_asked_again() -> None:
    """So ours never raise: a condition that fails leads to a hidden node, which can fail and be retried."""
    asked = 0

    def route(state: State) -> str:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise ValueError("condition")
        return "b"

    builder = StateGraph(State)
    builder.add_node("a", says("a"))
    builder.add_node("b", says("b"))
    builder.add_edge(START, "a")
    builder.add_conditional_edges("a", route, ["b"])
    graph = builder.compile(checkpointer=InMemorySaver())
    with pytest.raises(ValueError, match="condition"):
        await graph.ainvoke({"seen": []}, CONFIG, durability="sync")
    result = await graph.ainvoke(None, CONFIG, durability="sync")
    assert (asked, result["seen"]) == (1, ["a"])  # it ended "successfully", without b


def test_tracing_is_off_whatever_the_environment_says() -> None:
    code = (
        "import langsmith, langsmith.utils\n"
        "assert langsmith.utils.tracing_is_enabled()\n"
        "langsmith.configure(enabled=False)\n"
        "assert not langsmith.utils.tracing_is_enabled()\n"
    )
    for variable in ("LANGSMITH_TRACING", "LANGCHAIN_TRACING_V2"):
        environment = {**os.environ, variable: "true", "LANGSMITH_API_KEY": "x"}
        subprocess.run([sys.executable, "-c", code], env=environment, check=True)


async def test_sync_durability_needs_a_saver() -> None:
    graph = graph_of({"a": says("a")}, [(START, "a")], None)
    with warnings.catch_warnings(action="ignore"), pytest.raises(AttributeError):
        await graph.ainvoke({"seen": []}, durability="sync")


async def test_our_own_bubble_lets_siblings_finish_and_retry_runs_only_the_failed_one() -> None:
    class Failed(GraphBubbleUp):
        pass

    ran: list[str] = []

    async def bad(state: State) -> State:
        ran.append("bad")
        if len(ran) < 3:
            raise Failed
        return {"seen": ["bad"]}

    async def good(state: State) -> State:
        await asyncio.sleep(0.02)
        ran.append("good")
        return {"seen": ["good"]}

    graph = graph_of({"bad": bad, "good": good}, [(START, "bad"), (START, "good")], InMemorySaver())
    with pytest.raises(Failed):
        await graph.ainvoke({"seen": []}, CONFIG, durability="sync")
    result = await graph.ainvoke(None, CONFIG, durability="sync")
    assert ran == ["bad", "good", "bad"]
    assert sorted(result["seen"]) == ["bad", "good"]


async def test_a_drain_holds_before_the_next_step_and_none_goes_on() -> None:
    control = RunControl()

    async def draining(state: State, runtime: Runtime) -> State:
        control.request_drain("pause")
        return {"seen": ["a"]}

    graph = graph_of({"a": draining, "b": says("b"), "c": says("c")}, ABC, InMemorySaver())
    with pytest.raises(GraphDrained) as held:
        await graph.ainvoke({"seen": []}, CONFIG, durability="sync", control=control)
    assert held.value.reason == "pause"
    assert (await graph.aget_state(CONFIG)).next == ("b",)
    result = await graph.ainvoke(None, CONFIG, durability="sync", control=RunControl())
    assert result["seen"] == ["a", "b", "c"]


async def test_a_drain_in_the_last_step_lets_the_run_complete() -> None:
    control = RunControl()

    async def last(state: State) -> State:
        control.request_drain("pause")
        return {"seen": ["a"]}

    graph = graph_of({"a": last}, [(START, "a"), ("a", END)], InMemorySaver())
    assert (await graph.ainvoke({"seen": []}, CONFIG, durability="sync", control=control))["seen"] == ["a"]


async def test_the_ids_of_questions_are_stable_and_differ_by_position() -> None:
    async def ask(state: State) -> State:
        return {"seen": [interrupt("one"), interrupt("two")]}

    graph = graph_of({"ask": ask}, [(START, "ask")], InMemorySaver())
    [first] = (await graph.ainvoke({"seen": []}, CONFIG, durability="sync"))["__interrupt__"]
    [again] = (await graph.aget_state(CONFIG)).interrupts
    assert first.id == again.id
    [second] = (await graph.ainvoke(Command(resume={first.id: "A"}), CONFIG, durability="sync"))["__interrupt__"]
    assert second.id != first.id
    result = await graph.ainvoke(Command(resume={second.id: "B"}), CONFIG, durability="sync")
    assert result["seen"] == ["A", "B"]


async def test_an_edit_at_resume_keeps_finished_siblings_and_open_questions() -> None:
    ran: list[str] = []

    async def done(state: State) -> State:
        ran.append("done")
        return {"seen": ["done"]}

    async def ask(state: State) -> State:
        return {"seen": [interrupt("?")]}

    graph = graph_of({"done": done, "ask": ask}, [(START, "done"), (START, "ask")], InMemorySaver())
    [question] = (await graph.ainvoke({"seen": [], "n": 1}, CONFIG, durability="sync"))["__interrupt__"]
    edit = Command(update={"n": Overwrite(2)}, resume={question.id: "yes"})
    result = await graph.ainvoke(edit, CONFIG, durability="sync")
    assert (ran, result["n"], sorted(result["seen"])) == (["done"], 2, ["done", "yes"])


async def test_results_of_sent_tasks_come_in_the_order_in_which_they_were_sent() -> None:
    async def item(state: Any) -> State:
        await asyncio.sleep(0.03 - state["i"] * 0.005)
        return {"seen": [str(state["i"])]}

    builder = StateGraph(State)
    builder.add_node("item", item)
    builder.add_conditional_edges(START, lambda _: [Send("item", {"i": i}) for i in range(5)], ["item"])
    result = await builder.compile(checkpointer=InMemorySaver()).ainvoke({"seen": []}, CONFIG, durability="sync")
    assert result["seen"] == list("01234")


async def test_a_handler_with_the_private_marker_makes_models_stream() -> None:
    tokens: list[str] = []

    class Plain(BaseCallbackHandler):
        run_inline = True

        def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:
            tokens.append(token)

    class Marked(Plain, _StreamingCallbackHandler[Any]):
        def tap_output_aiter(self, run_id: Any, output: Any) -> Any:
            return output

        def tap_output_iter(self, run_id: Any, output: Any) -> Any:
            return output

    def model() -> GenericFakeChatModel:
        return GenericFakeChatModel(messages=iter([AIMessage("one two three")]))

    await model().ainvoke("hi", {"callbacks": [Plain()]})
    assert tokens == []
    await model().ainvoke("hi", {"callbacks": [Marked()]})
    assert "".join(tokens) == "one two three"


async def test_a_graph_called_in_a_node_takes_store_and_context_from_where_we_put_them() -> None:
    seen: list[Any] = []

    async def look(state: State, runtime: Runtime) -> State:
        seen.append((runtime.context, runtime.store))
        return {"seen": ["inner"]}

    store = InMemoryStore()
    inner = StateGraph(State).add_node("look", look).add_edge(START, "look").compile(store=store)

    async def outer(state: State, config: RunnableConfig) -> State:
        await inner.ainvoke({"seen": []}, config)
        runtime = config["configurable"]["__pregel_runtime"]
        config["configurable"] = {**config["configurable"], "__pregel_runtime": runtime.override(store=store)}
        await inner.ainvoke({"seen": []}, config, context={"own": True})
        return {}

    builder = StateGraph(State, context_schema=dict)
    builder.add_node("outer", outer)
    builder.add_edge(START, "outer")
    await builder.compile().ainvoke({"seen": []}, context={"ours": True})
    assert seen == [({"ours": True}, None), ({"own": True}, store)]


async def test_a_sub_graph_called_twice_in_a_task_starts_anew() -> None:
    """Why a graph node asks about its budget in place, and never calls its graph a second time."""
    namespaces: list[str] = []

    async def look(state: State, runtime: Runtime) -> State:
        assert runtime.execution_info is not None
        namespaces.append(runtime.execution_info.checkpoint_ns)
        return {}

    inner = StateGraph(State).add_node("look", look).add_edge(START, "look").compile()

    async def outer(state: State, config: RunnableConfig) -> State:
        await inner.ainvoke({"seen": []}, config)
        await inner.ainvoke({"seen": []}, config)
        return {}

    graph = graph_of({"outer": outer}, [(START, "outer")], InMemorySaver())
    await graph.ainvoke({"seen": []}, CONFIG, durability="sync")
    first, second = (ns.split("|")[0] + "|" + ns.split("|")[1].partition(":")[0] for ns in namespaces)
    assert first != second
