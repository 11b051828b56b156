"""What LangGraph executes for a node and for a decision: the function and its writes, without LangChain's tracing.

The library's own sequence makes a callback manager and an asyncio task for every node and every decision, and runs a
plain function that decides in a thread: 0.2 to 0.4 ms of CPU each. Our own records say what callbacks would. What a
node writes is LangGraph's: its writers are taken apart once, when the graph is compiled.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import var_child_runnable_config
from langgraph._internal._constants import CONFIG_KEY_READ, CONFIG_KEY_RUNTIME, CONFIG_KEY_SEND, TASKS
from langgraph.errors import InvalidUpdateError
from langgraph.graph import END
from langgraph.pregel._write import PASSTHROUGH, ChannelWrite, ChannelWriteEntry, ChannelWriteTupleEntry
from langgraph.runtime import Runtime
from langgraph.types import Send

from modular_agent.engine.context import RunContext

__all__ = ["Decision", "NodeCall", "NodeSequence", "slim"]

_Write = tuple[str, Any]  # a channel, and what is written to it
_Writer = Callable[[Any, RunnableConfig], Sequence[_Write]]  # what is written for a node's output


class NodeCall(Runnable[Any, Any]):
    """A node's function, called with the state, the runtime and the config.

    `is_plain` says that it needs nothing of the library but that its writes are taken: no user's code runs in it that
    could call the library itself.
    """

    def __init__(self, call: Callable[..., Awaitable[Any]], *, is_plain: bool) -> None:
        self.call = call
        self.is_plain = is_plain

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        raise RuntimeError("a workflow's nodes run in an event loop")

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        return await self.call(input, runtime_of(config), config)


class Decision(Runnable[Any, Any]):
    """A routing function as the path of a conditional edge."""

    name = "decision"

    def __init__(self, decide: Callable[[Any, RunContext], Any]) -> None:
        self.decide = decide

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        return self.decide(input, runtime_of(config).context)


class NodeSequence(Runnable[Any, Any]):
    """A node (or none, where an input goes in) and then its writers, in the task that LangGraph runs them in."""

    def __init__(self, steps: Sequence[Runnable[Any, Any]]) -> None:
        self._node = None if isinstance(steps[0], ChannelWrite) else steps[0]
        self._writers = [_writer(step) for step in steps[self._node is not None :]]
        self.is_plain = isinstance(self._node, NodeCall) and self._node.is_plain

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        raise RuntimeError("a workflow's nodes run in an event loop")

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        assert config is not None
        output, node = input, self._node
        if node is not None:
            token = var_child_runnable_config.set(config)  # where `interrupt()` finds its task
            try:
                if isinstance(node, NodeCall):
                    output = await node.call(input, runtime_of(config), config)
                else:
                    output = await node.ainvoke(input, config, **kwargs)
            finally:
                var_child_runnable_config.reset(token)
        send = _configurable(config)[CONFIG_KEY_SEND]
        for writer in self._writers:
            send(writer(output, config))
        return output


def slim(graph: Any) -> None:
    """Has a compiled graph execute its nodes as `NodeSequence`s."""
    for node in graph.nodes.values():
        steps = getattr(node.node, "steps", None)  # what LangGraph put together of the node and its writers
        if steps is not None:
            node.node = NodeSequence(steps)  # a cached property


def runtime_of(config: RunnableConfig | None) -> Runtime[RunContext]:
    """What LangGraph gives a task to run with."""
    assert config is not None
    return cast("Runtime[RunContext]", _configurable(config)[CONFIG_KEY_RUNTIME])


def _configurable(config: RunnableConfig) -> dict[str, Any]:
    return config["configurable"]  # pyright: ignore[reportTypedDictNotRequiredAccess]


# -- writers ---------------------------------------------------------------------------------------------------


def _writer(step: Any) -> _Writer:
    """The same as a step that LangGraph made; one that it did not make before is refused when a graph is compiled."""
    if isinstance(step, ChannelWrite):
        return _entries(step.writes)
    branch = getattr(getattr(step, "func", None), "__self__", None)
    if isinstance(getattr(branch, "path", None), Decision) and step.kwargs["reader"].keywords["mapper"] is None:
        return _branch(branch, step.kwargs["reader"].keywords["select"])
    raise TypeError(f"LangGraph writes in a way that is not known: {step!r}")


def _entries(entries: Sequence[Any]) -> _Writer:
    """Writes what is found in the node's output, and then to the channels of its edges."""
    found = [entry.mapper for entry in entries if isinstance(entry, ChannelWriteTupleEntry)]
    edges = [(entry.channel, entry.value) for entry in entries if _is_edge(entry)]
    if len(found) + len(edges) < len(entries):
        raise TypeError(f"LangGraph writes in a way that is not known: {entries!r}")

    def write(output: Any, _: RunnableConfig) -> list[_Write]:
        writes: list[_Write] = []
        for mapper in found:
            writes += mapper(output) or ()
        return writes + edges

    return write


def _is_edge(entry: Any) -> bool:
    """Whether the same is written to a channel whatever the node's output is."""
    if not isinstance(entry, ChannelWriteEntry):
        return False
    _, value, *rules = cast("tuple[Any, ...]", entry)
    return value is not PASSTHROUGH and rules == [False, None]  # neither left out when None, nor mapped


def _branch(branch: Any, keys: list[str]) -> _Writer:
    """Writes to the channels of the nodes that a decision chose, and sends what it sends."""
    decide: Callable[[Any, RunContext], Sequence[str | Send]] = branch.path.decide
    writes: dict[str, list[_Write]] = {
        end: [] if node == END else [(f"branch:to:{node}", None)] for end, node in branch.ends.items()
    }

    def write(output: Any, config: RunnableConfig) -> list[_Write]:
        state: dict[str, Any] = _configurable(config)[CONFIG_KEY_READ](keys, True)
        if isinstance(output, dict):
            state = {**cast("dict[str, Any]", output), **state}
        chosen: list[_Write] = []
        for target in decide(state, runtime_of(config).context):
            if not isinstance(target, Send):
                chosen += writes[target]
            elif target.node == END:
                raise InvalidUpdateError("nothing can be sent to the end")
            else:
                chosen.append((TASKS, target))
        return chosen

    return write
