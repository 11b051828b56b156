"""The checkpoint saver: LangGraph's state on our own storage, in the same transactions as the log.

It hands rows to the writer in the order of its calls, before its first `await`, and is fail-stop: once one write of a
run failed, every later one of that run is refused. What a finished task wrote and the facts it made commit together
(`aput_writes`); the checkpoint follows (`aput`). Append logs are stored as their new items only.
"""

import inspect
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    PendingWrite,
    get_checkpoint_id,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.base.id import uuid6
from langgraph.types import Interrupt

from modular_agent.engine.binding import BINDING, Binding
from modular_agent.engine.channels import LogRef
from modular_agent.engine.checkpoint_ids import come_after
from modular_agent.engine.errors import CheckpointThreadUnknown, StateTooLarge
from modular_agent.engine.questions import question_of, question_record
from modular_agent.engine.state_cache import Held, StateCache
from modular_agent.engine.store import (
    CheckpointRow,
    CheckpointStore,
    Facts,
    NewCheckpoint,
    StoredCheckpoint,
    TaskWrite,
    WriteRow,
)
from modular_agent.engine.stored_values import log_segments, plain_values, stored_form
from modular_agent.engine.tools.port import Effect
from modular_agent.events import SessionRef

__all__ = ["Saver"]

_START: Final = "__start__"  # the channel of an input that no step has taken yet
_INTERRUPT: Final = "__interrupt__"
_NULL_TASK: Final = "00000000-0000-0000-0000-000000000000"
_DELTAS: Final = "counters_since_delta_snapshot"  # in metadata: the delta channels that their ancestors complete


