"""`type: graph`: graphs that people already have, as nodes."""

import asyncio
from typing import Any

import orjson
import pytest
from langsmith.utils import tracing_is_enabled

from integration.engine.conftest import OpenLab
from integration.engine.lab import Lab

GRAPHS = '''
import asyncio, operator, pathlib, time
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.language_models import BaseChatModel
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import interrupt


class Model(BaseChatModel):
    """Asks for the tool when there is a question mark, and tells a result."""

    usage: dict = {"input_tokens": 100, "output_tokens": 7, "total_tokens": 107,
                   "input_token_details": {"cache_read": 40}, "output_token_details": {"reasoning": 3}}

    @property
    def _llm_type(self): return "test"

    def _get_ls_params(self, stop=None, **kwargs):
        return {"ls_provider": "testers", "ls_model_name": "model-1", "ls_model_type": "chat"}

    def bind_tools(self, tools, **kwargs): return self

    def _answer(self, messages):
        last = messages[-1]
        if isinstance(last, HumanMessage) and "?" in last.text:
            return AIMessage(content="", tool_calls=[{"name": "double", "args": {"n": 21}, "id": "call_1"}],
                             usage_metadata=self.usage)
        return AIMessage(content=f"It is {last.text}.", usage_metadata=self.usage)

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        return ChatResult(generations=[ChatGeneration(message=self._answer(messages))])

    async def _astream(self, messages, stop=None, run_manager=None, **kwargs):
        answer = self._answer(messages)
        if answer.tool_calls:
            yield ChatGenerationChunk(message=AIMessageChunk(content="", tool_calls=answer.tool_calls))
        for word in answer.content.split():
            piece = ChatGenerationChunk(message=AIMessageChunk(content=word + " "))
            if run_manager: await run_manager.on_llm_new_token(piece.text, chunk=piece)
            yield piece
        yield ChatGenerationChunk(message=AIMessageChunk(content="", usage_metadata=self.usage))


@tool
def double(n: int) -> int:
    "Doubles a number."
    return 2 * n

model = Model()

async def think(state: MessagesState):
    return {"messages": [await model.ainvoke(state["messages"])]}

def sync_think(state: MessagesState):
    return {"messages": [model.invoke(state["messages"])]}

def after(state: MessagesState):
    return "act" if state["messages"][-1].tool_calls else END

def react(node):
    builder = StateGraph(MessagesState)
    builder.add_node("think", node)
    builder.add_node("act", ToolNode([double]))
    builder.add_edge(START, "think")
    builder.add_conditional_edges("think", after, ["act", END])
    builder.add_edge("act", "think")
    return builder

builder = react(think)
compiled = react(think).compile(checkpointer=InMemorySaver(), name="compiled")
synchronous = react(sync_think).compile()

async def ask(state: MessagesState):
    answer = interrupt({"question": "Which way?", "options": ["left", "right"]})
    return {"messages": [AIMessage(content=f"going {answer}")]}

asking = StateGraph(MessagesState).add_node("ask", ask).add_edge(START, "ask").compile()

class Counting(TypedDict):
    count: int
    seen: Annotated[list, operator.add]

async def first(state: Counting):
    return {"count": state["count"] + 1, "seen": ["first"]}

async def second(state: Counting):
    return {"count": state["count"] * 10, "seen": ["second"]}

counting = (StateGraph(Counting).add_node("first", first).add_node("second", second)
            .add_edge(START, "first").add_edge("first", "second").compile())

async def slow_first(state: Counting):
    await asyncio.sleep(0.15)
    return {"count": state["count"] + 1, "seen": ["first"]}

slow = (StateGraph(Counting).add_node("first", slow_first).add_node("second", second)
        .add_edge(START, "first").add_edge("first", "second").compile())

not_a_graph = 42

class Blocking(TypedDict):
    file: str

def block(state: Blocking):
    file = pathlib.Path(state["file"])
    file.write_text("begun")
    time.sleep(0.3)
    file.write_text("ended")

blocking = StateGraph(Blocking).add_node("block", block).add_edge(START, "block").compile()
'''
ONE = """
nodes: {bot: {type: graph, ref: "tools.graphs:%s"}}
edges: [{from: START, to: bot}, {from: bot, to: END}]
"""


async def open_graph(lab: Lab, name: str, text: str = ONE, **more: Any) -> None:
    await lab.open(text % name if "%s" in text else text, files={"tools/graphs.py": GRAPHS}, **more)


