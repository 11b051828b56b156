"""Drives a session's graph: LangGraph's own loop and rules, without what this product has no use for.

`Pregel.ainvoke` makes callback managers, a stream, an asyncio task for each save and a copy of the runtime for each
attempt of a task; its loop serves every kind of graph, saver and durability. Here a step of one task, which nearly
every step is, runs in the run's own task, and what it wrote is saved with the checkpoint that follows at once. What
a `Command` means, which tasks had finished before a crash, and steps of several tasks (`PregelRunner`) stay
LangGraph's, as does the meaning of all else (`GraphPlan`). Graphs that run inside a node are LangGraph's altogether.
The library's version is pinned; tests compare both ways.
"""

import asyncio
import weakref
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph._internal._constants import (
    CONFIG_KEY_DURABILITY,
    CONFIG_KEY_REPLAY_STATE,
    CONFIG_KEY_RESUMING,
    CONFIG_KEY_RUNTIME,
    INPUT,
)
from langgraph.checkpoint.base import CheckpointMetadata
from langgraph.errors import GraphDrained, GraphInterrupt, GraphRecursionError, NodeCancelledError
from langgraph.pregel._algo import PregelTaskWrites
from langgraph.pregel._checkpoint import empty_checkpoint
from langgraph.pregel._executor import AsyncBackgroundExecutor
from langgraph.pregel._loop import AsyncPregelLoop
from langgraph.pregel._runner import PregelRunner
from langgraph.runtime import RunControl, Runtime
from langgraph.types import PregelExecutableTask

from modular_agent.engine.binding import BINDING, Binding
from modular_agent.engine.checkpoints import Saver
from modular_agent.engine.context import RunContext
from modular_agent.engine.graph_plan import Channels, GraphPlan
from modular_agent.engine.sequence import NodeSequence

__all__ = ["run_graph"]


async def run_graph(
    plan: GraphPlan, given: Any, config: RunnableConfig, *, context: RunContext, control: RunControl
) -> None:
    """Runs a graph from `given` (an input, a `Command`, or None to go on) until it has ended or waits for an answer.

    Raises `GraphDrained` when `control` asked for a hold, `GraphRecursionError`, and whatever a node raised.
    """
    loop = _Loop(plan, given, _whole(config, Runtime(context=context, control=control, stream_writer=_nowhere)))
    await loop.open()
    try:
        while loop.tick():
            await loop.execute()
    except GraphInterrupt:
        return
    if loop.status == "out_of_steps":
        raise GraphRecursionError(f"more than {config.get('recursion_limit')} steps")
    if loop.status == "draining":
        raise GraphDrained(control.drain_reason or "shutdown")


def _whole(config: RunnableConfig, runtime: Runtime[RunContext]) -> RunnableConfig:
    """The config with what LangGraph's `ensure_config` adds, and what it hands to the graphs inside."""
    given: dict[str, Any] = config.get("configurable") or {}
    return {
        "tags": [],
        "metadata": {**(config.get("metadata") or {}), "thread_id": given["thread_id"]},
        "callbacks": None,
        "recursion_limit": config["recursion_limit"],  # pyright: ignore[reportTypedDictNotRequiredAccess]
        "configurable": {**given, CONFIG_KEY_DURABILITY: "sync", CONFIG_KEY_RUNTIME: runtime},
    }


