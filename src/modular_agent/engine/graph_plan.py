"""What is the same for every run of a session's graph, and with it LangGraph's rules at less than half their cost.

Which tasks a step has and what they are given (`tasks`), how the writes of one are applied (`apply`), and what a
checkpoint holds (`checkpoint`) is what the library's `prepare_next_tasks`, `apply_writes` and `create_checkpoint` say
for the channels and nodes that our compiler makes: no managed values, delta channels, caches, or policies of the
library. What is asked for seldom is left to them. Tests hold every step of many runs to theirs.
"""

from binascii import unhexlify
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, cast

from langchain_core.runnables import RunnableConfig
from langgraph._internal._constants import (
    CONFIG_KEY_CHECKPOINT_ID,
    CONFIG_KEY_CHECKPOINT_MAP,
    CONFIG_KEY_CHECKPOINT_NS,
    CONFIG_KEY_CHECKPOINTER,
    CONFIG_KEY_READ,
    CONFIG_KEY_RESUME_MAP,
    CONFIG_KEY_RUNTIME,
    CONFIG_KEY_SCRATCHPAD,
    CONFIG_KEY_SEND,
    CONFIG_KEY_TASK_ID,
    ERROR,
    ERROR_SOURCE_NODE,
    INTERRUPT,
    NO_WRITES,
    PULL,
    PUSH,
    RESUME,
    RETURN,
    TASKS,
)
from langgraph.channels.ephemeral_value import EphemeralValue
from langgraph.channels.topic import Topic
from langgraph.checkpoint.base import Checkpoint
from langgraph.graph import END, START
from langgraph.pregel import _algo
from langgraph.pregel._checkpoint import LATEST_VERSION
from langgraph.pregel._loop import AsyncPregelLoop
from langgraph.runtime import ExecutionInfo, Runtime
from langgraph.types import PregelExecutableTask

from modular_agent.engine.channels import MISSING, AppendLog, Reduced
from modular_agent.engine.checkpoint_ids import next_id
from modular_agent.engine.nodes.workflow import Graph

__all__ = ["Channels", "GraphPlan"]

Channels = Mapping[str, Any]  # by name; `BaseChannel`s, which are only partly typed

_rules: Any = _algo  # typed in part only
_NO_VALUES: Final = frozenset({NO_WRITES, PUSH, RESUME, INTERRUPT, RETURN, ERROR, ERROR_SOURCE_NODE})
_BRANCH_TO: Final = "branch:to:"  # the channel whose update starts a node
_SENT: Final = (PUSH,)  # what triggers a task that was sent


class _Node:
    """What is the same for every task of a node. The entry of an input that has to be decided on is not `ours`."""

    def __init__(self, name: str, process: Any) -> None:
        self.name = name
        self.body = process.node
        self.triggers = tuple(sorted(process.triggers))
        self.keys: list[str] = process.channels
        self.path = (PULL, name)
        self.named = "".join((name, PULL, *self.triggers))  # what a task's id is made of, beside the step
        self.writers = process.flat_writers
        self.subgraphs = process.subgraphs
        policies = (process.tags, process.metadata, process.retry_policy, process.cache_policy, process.timeout)
        self.is_ours = isinstance(process.channels, list) and process.mapper is None and not any(policies)