class Saver(BaseCheckpointSaver[int]):
    """LangGraph's checkpoint saver on a `CheckpointStore`.

    LangGraph copies it shallowly when it compiles a graph, so everything that changes lives in shared objects.
    """

    def __init__(
        self, store: CheckpointStore, *, cached_states: int = 256, max_state_bytes: int = 16 * 1024 * 1024
    ) -> None:
        super().__init__()
        self._max_state_bytes = max_state_bytes
        self._store = store
        self._cache = StateCache(cached_states)

    # -- writing -----------------------------------------------------------------------------------------------

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        binding, configurable = _binding(config), _configurable(config)
        ns, parent_id = configurable.get("checkpoint_ns", ""), configurable.get("checkpoint_id")
        place = _place(configurable["thread_id"], ns, checkpoint["id"])
        metadata = get_checkpoint_metadata(config, metadata)
        if binding is not None and not ns:
            self.put_step(binding, checkpoint, metadata, parent_id=parent_id, alone=None)
            return place
        stored, items, logs = stored_form(checkpoint, self.serde)
        row = self._row(ns, parent_id, stored, metadata, binding.run.run_id if binding else metadata.get("run_id"))
        if binding is not None:
            binding.fresh = False
            binding.gathering().checkpoints.append(NewCheckpoint(row, items))
            if row.step > 0:  # our own nodes wait before they act (`durable`); a user's graph does not
                await binding.durable()
            return place
        session = await self._session(configurable)
        await self._store.put(session, Facts(checkpoints=[NewCheckpoint(row, items)]))
        if not ns:
            self._cache.put(session.n, Held(row, logs))
        return place

    def put_step(
        self,
        binding: Binding,
        checkpoint: Checkpoint,
        metadata: Mapping[str, Any],
        *,
        parent_id: str | None,
        alone: str | None,
    ) -> None:
        """Takes a checkpoint of a run's own graph, with the facts of the task that was `alone` in its step, if one was.

        What that task wrote is in the checkpoint, and nowhere else: both are written in one transaction.
        """
        if _START in checkpoint["channel_values"]:
            # The run's row holds the input: should the process die before the next checkpoint, it is given again.
            binding.unstored = checkpoint["id"]
            return
        stored, items, logs = stored_form(checkpoint, self.serde)
        run_id = binding.run.run_id
        row = self._row("", parent_id, stored, {**metadata, "run_id": run_id}, run_id)
        gathered = binding.gathering()
        facts = binding.pending.pop(alone, None) if alone else None
        if facts is not None:
            gathered.extend(facts)
        if gathered.writes:  # those of the tasks before it are in the checkpoint: nobody would read them
            gathered.writes = [write for write in gathered.writes if write.ns or write.checkpoint_id != parent_id]
        gathered.checkpoints.append(NewCheckpoint(row, items))
        binding.fresh = False
        binding.values = checkpoint["channel_values"]
        self._cache.put(binding.run.session.n, Held(row, logs))
        if facts is not None and _may_not_be_repeated(facts):
            binding.flush()

    def _row(
        self, ns: str, parent_id: str | None, stored: Mapping[str, Any], metadata: Mapping[str, Any], run_id: str | None
    ) -> CheckpointRow:
        kind, blob = self.serde.dumps_typed(stored)
        if len(blob) > self._max_state_bytes:
            raise StateTooLarge(size=len(blob), maximum=self._max_state_bytes)
        return CheckpointRow(
            ns=ns,
            checkpoint_id=stored["id"],
            parent_id=parent_id,
            root_id=_root_of(metadata) if ns else stored["id"],
            run_id=run_id,
            step=metadata.get("step", -1),
            source=metadata.get("source", ""),
            type=kind,
            checkpoint=blob,
            metadata=orjson.dumps(metadata, default=repr),
        )

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        binding, configurable = _binding(config), _configurable(config)
        session = binding.run.session if binding else await self._session(configurable)
        special = all(channel in WRITES_IDX_MAP for channel, _ in writes)
        ns, checkpoint_id = configurable.get("checkpoint_ns", ""), str(configurable["checkpoint_id"])
        if binding is not None and not ns and checkpoint_id == binding.unstored:
            return
        facts = Facts() if binding is None else self._facts_of(binding, writes, task_id, ns)
        for index, (channel, value) in enumerate(writes):
            place = (task_id, WRITES_IDX_MAP.get(channel, index), task_path, channel)
            row = WriteRow(*place, *self.serde.dumps_typed(value))
            facts.writes.append(TaskWrite(ns, checkpoint_id, row, special))
        if binding is None:
            await self._store.put(session, facts)
            return
        binding.gather(facts)
        if _may_not_be_repeated(facts):
            binding.flush()

    def _facts_of(self, binding: Binding, writes: Sequence[tuple[str, Any]], task_id: str, ns: str) -> Facts:
        """The task's facts; with an interrupt among its writes, the question too."""
        facts = binding.pending.pop(task_id, None) or Facts()
        if task_id == _NULL_TASK and binding.clears_pending:
            binding.clears_pending = False
            facts.clears_pending = True
        for channel, value in writes:
            if channel == _INTERRUPT:
                for interrupt in value:
                    _ask(binding, facts, interrupt, ns)
        return facts

    # -- reading -----------------------------------------------------------------------------------------------

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        binding, configurable = _binding(config), _configurable(config)
        ns, wanted = configurable.get("checkpoint_ns", ""), get_checkpoint_id(config)
        if binding is not None:
            if binding.fresh:
                return None
            if not ns and wanted is None and (held := self._cache.get(binding.run.session.n, binding.newest)):
                return await self._tuple(binding.run.session, configurable["thread_id"], StoredCheckpoint(held.row, ()))
            await binding.durable()  # what this run wrote is to be found
        session = binding.run.session if binding else await self._store.session(configurable["thread_id"])
        if session is None:
            return None
        found = await self._store.checkpoint(session, ns, wanted)
        if found is None:
            return None
        await self._lead(session, found, is_newest=wanted is None and not ns)
        return await self._tuple(session, configurable["thread_id"], found)

    async def _lead(self, session: SessionRef, found: StoredCheckpoint, *, is_newest: bool) -> None:
        """Has new checkpoints sort after all of the session's graph, and after the one found, whatever the clock does.

        A graph inside is read before it goes on: its newest may be newer than all of the session's own.
        """
        come_after(found.row.checkpoint_id)
        if self._cache.holds(session.n) or is_newest:
            return  # this process has made the last one, or it is the one
        newest = await self._store.checkpoint(session, "", None)
        if newest is not None:
            come_after(newest.row.checkpoint_id)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - the library's name
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        if config is None:
            return
        configurable = _configurable(config)
        session = await self._store.session(configurable["thread_id"])
        if session is None:
            return
        found = await self._store.checkpoints(
            session,
            configurable.get("checkpoint_ns"),
            before=get_checkpoint_id(before) if before else None,
            limit=None if filter else limit,
        )
        wanted = get_checkpoint_id(config)
        left = len(found) if limit is None else limit
        for one in found:
            if left <= 0:
                return
            if (wanted and one.row.checkpoint_id != wanted) or not _matches(one, filter):
                continue
            left -= 1
            yield await self._tuple(session, configurable["thread_id"], one)

    async def _tuple(self, session: SessionRef, thread_id: str, found: StoredCheckpoint) -> CheckpointTuple:
        row = found.row
        checkpoint = self.serde.loads_typed((row.type, row.checkpoint))
        await self._join_logs(session, row, checkpoint)
        place = {"thread_id": thread_id, "checkpoint_ns": row.ns}
        return CheckpointTuple(
            {"configurable": {**place, "checkpoint_id": row.checkpoint_id}},
            checkpoint,
            orjson.loads(row.metadata),
            {"configurable": {**place, "checkpoint_id": row.parent_id}} if row.parent_id else None,
            [self._pending(write) for write in found.writes],
        )

    def _pending(self, write: WriteRow) -> PendingWrite:
        return (write.task_id, write.channel, self.serde.loads_typed((write.type, write.value)))

    async def _join_logs(self, session: SessionRef, row: CheckpointRow, checkpoint: Checkpoint) -> None:
        """Puts the lists back where the stored checkpoint has references to segments."""
        values = checkpoint["channel_values"]
        held_state = self._cache.get(session.n, row.checkpoint_id)
        cached = held_state.logs if held_state is not None else {}
        for channel, value in values.items():
            segments = log_segments(value)
            if segments is None:
                continue
            held = cached.get(segments)
            if held is None:
                parts = await self._store.log_items(session, segments)
                items = [orjson.loads(item) for part, _ in parts for item in part]
                held = LogRef(segments, items, (), bool(parts) and parts[-1][1])
            values[channel] = held

    async def values(self, config: RunnableConfig, checkpoint_id: str) -> dict[str, Any]:
        """The channels' values at a checkpoint of the config's session and namespace."""
        configurable = _configurable(config)
        ns = str(configurable.get("checkpoint_ns", "")).rpartition("|")[0]  # a task's own namespace is one deeper
        place = {**configurable, "checkpoint_ns": ns, "checkpoint_id": checkpoint_id}
        found = await self.aget_tuple({"configurable": place})
        if found is None:
            return {}
        return plain_values(found.checkpoint["channel_values"])

    async def standing(
        self, session: SessionRef, checkpoint_id: str | None
    ) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
        """The values at the newest (or the given) root checkpoint, and what its finished tasks wrote, in order.

        What tasks wrote after an older checkpoint belongs to the next one.
        """
        newest = await self._store.checkpoint(session, "", None)
        if newest is None or checkpoint_id in {None, newest.row.checkpoint_id}:
            found = newest
        else:
            found = await self._store.checkpoint(session, "", checkpoint_id)
        if found is None:
            return {}, []
        tuple_ = await self._tuple(session, session.session_id, found)
        values = tuple_.checkpoint["channel_values"]
        plain = plain_values(values)
        start = values.get(_START)
        if not isinstance(start, dict):
            written = (tuple_.pending_writes or ()) if found is newest else ()
            return plain, [(channel, value) for _, channel, value in written]
        return {**plain, **start}, []  # the input was taken, nothing has run yet

    async def has_checkpoint(self, session: SessionRef, checkpoint_id: str) -> bool:
        """Whether the session has that checkpoint."""
        return await self._store.checkpoint(session, "", checkpoint_id) is not None

    async def copied(self, session: SessionRef, checkpoint_id: str) -> NewCheckpoint | None:
        """A copy of a root checkpoint, to be stored as the session's newest; what tasks wrote after it is not a part.

        As LangGraph's own `__copy__`, which stores it at once.
        """
        found = await self._store.checkpoint(session, "", checkpoint_id)
        if found is None:
            return None
        await self._lead(session, found, is_newest=False)
        row = found.row
        step = row.step + 1
        checkpoint = self.serde.loads_typed((row.type, row.checkpoint))
        checkpoint |= {"id": str(uuid6(clock_seq=step)), "ts": datetime.now(UTC).isoformat()}
        kept = {key: value for key, value in orjson.loads(row.metadata).items() if key in {"parents", _DELTAS}}
        kind, blob = self.serde.dumps_typed(checkpoint)
        metadata = orjson.dumps({**kept, "source": "fork", "step": step})
        new = {"run_id": None, "step": step, "source": "fork", "type": kind, "checkpoint": blob, "metadata": metadata}
        return NewCheckpoint(replace(row, checkpoint_id=checkpoint["id"], **new), [])

    async def pending_interrupts(self, session: SessionRef) -> frozenset[str]:
        """The ids of the interrupts that the session's newest state waits for."""
        found = await self._store.checkpoint(session, "", None)
        writes = found.writes if found else ()
        return frozenset(
            interrupt.id for write in writes if write.channel == _INTERRUPT for interrupt in self._pending(write)[2]
        )

    # -- housekeeping ------------------------------------------------------------------------------------------

    async def adelete_thread(self, thread_id: str) -> None:
        session = await self._store.session(thread_id)
        if session is not None:
            self._cache.drop(session.n)
            await self._store.delete_checkpoints(session)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        await self._store.delete_run_checkpoints(list(run_ids))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        source = await self._store.session(source_thread_id)
        target = await self._store.session(target_thread_id)
        if source is None:
            return
        if target is None:
            raise CheckpointThreadUnknown(thread_id=target_thread_id)
        await self._store.copy_checkpoints(source, target)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        for thread_id in thread_ids:
            session = await self._store.session(thread_id)
            if session is None:
                continue
            self._cache.drop(session.n)
            if strategy == "delete":
                await self._store.prune_checkpoints(session, keep=0)
            else:
                protected = await self._needed_by_newest(session)
                await self._store.prune_checkpoints(session, keep=1, protect=protected)

    async def _needed_by_newest(self, session: SessionRef) -> list[tuple[str, str]]:
        """The newest checkpoint of each namespace with the ancestors that its delta channels are read from.

        A user's graph may have such channels: their checkpoints hold nothing between two snapshots, and without the
        writes since the last one the channel would be read as empty.
        """
        stored = await self._store.checkpoints(session, None, before=None, limit=None)
        by_place = {(each.row.ns, each.row.checkpoint_id): each.row for each in stored}
        newest: dict[str, CheckpointRow] = {}
        for each in stored:  # newest first
            newest.setdefault(each.row.ns, each.row)
        needed: list[tuple[str, str]] = []
        for ns, head in newest.items():
            needed.append((ns, head.checkpoint_id))
            missing: set[str] = set(orjson.loads(head.metadata).get(_DELTAS) or ())
            row: CheckpointRow | None = head
            while missing and row is not None and row.parent_id is not None:
                row = by_place.get((ns, row.parent_id))
                if row is not None:
                    needed.append((ns, row.checkpoint_id))
                    missing -= self.serde.loads_typed((row.type, row.checkpoint))["channel_values"].keys()
        return needed

    def holds(self, session: SessionRef) -> bool:
        """Whether the session is known to have a state, without a look into the database; False says nothing."""
        return self._cache.holds(session.n)

    def forget(self, session: SessionRef) -> None:
        """Drops what is cached of a session whose checkpoints were changed by somebody else."""
        self._cache.drop(session.n)

    async def _session(self, configurable: dict[str, Any]) -> SessionRef:
        session = await self._store.session(configurable["thread_id"])
        if session is None:
            raise CheckpointThreadUnknown(thread_id=configurable["thread_id"])
        return session