class _Loop(AsyncPregelLoop):
    """LangGraph's loop over the channels of a session. Its saves are done when they are asked for: our saver gathers.

    What is not here is done by the library's methods: a `Command`, the writes that a crash left, and all that is saved
    of a task but with its step.
    """

    channels: Channels

    def __init__(self, plan: GraphPlan, given: Any, config: RunnableConfig) -> None:
        vars(self).update(plan.loop)
        self.config = self.checkpoint_config = config
        self.input = plan.entered(given)
        configurable = config["configurable"]  # pyright: ignore[reportTypedDictNotRequiredAccess]
        self.control = configurable[CONFIG_KEY_RUNTIME].control
        self._binding: Binding = configurable[BINDING]
        self._plan = plan
        self._written_task_ids = set()
        self._reapplied_task_ids = set()

    async def open(self) -> None:
        """Begins with the newest checkpoint, and with what the run was given."""
        saved = await self.saver.aget_tuple(self.config)
        self.checkpoint = empty_checkpoint() if saved is None else saved.checkpoint
        self.checkpoint_metadata = {"step": -2} if saved is None else saved.metadata
        self.checkpoint_pending_writes = [] if saved is None else list(saved.pending_writes or ())
        self._parent_id = None if saved is None else self.checkpoint["id"]
        self.channels = self._plan.channels(self.checkpoint)
        self.step = self.checkpoint_metadata.get("step", -1) + 1
        self.stop = self.step + self.config.get("recursion_limit", 0) + 1
        updated = self.checkpoint.get("updated_channels")
        self.updated_channels = self._first(
            input_keys=self.input_keys, updated_channels=set(updated) if updated else None
        )

    @property
    def saver(self) -> Saver:
        return cast("Saver", self.checkpointer)

    def _first(self, *, input_keys: str | Sequence[str], updated_channels: set[str] | None) -> set[str] | None:
        writes = self._plan.input_writes(self.input)
        is_new = self.config.get("metadata", {}).get("run_id") != self.checkpoint_metadata.get("run_id")
        if not (writes and is_new and not self.checkpoint_pending_writes and self._plan.is_at_rest(self.channels)):
            base: Any = super()  # typed in part only
            return base._first(input_keys=input_keys, updated_channels=updated_channels)
        task = PregelTaskWrites((), INPUT, writes, ())
        self.updated_channels = self._plan.apply(self.checkpoint, self.channels, [task])
        self._put_checkpoint({"source": "input"})
        flags = {CONFIG_KEY_RESUMING: False, CONFIG_KEY_REPLAY_STATE: None}
        self.config = {**self.config, "configurable": {**self.config.get("configurable", {}), **flags}}
        self.status = "pending"
        return self.updated_channels

    def tick(self) -> bool:
        """Whether there is another step, whose tasks are then known."""
        if self.step > self.stop:
            self.status = "out_of_steps"
            return False
        self.tasks = self._plan.tasks(self)
        if not self.tasks:
            self.status = "done"
            return False
        if self.checkpoint_pending_writes:
            self._reapply_writes_to_succeeded_nodes(self.tasks)
        if self.control is not None and self.control.drain_requested:
            self.status = "draining"
            return False
        return True

    async def execute(self) -> None:
        """Runs the tasks of the step; those that had finished before a crash have their writes."""
        tasks = [task for task in self.tasks.values() if not task.writes]
        if len(tasks) == 1:
            body = cast("object", tasks[0].proc)
            if isinstance(body, NodeSequence) and body.is_plain:
                await self._alone(tasks[0], body)
                return
        async with AsyncBackgroundExecutor(self.config) as submit:  # pyright: ignore[reportUnknownVariableType]
            runner = self._runner(weakref.WeakMethod(cast("Any", submit)))
            async for _ in runner.atick(tasks, schedule_task=self.aaccept_push):
                pass
        self.after_tick()

    async def _alone(self, task: PregelExecutableTask, body: NodeSequence) -> None:
        try:
            await body.ainvoke(task.input, task.config)
        except asyncio.CancelledError as error:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
            failure = NodeCancelledError(task.name)  # code of the node raised it: nobody cancelled the run
            self._commit(task, failure)
            raise failure from error
        except Exception as error:
            self._commit(task, error)
            raise
        try:
            self.after_tick(task.id)
        except Exception:
            self._commit(task, None)  # the step cannot be saved; what the task did was done all the same
            raise

    def _commit(self, task: PregelExecutableTask, error: BaseException | None) -> None:
        """Saves how a task ended, as long as its step has not."""
        self._runner(None).commit(task, error)

    def _runner(self, submit: Any) -> PregelRunner:
        return PregelRunner(submit=submit, put_writes=weakref.WeakMethod(self.put_writes))

    def after_tick(self, alone: str | None = None) -> None:
        """Ends the step. `alone` is the task whose facts are saved with it; those of others were when they ended."""
        self.updated_channels = self._plan.apply(self.checkpoint, self.channels, self.tasks.values())
        self.checkpoint_pending_writes.clear()
        self._put_checkpoint({"source": "loop"}, alone)
        self.config.get("configurable", {}).pop(CONFIG_KEY_RESUMING, None)

    def _put_checkpoint(self, metadata: CheckpointMetadata, alone: str | None = None) -> None:
        checkpoint = self._plan.checkpoint(self.checkpoint, self.channels, self.step, self.updated_channels)
        metadata |= {"step": self.step, "parents": {}}
        self.saver.put_step(self._binding, checkpoint, metadata, parent_id=self._parent_id, alone=alone)
        self.checkpoint, self.checkpoint_metadata, self._parent_id = checkpoint, metadata, checkpoint["id"]
        self.step += 1

    def _push_graph_lifecycle_event(self, *_: Any, **__: Any) -> None:
        """Nobody listens."""

    @staticmethod
    def submit(save: Callable[..., Coroutine[Any, Any, object]], *args: Any) -> None:
        """Saves at once what the library has saved in the background."""
        try:
            save(*args).send(None)
        except StopIteration:
            return
        raise RuntimeError("a save of the session's own graph waited for something")


def _nowhere(_: Any) -> None:
    """Where a stream writer writes in a graph that is not streamed."""
