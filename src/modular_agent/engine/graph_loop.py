"""Drives a session's graph: LangGraph's own loop and rules, without what this product has no use for.

`Pregel.ainvoke` makes callback managers, a stream, an asyncio task for each save and a copy of the runtime for each
attempt of a task; that was a quarter of the event loop's time. Which tasks a step has, what they read, how their
writes are applied and what is saved stay LangGraph's (`AsyncPregelLoop`), as do steps of several tasks
(`PregelRunner`).
Graphs that run inside a node are LangGraph's altogether. The library's version is pinned; tests compare both ways.
"""

import asyncio
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, Final, cast

from langchain_core.runnables import RunnableConfig
from langgraph._internal._config import ensure_config
from langgraph._internal._constants import CONFIG_KEY_DURABILITY, CONFIG_KEY_RUNTIME
from langgraph.errors import GraphDrained, GraphRecursionError, NodeCancelledError
from langgraph.graph import END, START
from langgraph.pregel._loop import AsyncPregelLoop
from langgraph.pregel._runner import PregelRunner
from langgraph.runtime import RunControl, Runtime
from langgraph.types import PregelExecutableTask

from modular_agent.engine.checkpoints import Saver
from modular_agent.engine.context import RunContext
from modular_agent.engine.nodes.workflow import Graph
from modular_agent.engine.sequence import NodeSequence

__all__ = ["run_graph"]

_BRANCH_TO: Final = "branch:to:"  # the channel whose update starts a node


async def run_graph(
    graph: Graph, given: Any, config: RunnableConfig, *, context: RunContext, control: RunControl
) -> None:
    """Runs a graph from `given` (an input, a `Command`, or None to go on) until it has ended or waits for an answer.

    Raises `GraphDrained` when `control` asked for a hold, `GraphRecursionError`, and whatever a node raised.
    """
    config = ensure_config(graph.config, config)
    configurable = config.setdefault("configurable", {})
    configurable[CONFIG_KEY_DURABILITY] = "sync"  # for the graphs inside
    configurable[CONFIG_KEY_RUNTIME] = Runtime(context=context, control=control, stream_writer=_nowhere)
    keys, given = _entry(graph, given)
    async with _Loop(
        given,
        stream=None,
        config=config,
        store=graph.store,
        cache=None,
        checkpointer=graph.checkpointer,
        nodes=graph.nodes,
        specs=graph.channels,
        input_keys=keys,
        durability="sync",
        trigger_to_nodes=graph.trigger_to_nodes,
    ) as loop:
        runner = PregelRunner(
            submit=weakref.WeakMethod(loop.background), put_writes=weakref.WeakMethod(loop.put_writes)
        )
        while loop.tick():
            await _step(loop, runner)
            loop.after_tick()
    if loop.status == "out_of_steps":
        raise GraphRecursionError(f"more than {config.get('recursion_limit')} steps")
    if loop.status == "draining":
        raise GraphDrained(control.drain_reason or "shutdown")


class _Loop(AsyncPregelLoop):
    """LangGraph's loop, whose saves are done when they are asked for: our saver only gathers, it never waits."""

    background: Callable[..., Any]  # runs something beside the loop

    def __init__(self, given: Any, *, checkpointer: Saver, **more: Any) -> None:
        base: Any = super()  # typed in part only
        base.__init__(given, checkpointer=None, **more)  # which would take the saver's signature apart for each run
        self.checkpointer = checkpointer
        self.checkpointer_get_next_version = checkpointer.get_next_version
        self.checkpointer_put_writes = checkpointer.aput_writes
        self.checkpointer_put_writes_accepts_task_path = True
        del self._checkpointer_put_after_previous

    def _first(self, **given: Any) -> Any:
        itself: Any = self  # typed in part only
        self.background, itself.submit = itself.submit, _at_once
        return super()._first(**given)


def _at_once(save: Callable[..., Coroutine[Any, Any, object]], *args: Any) -> None:
    try:
        save(*args).send(None)
    except StopIteration:
        return
    raise RuntimeError("a save of the session's own graph waited for something")


def _entry(graph: Graph, given: Any) -> tuple[str | list[str], Any]:
    """Where an input goes: straight into the state, with the first nodes started, if the entry is not a decision.

    LangGraph spends a step of its own on that.
    """
    if START in graph.builder.branches:
        return START, given
    first = [_BRANCH_TO + end for start, end in graph.builder.edges if start == START and end != END]
    keys = [*graph.builder.channels, *first]
    return keys, {**cast("dict[str, Any]", given), **dict.fromkeys(first)} if isinstance(given, dict) else given


async def _step(loop: _Loop, runner: PregelRunner) -> None:
    """Runs the tasks of a step; those that had finished before a crash have their writes."""
    tasks = [task for task in loop.tasks.values() if not task.writes]
    if len(tasks) == 1:
        body = cast("object", tasks[0].proc)
        if isinstance(body, NodeSequence) and body.is_plain:
            await _alone(runner, tasks[0], body)
            return
    async for _ in runner.atick(tasks, schedule_task=loop.aaccept_push):
        pass


async def _alone(runner: PregelRunner, task: PregelExecutableTask, body: NodeSequence) -> None:
    try:
        await body.ainvoke(task.input, task.config)
    except asyncio.CancelledError as error:
        current = asyncio.current_task()
        if current is not None and current.cancelling():
            raise
        failure = NodeCancelledError(task.name)  # code of the node raised it: nobody cancelled the run
        runner.commit(task, failure)
        raise failure from error
    except Exception as error:
        runner.commit(task, error)
        raise
    runner.commit(task, None)


def _nowhere(_: Any) -> None:
    """Where a stream writer writes in a graph that is not streamed."""