# LangGraph asks for it at every start of a run; taking the method apart each time costs 0.1 ms.
setattr(Saver.aput_writes, "__signature__", inspect.signature(Saver.aput_writes))  # noqa: B010 - typed as a method


def _may_not_be_repeated(facts: Facts) -> bool:
    """Whether a crash before the facts are written makes a person answer for a call."""
    return any(effect.intent.effect == Effect.IRREVERSIBLE for effect in facts.effects)


def _root_of(metadata: Any) -> str | None:
    """The root checkpoint that a sub-graph's checkpoint belongs to."""
    parents: dict[str, str] = metadata.get("parents") or {}
    return parents.get("")


def _configurable(config: RunnableConfig) -> dict[str, Any]:
    return config.get("configurable") or {}


def _place(thread_id: str, ns: str, checkpoint_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": ns, "checkpoint_id": checkpoint_id}}


def _binding(config: RunnableConfig) -> Binding | None:
    return _configurable(config).get(BINDING)


def _matches(found: StoredCheckpoint, wanted: dict[str, Any] | None) -> bool:
    if not wanted:
        return True
    metadata = orjson.loads(found.row.metadata)
    return all(metadata.get(key) == value for key, value in wanted.items())


def _ask(binding: Binding, facts: Facts, interrupt: Interrupt, ns: str) -> None:
    """Makes a question of an interrupt, unless it is the same one passing through a parent graph."""
    is_known = interrupt.id in binding.questions or interrupt.id in binding.asked
    binding.questions.add(interrupt.id)
    if not is_known:
        question = question_of(interrupt, binding.run.run_id, node=_foreign_node(binding, ns))
        facts.questions.append(question)
        facts.records.append(question_record(question, binding.run.run_id))


def _foreign_node(binding: Binding, ns: str) -> str:
    """The node whose graph a namespace lies in: `node:task|inner:task|...`."""
    tasks = (part.partition(":")[2] for part in ns.split("|"))
    return next((binding.foreign[task] for task in tasks if task in binding.foreign), "")
