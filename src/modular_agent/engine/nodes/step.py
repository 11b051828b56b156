"""The wrapper around every node: liveness, records, cache, concurrency, retries, timeout, and how it fails.

LangGraph's own policies leave code running after a timeout and record nothing, so none of them is used.
"""

import asyncio
import random
from collections.abc import Mapping
from typing import Any, Final

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphBubbleUp
from langgraph.runtime import Runtime
from langgraph.types import Command

from modular_agent.engine.context import RunContext
from modular_agent.engine.errors import NodeTimedOut, StateKeyUnknown
from modular_agent.engine.failures import error_record, summary
from modular_agent.engine.nodes.conversation import message_record, normalised
from modular_agent.engine.nodes.result_cache import ResultCache
from modular_agent.engine.nodes.visit import PREFIX, SENT, Body, Updates, Visit
from modular_agent.engine.sequence import NodeCall
from modular_agent.engine.spec.model import RetrySpec
from modular_agent.engine.state import StateShape, opened
from modular_agent.errors import AgentError
from modular_agent.events import RecordType
from modular_agent.kit.dataclass import dataclass

__all__ = ["NodeFailure", "Step", "StepPolicy"]


_ONCE: Final = RetrySpec(max_attempts=1)


class NodeFailure(GraphBubbleUp):
    """A node failed for good.

    It bubbles up like an interrupt, so that sibling nodes finish and are saved; a retry runs only the failed one.
    """

    def __init__(self, node: str, error: BaseException, details: Mapping[str, Any]) -> None:
        super().__init__(f"node {node} failed")
        self.node = node
        self.error = error
        self.details = details


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPolicy:
    """How a node is executed. `timeout` is in seconds per attempt; `visible` nodes appear in the path.
    `loop_key` is the state key under which an agent counts its model calls: its loop is one entry of the path.

    `logged` is false for nodes that only exist in the compiled graph. A `leaf` runs no graph of ours inside: in step
    mode it asks for the hold when it starts. A sub-graph that asked before its own first node would never get on.
    A node that `has_effects` starts when all that came before it is durable; a model's answer may be asked for again,
    and each tool call waits by itself where it must.
    """

    shape: StateShape
    retry: RetrySpec = _ONCE
    timeout: float | None = None
    cache: ResultCache | None = None
    slots: int | None = None
    visible: bool = True
    loop_key: str | None = None
    logged: bool = True
    leaf: bool = True
    has_effects: bool = True


