"""What LangGraph executes for a node and for a decision: the function and its writers, without LangChain's tracing.

The library's own sequence makes a callback manager and an asyncio task for every node and every decision, and runs a
plain function that decides in a thread: 0.2 to 0.4 ms of CPU each. Our own records say what callbacks would.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import var_child_runnable_config
from langgraph.runtime import Runtime

from modular_agent.engine.context import RunContext

__all__ = ["Decision", "NodeCall", "NodeSequence", "slim"]

_RUNTIME = "__pregel_runtime"  # where LangGraph keeps a task's `Runtime` in `config["configurable"]`


class NodeCall(Runnable[Any, Any]):
    """A node's function, called with the state, the runtime and the config.

    `is_plain` says that it needs nothing of the library but that its writes are taken: no user's code runs in it that
    could call the library itself.
    """

    def __init__(self, call: Callable[..., Awaitable[Any]], *, is_plain: bool) -> None:
        self._call = call
        self.is_plain = is_plain

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        raise RuntimeError("a workflow's nodes run in an event loop")

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        return await self._call(input, runtime_of(config), config)


class NodeSequence(Runnable[Any, Any]):
    """A node and then its writers, in the task that LangGraph runs them in."""

    def __init__(self, steps: Sequence[Runnable[Any, Any]]) -> None:
        self.steps = list(steps)
        node = steps[0]
        self.is_plain = isinstance(node, NodeCall) and node.is_plain

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        raise RuntimeError("a workflow's nodes run in an event loop")

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        node, *writers = self.steps
        token = var_child_runnable_config.set(config)  # where `interrupt()` finds its task
        try:
            output = await node.ainvoke(input, config, **kwargs)
        finally:
            var_child_runnable_config.reset(token)
        for writer in writers:
            output = await writer.ainvoke(output, config)
        return output


class Decision(Runnable[Any, Any]):
    """A routing function as the path of a conditional edge."""

    name = "decision"

    def __init__(self, decide: Callable[[Any, RunContext], Any]) -> None:
        self._decide = decide

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        return self._decide(input, runtime_of(config).context)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        return self.invoke(input, config)


def runtime_of(config: RunnableConfig | None) -> Runtime[RunContext]:
    """What LangGraph gives a task to run with."""
    assert config is not None
    return cast("Runtime[RunContext]", (config.get("configurable") or {})[_RUNTIME])


def slim(graph: Any) -> None:
    """Has a compiled graph execute its nodes as `NodeSequence`s."""
    for node in graph.nodes.values():
        steps = getattr(node.node, "steps", None)  # what LangGraph put together of the node and its writers
        if steps is not None:
            node.node = NodeSequence(steps)  # a cached property
