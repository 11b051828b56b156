"""`graph`: an existing LangGraph graph as one node.

It runs in a namespace of its own with our saver and our control, so that it is paused, stopped and resumed like
everything else; its LangChain messages stay inside. Synchronous code in it runs in threads, which nothing can kill: a
stopped run is reported as stopped when they have ended.
"""

import asyncio
import copy
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any, Final, cast

from langchain_core.messages import BaseMessage
from langgraph.pregel import Pregel
from langgraph.runtime import RunControl

from modular_agent.engine.budgets import Need
from modular_agent.engine.errors import GraphUnusable
from modular_agent.engine.expressions import Expression
from modular_agent.engine.nodes.conversation import last_user_text, public, text_of, user_message
from modular_agent.engine.nodes.graph_calls import GraphCalls, OverBudget
from modular_agent.engine.nodes.langchain_messages import from_langchain, plain, to_langchain
from modular_agent.engine.nodes.reading import evaluate
from modular_agent.engine.nodes.spending import within_limits
from modular_agent.engine.nodes.visit import Updates, Visit
from modular_agent.engine.nodes.workflow import as_text
from modular_agent.engine.threads import threads_of
from modular_agent.kit.dataclass import dataclass

__all__ = ["UserGraph"]

_RUNTIME: Final = "__pregel_runtime"  # where LangGraph hands a graph what its parent had
_MESSAGES: Final = "messages"


@dataclass(slots=True)
class _Loaded:
    """The object a reference named last, and the graph made of it."""

    source: object = None
    graph: Any = None  # a compiled LangGraph graph: its overloads are only partly typed


class _NoContext(dict[str, Any]):
    """An empty context that LangGraph does not take for a missing one, in which place it would hand over ours."""

    def __bool__(self) -> bool:
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class UserGraph:
    """The body of a `graph` node. `load` finds the graph or builder; it blocks.

    `inputs` makes the graph's state; without, it gets the conversation, or the keys of this workflow's state that it
    has too. `outputs` makes changes of this workflow's state; without, its new messages go to the conversation, or the
    text of the last one to `writes`. `item` is the name of a map's item, which then is asked in place of the
    conversation.
    """

    reference: str
    load: Callable[[], Any]
    inputs: Mapping[str, Expression] | None
    outputs: Mapping[str, Expression] | None
    writes: str | None
    item: str | None = None
    _loaded: _Loaded = field(default_factory=_Loaded)

    async def __call__(self, visit: Visit) -> Updates:
        within_limits(visit, Need())  # a cycle of graphs without models is bounded by steps and seconds
        graph = await self._graph()
        given = self._given(visit, graph)
        visit.context.binding.foreign[visit.task_id] = visit.node
        calls = GraphCalls(visit)
        try:
            state = await self._run(visit, graph, given, calls)
        except OverBudget:
            assert calls.refusal is not None
            raise calls.refusal from None  # a question of this node's own, or the end
        finally:
            calls.close()
        return self._result(state, given, calls)

    async def _graph(self) -> Any:
        """The graph, compiled without a saver of its own; the file is read again when it has changed."""
        source = await asyncio.to_thread(self.load)
        if source is not self._loaded.source or self._loaded.graph is None:
            self._loaded.graph = await asyncio.to_thread(_without_saver, source, self.reference)
            self._loaded.source = source
        return self._loaded.graph

    async def _run(self, visit: Visit, graph: Any, given: Any, calls: GraphCalls) -> Any:
        configurable: dict[str, Any] = dict(visit.config.get("configurable") or {})
        if graph.store is not None and (runtime := configurable.get(_RUNTIME)) is not None:
            configurable[_RUNTIME] = runtime.override(store=graph.store)  # else it would get ours: none
        config = {**visit.config, "configurable": configurable, "callbacks": [calls]}
        # In step mode the whole graph is one step: a hold asked for by a neighbour must not reach into it.
        control = RunControl() if visit.context.step_mode else visit.context.control
        with threads_of(visit.context.live, visit.node):
            return await graph.ainvoke(given, config, context=_NoContext(), durability="sync", control=control)

    # -- input -------------------------------------------------------------------------------------------------

    def _given(self, visit: Visit, graph: Any) -> Any:
        if self.inputs is not None:
            made = {key: evaluate(visit, each) for key, each in self.inputs.items()}
            if _MESSAGES in made and _holds_messages(made[_MESSAGES]):
                made[_MESSAGES] = to_langchain(made[_MESSAGES])
            return made
        keys = _input_keys(graph)
        sent: Mapping[str, Any] = visit.sent or {}
        if _MESSAGES in keys:
            if self.item is not None:
                return {_MESSAGES: to_langchain([user_message(as_text(sent[self.item]))])}
            return {_MESSAGES: to_langchain(visit.state.get(_MESSAGES) or [])}
        known = {**public(visit.state), **sent}
        shared = {key: value for key, value in known.items() if key in keys}
        return (
            shared if shared or hasattr(graph, "builder") else last_user_text(visit.state)
        )  # or a function's argument

    # -- output ------------------------------------------------------------------------------------------------

    def _result(self, state: Any, given: Any, calls: GraphCalls) -> Updates:
        values = cast("Mapping[str, Any]", state) if isinstance(state, Mapping) else None
        if self.outputs is not None:
            view = cast("dict[str, Any]", plain(values)) if values is not None else {"output": plain(state)}
            return {key: each.evaluate(view) for key, each in self.outputs.items()}
        messages = _langchain(values.get(_MESSAGES) if values is not None else None)
        if messages is None:
            if self.writes:
                return {self.writes: plain(state)}
            return cast("Updates", plain(values)) if values is not None else {_MESSAGES: [as_text(plain(state))]}
        if self.writes and self.writes != _MESSAGES:
            return {self.writes: text_of(from_langchain(messages[-1])) if messages else None}
        return {_MESSAGES: _new_messages(messages, given, calls)}