class GraphPlan:
    """A compiled graph, looked at once."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._specs: Mapping[str, Any] = graph.channels
        self._starts: Mapping[str, Sequence[str]] = graph.trigger_to_nodes
        self._nodes = {name: _Node(name, process) for name, process in graph.nodes.items()}
        self._passing = [name for name, spec in self._specs.items() if isinstance(spec, EphemeralValue | Topic)]
        first = [end for start, end in graph.builder.edges if start == START and end != END]
        self._first = None if START in graph.builder.branches else dict.fromkeys(_BRANCH_TO + end for end in first)
        self.loop = self._blank_loop(graph)
        for name, spec in self._specs.items():
            if not isinstance(spec, AppendLog | Reduced | EphemeralValue | Topic):
                raise TypeError(f"a workflow has no channel like {name}: {spec!r}")

    def _blank_loop(self, graph: Graph) -> dict[str, Any]:
        """What LangGraph's loop of this graph begins with, whatever the run."""
        blank = AsyncPregelLoop(
            None,
            stream=None,
            config={"configurable": {}},
            store=graph.store,
            cache=None,
            checkpointer=graph.checkpointer,
            nodes=graph.nodes,
            specs=graph.channels,
            input_keys=START if self._first is None else [*graph.builder.channels, *self._first],
            durability="sync",
            trigger_to_nodes=graph.trigger_to_nodes,
        )
        return {**vars(blank), "managed": {}}

    def entered(self, given: Any) -> Any:
        """Where an input goes: straight into the state, with the first nodes started, if the entry is no decision.

        LangGraph spends a step of its own on that.
        """
        if self._first is None or not isinstance(given, dict):
            return given
        return {**cast("dict[str, Any]", given), **self._first}

    def input_writes(self, given: Any) -> list[tuple[str, Any]]:
        """What an input writes; nothing for one that is none, or that the library has to say something about."""
        if self._first is None:
            return [(START, given)] if isinstance(given, dict) else []
        state = cast("dict[str, Any]", given) if isinstance(given, dict) else {}
        return [*state.items()] if state.keys() <= self._specs.keys() else []

    def channels(self, checkpoint: Checkpoint) -> Channels:
        """The channels as they were at a checkpoint."""
        values = checkpoint["channel_values"]
        return {name: spec.from_checkpoint(values.get(name, MISSING)) for name, spec in self._specs.items()}

    def is_at_rest(self, channels: Channels) -> bool:
        """Whether no task is left to be run."""
        return not any(channels[name].is_available() for name in self._passing)

    # -- what is saved -----------------------------------------------------------------------------------------

    def checkpoint(self, last: Checkpoint, channels: Channels, step: int, updated: Iterable[str] | None) -> Checkpoint:
        """The checkpoint after a step. It is to be saved before the next step goes on with what it holds."""
        versions = last["channel_versions"]
        values: dict[str, Any] = {}
        for name, channel in channels.items():
            if name in versions and (value := channel.checkpoint()) is not MISSING:
                values[name] = value
        return Checkpoint(
            v=LATEST_VERSION,
            ts=datetime.now(UTC).isoformat(),
            id=next_id(step),
            channel_values=values,
            channel_versions=versions,
            versions_seen=last["versions_seen"],
            updated_channels=None if updated is None else sorted(updated),
        )

    # -- what a task wrote -------------------------------------------------------------------------------------

    def apply(self, checkpoint: Checkpoint, channels: Channels, tasks: Collection[Any]) -> set[str]:
        """Applies the writes of a step's tasks, or of an input, which has no triggers; answers what they changed."""
        if len(tasks) == 1:
            (task,) = tasks
            written: dict[str, list[Any]] = {}
            for name, value in task.writes:
                if name not in _NO_VALUES:
                    written.setdefault(name, []).append(value)
            if written.keys() <= channels.keys():  # what an older version of the workflow wrote may have no place
                return self._apply(checkpoint, channels, task, written)
        return _rules.apply_writes(checkpoint, channels, tasks, _rules.increment, self._starts)

    def _apply(
        self, checkpoint: Checkpoint, channels: Channels, task: Any, written: Mapping[str, list[Any]]
    ) -> set[str]:
        versions: dict[str, Any] = checkpoint["channel_versions"]
        seen = checkpoint["versions_seen"].setdefault(task.name, {})
        for name in task.triggers:
            if name in versions:
                seen[name] = versions[name]
        version = max(versions.values(), default=0) + 1
        updated: set[str] = set()
        for name, values in written.items():
            channel = channels[name]
            if channel.update(values):
                versions[name] = version
                if channel.is_available():
                    updated.add(name)
        if task.triggers:
            for name in self._passing:
                channel = channels[name]
                if name not in updated and channel.is_available():
                    channel.update(())
                    versions[name] = version
        return updated

    # -- what comes next ---------------------------------------------------------------------------------------

    def tasks(self, loop: Any) -> dict[str, PregelExecutableTask]:
        """The tasks of a loop's next step."""
        made = _Made(loop)
        tasks: list[PregelExecutableTask] = []
        sent = loop.channels[TASKS]
        for index, packet in enumerate(sent.get() if sent.is_available() else ()):
            node = self._nodes.get(packet.node)
            if node is None or not node.is_ours:
                return self._library_tasks(loop)
            tasks.append(made.sent(node, packet.arg, index))
        for name in self._candidates(loop):
            node = self._nodes[name]
            if made.is_triggered(node):
                if not node.is_ours:
                    return self._library_tasks(loop)
                tasks.append(made.triggered(node))
        return {task.id: task for task in tasks}

    def _candidates(self, loop: Any) -> Iterable[str]:
        """The nodes that may have a task, in order."""
        updated: set[str] | None = loop.updated_channels
        if not updated:
            return self._nodes if loop.checkpoint["channel_versions"] else ()
        return sorted({node for name in updated for node in self._starts.get(name, ())})

    def _library_tasks(self, loop: Any) -> dict[str, PregelExecutableTask]:
        return _rules.prepare_next_tasks(
            loop.checkpoint,
            loop.checkpoint_pending_writes,
            loop.nodes,
            loop.channels,
            {},
            loop.config,
            loop.step,
            loop.stop,
            for_execution=True,
            store=loop.store,
            checkpointer=loop.checkpointer,
            manager=None,
            trigger_to_nodes=self._starts,
            updated_channels=loop.updated_channels,
        )