async def test_a_builder_answers_with_its_new_messages_as_ours(lab: Lab) -> None:
    await open_graph(lab, "builder")
    run = await lab.run("Twice 21?")
    assert run.status == "completed", run.error
    messages = (await lab.state())["messages"]
    assert [(m["role"], m["content"]) for m in messages] == [
        ("user", "Twice 21?"),
        ("assistant", None),
        ("tool", "42"),
        ("assistant", "It is 42. "),
    ]
    assert messages[1]["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "double", "arguments": '{"n":21}'}}
    ]
    assert messages[2]["tool_call_id"] == "call_1"
    logged = await lab.records("message")
    assert [r["record_id"] for r in logged] == [m["id"] for m in messages]


async def test_what_it_calls_is_logged_priced_and_counted(lab: Lab) -> None:
    await open_graph(lab, "compiled")
    await lab.run("Twice 21?")
    kinds = [r["record_type"] for r in await lab.records() if r["record_type"] not in ("step", "run", "message")]
    one_call = ["llm_request", "llm_response", "token_usage", "cost"]
    assert kinds == [*one_call, "tool_call", "tool_call", *one_call]
    [request, _] = await lab.records("llm_request")
    assert (request["provider"], request["model"], request["graph_node"]) == ("langchain:testers", "model-1", "think")
    [usage, _] = await lab.records("token_usage")
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (100, 7)
    assert (usage["cached_tokens"], usage["reasoning_tokens"]) == (40, 3)
    [intent, result] = await lab.records("tool_call")
    assert (intent["phase"], intent["tool_name"], intent["tool_input"]) == ("intent", "double", {"n": 21})
    assert (result["phase"], result["tool_output"], result["success"]) == ("result", "42", True)
    assert result["tool_call_id"] == "call_1"
    row = await lab.reload()
    assert (row.prompt_tokens, row.completion_tokens) == (200, 14)
    [_, answer] = await lab.records("llm_response")
    said = (await lab.records("message"))[-1]
    assert said["record_id"] == answer["message_id"]  # the message a client saw streamed is the one recorded


async def test_synchronous_nodes_are_recorded_in_order_too(lab: Lab) -> None:
    await open_graph(lab, "synchronous")
    run = await lab.run("Twice 21?")
    assert run.status == "completed", run.error
    assert (await lab.conversation())[-1][1].strip() == "It is 42."
    kinds = [r["record_type"] for r in await lab.records() if r["record_type"] not in ("step", "run", "message")]
    one_call = ["llm_request", "llm_response", "token_usage", "cost"]
    assert kinds == [*one_call, "tool_call", "tool_call", *one_call]


async def test_tokens_are_streamed_while_they_come(lab: Lab) -> None:
    await open_graph(lab, "builder")
    assert lab.session is not None
    async with lab.runtime.hub.subscribe(lab.session.ref, after_seq=0, types=["message_delta"]) as deltas:
        heard = asyncio.create_task(_text(deltas, end=". "))
        await lab.run("hello")
        assert await asyncio.wait_for(heard, 5) == "It is hello. "
    [response] = await lab.records("llm_response")
    assert response["time_to_first_token"] is not None


async def _text(deltas: Any, *, end: str) -> str:
    text = ""
    while not text.endswith(end):
        text += "".join([orjson.loads(event.envelope)["data"]["text"] for event in await deltas.next_batch()])
    return text


async def test_a_question_of_the_graph_is_asked_and_answered(open_lab: OpenLab) -> None:
    async with open_lab() as lab:
        await open_graph(lab, "asking")
        run = await lab.run("where to")
        assert run.status == "paused"
        [question] = await lab.questions()
        assert question.node == "bot"
        assert question.question["value"] == {"question": "Which way?", "options": ["left", "right"]}
        session, run_id = lab.session, lab.run_id
    async with open_lab() as lab:  # also after a restart
        lab.session, lab.run_id = session, run_id
        run = await lab.answer("left")
        assert run.status == "completed", run.error
        assert (await lab.conversation())[-1] == ("assistant", "going left")
        assert len(await lab.records("interrupt", where=lambda r: r["phase"] == "asked")) == 1


MAPPED = """
state: {schema: {type: object, properties: {total: {type: integer}, trace: {type: array}}}}
nodes:
  bot:
    type: graph
    ref: "tools.graphs:counting"
    input: {count: "state.total + 1"}
    output: {total: state.count, trace: state.seen}
edges: [{from: START, to: bot}, {from: bot, to: END}]
"""


async def test_its_state_is_mapped_by_expressions(lab: Lab) -> None:
    await open_graph(lab, "counting", MAPPED, initial_state={"total": 3})
    run = await lab.run()
    assert run.status == "completed", run.error
    state = await lab.state()
    assert (state["total"], state["trace"]) == (50, ["first", "second"])