def _new_messages(messages: list[BaseMessage], given: Any, calls: GraphCalls) -> list[Any]:
    """The messages that the graph did not get from us, as ours; one that was streamed keeps the id of its deltas."""
    asked = cast("dict[str, list[BaseMessage]]", given).get(_MESSAGES, []) if isinstance(given, dict) else []
    old = {message.id for message in asked}
    ids = dict(calls.record_ids)
    new = [message for message in messages if message.id is None or message.id not in old]
    return [from_langchain(message, record_id=ids.pop(message.id, None) if message.id else None) for message in new]


def _input_keys(graph: Any) -> frozenset[str]:
    """The keys of the state that a graph takes as its input."""
    builder: Any = getattr(graph, "builder", None)
    if builder is not None:
        return frozenset(builder.schemas[builder.input_schema])
    channels: Any = graph.input_channels
    return frozenset([channels] if isinstance(channels, str) else channels)


def _holds_messages(value: Any) -> bool:
    """Whether a value is text, or messages in our form."""
    if isinstance(value, list):
        items = cast("list[Any]", value)
        return all(isinstance(item, str) or (isinstance(item, dict) and "role" in item) for item in items)
    return isinstance(value, str) or (isinstance(value, dict) and "role" in value)


def _langchain(value: Any) -> list[BaseMessage] | None:
    """The value as LangChain messages, None if it is something else."""
    if isinstance(value, list) and all(isinstance(item, BaseMessage) for item in cast("list[Any]", value)):
        return cast("list[BaseMessage]", value)
    return None


def _without_saver(source: Any, reference: str) -> Any:
    """The graph of a builder or of a compiled graph; without a saver of its own it takes ours. Blocks."""
    compiled: Any = source
    if not isinstance(source, Pregel) and callable(build := getattr(source, "compile", None)):
        compiled = build()
    if not isinstance(compiled, Pregel):
        raise GraphUnusable(reference=reference, type=type(cast("Any", source)).__name__)
    # Not `compiled.copy()`: that forgets which types of the author's own the saver may bring back.
    graph: Any = copy.copy(cast("Any", compiled))
    graph.checkpointer = None
    return graph