class _Made:
    """The tasks that are made for one step of a loop."""

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._checkpoint: Checkpoint = loop.checkpoint
        self._id = unhexlify(loop.checkpoint["id"].replace("-", ""))

    def is_triggered(self, node: _Node) -> bool:
        """Whether a channel that starts the node has something that the node has not seen."""
        channels: Channels = self._loop.channels
        versions: dict[str, Any] = self._checkpoint["channel_versions"]
        seen: dict[str, Any] | None = self._checkpoint["versions_seen"].get(node.name)
        for name in node.triggers:
            if channels[name].is_available() and (seen is None or versions.get(name, 0) > seen.get(name, 0)):
                return True
        return False

    def triggered(self, node: _Node) -> PregelExecutableTask:
        """A task that an edge leads to: it reads the state."""
        channels = self._loop.channels
        state = {key: channels[key].get() for key in node.keys if channels[key].is_available()}
        return self._task(node, state, node.path, node.triggers, node.named)

    def sent(self, node: _Node, given: Any, index: int) -> PregelExecutableTask:
        """A task that something was sent to."""
        return self._task(node, given, (PUSH, index, False), _SENT, f"{node.name}{PUSH}{index}")

    def _task(
        self, node: _Node, given: Any, path: tuple[Any, ...], triggers: tuple[str, ...], named: str
    ) -> PregelExecutableTask:
        loop, name = self._loop, node.name
        digits: str = _rules.xxh3_128_hexdigest(self._id + f"{name}{loop.step}{named}".encode())
        task_id = f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
        ns = f"{name}:{task_id}"
        writes: deque[tuple[str, Any]] = deque()
        config: RunnableConfig = {
            "metadata": {
                **loop.config["metadata"],
                "langgraph_step": loop.step,
                "langgraph_node": name,
                "langgraph_triggers": triggers,
                "langgraph_path": path,
                "langgraph_checkpoint_ns": ns,
            },
            "recursion_limit": loop.config["recursion_limit"],
            "configurable": self._configurable(task_id, ns, writes),
            "run_name": name,
        }
        rest = (triggers, (), None, task_id, path, node.writers, node.subgraphs)
        return PregelExecutableTask(name, given, node.body, writes, config, *rest)

    def _configurable(self, task_id: str, ns: str, writes: deque[tuple[str, Any]]) -> dict[str, Any]:
        loop, checkpoint_id = self._loop, self._checkpoint["id"]
        given: dict[str, Any] = loop.config["configurable"]
        resume = given.get(CONFIG_KEY_RESUME_MAP)
        return {
            **given,
            CONFIG_KEY_TASK_ID: task_id,
            CONFIG_KEY_SEND: writes.extend,
            CONFIG_KEY_READ: partial(_read, loop.channels, writes),
            CONFIG_KEY_CHECKPOINTER: loop.checkpointer,
            CONFIG_KEY_CHECKPOINT_MAP: {"": checkpoint_id},
            CONFIG_KEY_CHECKPOINT_ID: None,
            CONFIG_KEY_CHECKPOINT_NS: ns,
            CONFIG_KEY_SCRATCHPAD: _rules._scratchpad(
                None, loop.checkpoint_pending_writes, task_id, ns, resume, loop.step, loop.stop
            ),
            CONFIG_KEY_RUNTIME: _runtime(given, checkpoint_id, ns, task_id),
        }


def _runtime(given: Mapping[str, Any], checkpoint_id: str, ns: str, task_id: str) -> Runtime[Any]:
    of_run: Runtime[Any] = given[CONFIG_KEY_RUNTIME]
    info = ExecutionInfo(checkpoint_id, ns, task_id, given["thread_id"])
    return Runtime(
        context=of_run.context, stream_writer=of_run.stream_writer, control=of_run.control, execution_info=info
    )


def _read(channels: Channels, writes: Iterable[tuple[str, Any]], keys: Sequence[str], fresh: bool = False) -> Any:
    """The state as it will be when a task's writes are applied (`fresh`), or as it is."""
    written: dict[str, list[Any]] = {}
    for name, value in writes if fresh else ():
        written.setdefault(name, []).append(value)
    values: dict[str, Any] = {}
    for key in keys:
        channel = channels[key]
        if key in written:
            channel = channel.copy()
            channel.update(written[key])
        if channel.is_available():
            values[key] = channel.get()
    return values