class Step:
    """A node of a compiled graph."""

    def __init__(self, name: str, body: Body, policy: StepPolicy) -> None:
        self.name = name
        self._body = body
        self._policy = policy
        self._executed = self._timed if policy.timeout is not None else body
        if policy.cache is not None:
            self._executed = self._cached

    def node(self) -> NodeCall:
        """What LangGraph calls."""
        return NodeCall(self._run, is_plain=not self._policy.has_effects)

    async def _run(self, state: dict[str, Any], runtime: Runtime[RunContext], config: RunnableConfig) -> Updates:
        context, info = runtime.context, runtime.execution_info
        if info is None:  # only outside a graph
            raise RuntimeError("a step runs inside a graph only")
        prefix = (config.get("configurable") or {}).get(PREFIX, "")
        is_sent = SENT in state
        visit = Visit(
            node=f"{prefix}{self.name}",
            context=context,
            state={} if is_sent else opened(state),
            sent=state[SENT] if is_sent else None,
            task_id=info.task_id,
            step_id=info.checkpoint_id,
            config=config,
        )
        leave = context.live.enter(visit.node)
        try:
            if context.step_mode and self._policy.logged and self._policy.leaf and runtime.control is not None:
                runtime.control.request_drain("step")
            if self._policy.has_effects:
                await context.binding.durable()
            else:
                await context.binding.keep_up()
            if self._policy.slots is None:
                return await self._recorded(visit)
            async with context.slot(visit.node, self._policy.slots):
                return await self._recorded(visit)
        finally:
            leave()

    async def _recorded(self, visit: Visit) -> Updates:
        """Runs the node between its start record and its end record."""
        context = visit.context
        if not self._policy.logged:
            return await self._attempts(visit)
        started = context.clock.monotonic()
        context.emit(self._start_record(visit))
        try:
            updates = await self._attempts(visit)
        except NodeFailure:
            self._emit_end(visit, "failed", started)
            raise
        except GraphBubbleUp:
            visit.facts.records.append(self._end_record(visit, "interrupted", started))
            raise
        except asyncio.CancelledError:
            self._emit_end(visit, "cancelled", started)
            raise
        visit.facts.records.append(self._end_record(visit, "completed", started))
        return updates

    async def _attempts(self, visit: Visit) -> Updates:
        retry = self._policy.retry
        while True:
            try:
                return self._checked(visit, await self._executed(visit))
            except GraphBubbleUp:
                raise
            except Exception as error:
                if visit.attempt >= retry.max_attempts or not _passes(error):
                    raise self._failure(visit, error) from error
                self._flush(visit)
                await self._wait(visit, error)

    async def _wait(self, visit: Visit, error: Exception) -> None:
        """Waits before the next attempt: exponential backoff with jitter, bounded."""
        retry = self._policy.retry
        delay = min(retry.backoff * 2 ** (visit.attempt - 1), retry.max_backoff) * random.uniform(0.5, 1.0)  # noqa: S311
        visit.context.emit(
            visit.context.record(
                RecordType.LOG,
                visit.node,
                level="warning",
                message=f"attempt {visit.attempt} failed, next one in {delay:.2f} s: {error}",
            )
        )
        visit.attempt += 1
        await asyncio.sleep(delay)

    async def _cached(self, visit: Visit) -> Updates:
        cache = self._policy.cache
        assert cache is not None
        key = cache.key(visit.state, visit.sent)
        updates = cache.get(key, visit.context.clock.monotonic())
        if updates is None:
            updates = await self._timed(visit)
            cache.put(key, updates, visit.context.clock.monotonic())
        return updates

    async def _timed(self, visit: Visit) -> Updates:
        limit = asyncio.timeout(self._policy.timeout)
        try:
            async with limit:
                return await self._body(visit)
        except TimeoutError as error:
            if self._policy.timeout is None or not limit.expired():
                raise
            raise NodeTimedOut(node=visit.node, seconds=self._policy.timeout) from error

    def _checked(self, visit: Visit, updates: Any) -> Any:
        """The updates with their messages in shape and recorded; a key that a closed state lacks is an error."""
        if isinstance(updates, Command):  # where to go on: nothing is written
            return updates  # pyright: ignore[reportUnknownVariableType]
        written = self._policy.shape.writable(updates)
        if isinstance(written, str):
            raise StateKeyUnknown(node=visit.node, key=written)
        if "messages" in written:
            messages = normalised(written["messages"], node=visit.node)
            run_id, is_outer = visit.context.key.run_id, visit.is_outer
            visit.facts.records += [
                message_record(message, run_id, visit.node, in_conversation=is_outer) for message in messages
            ]
            written["messages"] = messages
        return written

    def _failure(self, visit: Visit, error: Exception) -> NodeFailure:
        """Logs the error and answers what to raise."""
        context = visit.context
        record = error_record(error, run_id=context.key.run_id, node=visit.node, workflow_id=context.workflow_id)
        self._flush(visit)
        context.emit(record)
        return NodeFailure(visit.node, error, summary(record))

    def _flush(self, visit: Visit) -> None:
        """Logs what a failed attempt had collected, but for messages: they never reached the state."""
        facts = visit.context.binding.pending.pop(visit.task_id, None)
        if facts is None:
            return
        visit.context.inbox.put_back(facts.inbox_taken)
        kept = [r for r in facts.records if r.record_type is not RecordType.MESSAGE]
        if kept:
            visit.context.emit(*kept)

    # -- records -----------------------------------------------------------------------------------------------

    def _start_record(self, visit: Visit) -> Any:
        progress = visit.context.progress
        fields = progress.start(visit.node, step_id=visit.step_id, visible=self._is_visible(visit))
        visit.context.budget.steps = progress.steps
        return visit.context.record(RecordType.STEP, visit.node, task_id=visit.task_id, **fields)

    def _is_visible(self, visit: Visit) -> bool:
        """Whether this execution is an entry of the path: an agent's loop is one, however often it asks its model."""
        key = self._policy.loop_key
        run_id, count = (visit.state.get(key) if key else None) or ("", 0)
        return self._policy.visible and not (run_id == visit.context.key.run_id and count)

    def _end_record(self, visit: Visit, status: str, started: float) -> Any:
        fields = visit.context.progress.end(visit.node, status=status)
        duration = round(visit.context.clock.monotonic() - started, 6)
        return visit.context.record(
            RecordType.STEP, visit.node, task_id=visit.task_id, attempts=visit.attempt, duration=duration, **fields
        )

    def _emit_end(self, visit: Visit, status: str, started: float) -> None:
        record = self._end_record(visit, status, started)
        if visit.context.binding.failure is None:
            visit.context.emit(record)


def _passes(error: Exception) -> bool:
    """Whether another attempt may fare better: our own errors say so, a user's code is given the chance."""
    if isinstance(error, NodeTimedOut):
        return True
    return bool(getattr(error, "retryable", False)) if isinstance(error, AgentError) else True