async def test_a_pause_holds_inside_the_graph_and_goes_on_there(lab: Lab) -> None:
    text = MAPPED.replace("counting", "slow")
    await open_graph(lab, "slow", text, initial_state={"total": 3})
    await lab.start()
    await asyncio.sleep(0.05)
    run = await lab.runtime.control.pause(await lab.reload(), by="test")
    assert run.status == "paused"
    run = await lab.resume()
    assert run.status == "completed", run.error
    state = await lab.state()
    assert (state["total"], state["trace"]) == (50, ["first", "second"])


async def test_the_whole_graph_is_one_step(lab: Lab) -> None:
    text = """
    state: {schema: {type: object, properties: {total: {type: integer}}}}
    nodes:
      nap: {type: function, ref: "tools.naps:nap"}
      bot: {type: graph, ref: "tools.graphs:counting", input: {count: "1"}, output: {total: state.count}}
      again: {type: graph, ref: "tools.graphs:counting", input: {count: state.total}, output: {total: state.count}}
    edges: [{from: START, to: nap}, {from: nap, to: bot}, {from: bot, to: again}, {from: again, to: END}]
    """
    lab.write({"tools/naps.py": "import asyncio\nasync def nap(state):\n    await asyncio.sleep(0.1)\n"})
    await open_graph(lab, "counting", text)
    await lab.start()
    await asyncio.sleep(0.03)
    assert (await lab.runtime.control.pause(await lab.reload(), by="test")).status == "paused"
    run = await lab.resume(step=True)
    assert (run.status, (await lab.state())["total"]) == ("paused", 20)
    run = await lab.resume(step=True)
    assert (run.status, (await lab.state())["total"]) == ("completed", 210)


async def test_limits_hold_inside_the_graph(lab: Lab) -> None:
    await open_graph(lab, "builder", ONE + "limits: {max_iterations: 1}\n")
    run = await lab.run("Twice 21?")
    assert run.status == "paused", run.error
    [question] = await lab.questions()
    assert (question.kind, question.node, question.question["limit"]) == ("budget", "bot", "max_iterations")
    run = await lab.answer({"max_iterations": 5})
    assert run.status == "completed", run.error
    assert (await lab.conversation())[-1] == ("assistant", "It is 42. ")
    assert len(await lab.records("llm_request")) == 2  # the first call was not made again


async def test_limits_can_fail_the_run_instead(lab: Lab) -> None:
    await open_graph(lab, "builder", ONE + "limits: {max_iterations: 1, on_exceed: fail}\n")
    run = await lab.run("Twice 21?")
    assert run.status == "failed"
    assert (await lab.error())["type"] == "limit_reached"


async def test_something_else_than_a_graph_is_named(lab: Lab) -> None:
    await open_graph(lab, "not_a_graph")
    run = await lab.run("hello")
    assert run.status == "failed"
    assert (await lab.error())["type"] == "graph_unusable"


async def test_the_context_and_the_store_are_its_own(lab: Lab) -> None:
    graphs = """
    from typing import TypedDict
    from langgraph.graph import START, StateGraph
    from langgraph.runtime import Runtime
    from langgraph.store.memory import InMemoryStore

    class State(TypedDict):
        context: str
        kept: str

    store = InMemoryStore()
    store.put(("a",), "key", {"text": "kept"})

    async def look(state: State, runtime: Runtime):
        item = await runtime.store.aget(("a",), "key")
        return {"context": type(runtime.context).__name__ + str(len(runtime.context)), "kept": item.value["text"]}

    graph = StateGraph(State).add_node("look", look).add_edge(START, "look").compile(store=store)
    """
    lab.write({"tools/own.py": graphs})
    await lab.open(
        """
        nodes: {bot: {type: graph, ref: "tools.own:graph"}}
        edges: [{from: START, to: bot}, {from: bot, to: END}]
        """
    )
    run = await lab.run("hello")
    assert run.status == "completed", run.error
    state = await lab.state()
    assert (state["context"], state["kept"]) == ("_NoContext0", "kept")


async def test_a_stopped_run_has_no_thread_left(lab: Lab) -> None:
    done = lab.path / "done"
    await open_graph(
        lab,
        "blocking",
        f"""
        nodes: {{bot: {{type: graph, ref: "tools.graphs:blocking", input: {{file: "'{done}'"}}, output: {{}}}}}}
        edges: [{{from: START, to: bot}}, {{from: bot, to: END}}]
        """,
    )
    await lab.start("hello")
    while not done.exists():
        await asyncio.sleep(0.01)
    run = await lab.runtime.control.stop(await lab.reload(), by="test")
    assert run.status == "stopped"
    assert done.read_text() == "ended"


async def test_no_data_leave_for_a_tracing_service(open_lab: OpenLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGCHAIN_TRACING_V2", "true")
    monkeypatch.setenv("LANGSMITH_TRACING", "true")
    async with open_lab() as lab:
        assert not tracing_is_enabled()
        await open_graph(lab, "builder")
        assert (await lab.run("hello")).status == "completed"
