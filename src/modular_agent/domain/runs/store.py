"""The engine's port for what must be durable, on the database: facts become units of work."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Final

import orjson

from modular_agent.engine.channels import Segment
from modular_agent.engine.store import (
    CheckpointRow,
    EffectIntent,
    EffectState,
    Facts,
    InboxMessage,
    ModelCall,
    RunChange,
    RunKey,
    Scope,
    Spent,
    StoredCheckpoint,
    WriteRow,
)
from modular_agent.events import Record, RecordType, SessionRef
from modular_agent.kit.clock import Clock
from modular_agent.lifecycle import SESSION_STATUS_OF_RUN, RunHold, RunStatus
from modular_agent.storage import models as tables
from modular_agent.storage.database import Database
from modular_agent.storage.records import RecordFilter
from modular_agent.storage.repositories import checkpoint_pruning as pruning
from modular_agent.storage.repositories import checkpoints as stored
from modular_agent.storage.repositories import runs as run_rows
from modular_agent.storage.repositories.effects import NewEffect, record_attempt, record_intent
from modular_agent.storage.repositories.errors import ErrorRow, put_error
from modular_agent.storage.repositories.interrupts import open_interrupt, withdraw_interrupts
from modular_agent.storage.repositories.llm_calls import LlmCallRepository, LlmCallRow, put_llm_call
from modular_agent.storage.repositories.run_steps import change_pending, transition_run
from modular_agent.storage.repositories.sessions import SessionRepository
from modular_agent.storage.repositories.spending import SpendingRepository, add_spending
from modular_agent.storage.unit_of_work import Committed, Conflict, Counters, Fence, UnitOfWork, in_order

__all__ = ["WITHDRAWING", "DatabaseRunStore", "run_record"]

WITHDRAWING: Final = frozenset({RunStatus.STOPPED, RunStatus.FAILED})  # nobody waits for an answer any more
Step = Callable[..., object]  # of a unit of work; what it is given is the storage's business


class DatabaseRunStore:
    """Implements the engine's `RunStore`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._writer = database.writer
        self._clock = clock
        self._checkpoints = stored.CheckpointRepository(database.readers)
        self._sessions = SessionRepository(database.readers)
        self._calls = LlmCallRepository(database.readers)
        self._runs = run_rows.RunRepository(database.readers)
        self._spending = SpendingRepository(database.readers)

    # -- facts -------------------------------------------------------------------------------------------------

    def unit(self, run: RunKey, facts: Facts) -> UnitOfWork[Any]:
        """The unit of work that makes facts of a run durable, fenced by its epoch."""
        unit: UnitOfWork[Any] = UnitOfWork(fences=[Fence(run.run_id, run.epoch)], alone=run.session.n)
        self.add_facts(unit, run, facts)
        return unit

    def add_facts(self, unit: UnitOfWork[Any], run: RunKey, facts: Facts) -> None:
        """Adds facts to a unit; a unit with a `then` of its own must not be given facts that need one."""
        now = self._clock.now_us()
        counters = Counters()
        unit.record_all(run.session, facts.records)
        for record in facts.records:
            kind = record.record_type
            if kind is RecordType.MESSAGE:
                counters.messages += 1
            elif kind is RecordType.TOOL_CALL:
                counters.tool_calls += record.fields["phase"] == "result"
            elif kind is RecordType.ERROR:
                counters.errors += 1
                put_error(unit, _error_row(run.session, record, now))
        for call in facts.calls:
            put_llm_call(unit, _call_row(run, call, now))
            _count_call(counters, call)
        ended = {effect.intent.tool_call_id for effect in facts.effects}
        for intent in facts.intents:
            if intent.tool_call_id not in ended:
                values = (*_intent_values(run, intent), "intent", 1, now, None, None)
                unit.insert(tables.effects, values, conflict=Conflict.REPLACE)
        for effect in facts.effects:
            values = (effect.status, 1, effect.began_at, now, effect.result)
            unit.insert(tables.effects, (*_intent_values(run, effect.intent), *values), conflict=Conflict.REPLACE)
        for question in facts.questions:
            open_interrupt(
                unit,
                interrupt_id=question.interrupt_id,
                session=run.session,
                run_id=run.run_id,
                node=question.node,
                graph_id=question.graph_id,
                kind=question.kind,
                question=question.question,
                now_us=now,
                form=None if question.form is None else dict(question.form),
                due_at=question.due_at,
            )
        for charge in facts.charges:
            add_spending(unit, charge.scopes, day=charge.day, numbers=charge.spent.numbers())
        if any(counters.numbers()):
            unit.count(run.session, counters)
        self._add_state(unit, run.session, facts)
        if facts.needs_statement:
            unit.then = in_order(*_rare_steps(run, facts))
            unit.touches = ()  # inbox and run alone

    def commit(self, run: RunKey, facts: Facts) -> Awaitable[object]:
        return self._writer.submit(self.unit(run, facts))

    def change(self, run: RunKey, change: RunChange, facts: Facts) -> Awaitable[bool]:
        unit: UnitOfWork[Any] = UnitOfWork(alone=run.session.n)
        self.add_facts(unit, run, facts)
        step = transition_run(
            run.run_id,
            change.status,
            now_us=self._clock.now_us(),
            expected_epoch=run.epoch,
            raise_epoch=change.raise_epoch,
            change=run_rows.RunChange(
                result=run_rows.KEEP if change.result is None else change.result,
                error=run_rows.KEEP if change.error is None else change.error,
                current_node=run_rows.KEEP if change.current_node is None else change.current_node,
                active_us=change.active_us,
                hold=RunHold.PAUSE if change.holds else run_rows.KEEP,
            ),
        )
        unit.first = step  # a refused change must refuse its records too
        unit.touches = ("sessions", run.session.n)
        unit.then = run_rows.inbox_waits(run.session)
        if change.status in WITHDRAWING:  # last of all: a question may be among the facts
            withdraw = withdraw_interrupts(run.run_id, now_us=self._clock.now_us())
            unit.then = in_order(withdraw, unit.then)
        return self._changed(self._writer.submit(unit))

    @staticmethod
    async def _changed(committed: "Awaitable[Committed[bool]]") -> bool:
        return bool((await committed).result)

    # -- checkpoints -------------------------------------------------------------------------------------------

    async def session(self, thread_id: str) -> SessionRef | None:
        return await self._sessions.ref(thread_id)

    def put(self, session: SessionRef, facts: Facts) -> Awaitable[object]:
        unit: UnitOfWork[Any] = UnitOfWork(alone=session.n)
        self._add_state(unit, session, facts)
        return self._writer.submit(unit)

    def _add_state(self, unit: UnitOfWork[Any], session: SessionRef, facts: Facts) -> None:
        for row, items in facts.checkpoints:
            stored.put_checkpoint(
                unit,
                stored.CheckpointRow(
                    *(session.n, row.ns, row.checkpoint_id, row.parent_id, row.root_id, row.run_id, row.step),
                    *(row.source, self._clock.now_us(), None, row.type, row.checkpoint, row.metadata),
                ),
            )
            for item in items:
                unit.insert(tables.log_items, (session.n, *item), conflict=Conflict.REPLACE)
        for ns, checkpoint_id, row, replace in facts.writes:
            conflict = Conflict.REPLACE if replace else Conflict.IGNORE
            unit.insert(tables.checkpoint_writes, (session.n, ns, checkpoint_id, *row), conflict=conflict)

    async def checkpoint(self, session: SessionRef, ns: str, checkpoint_id: str | None) -> StoredCheckpoint | None:
        found = await self._checkpoints.load(session, ns=ns, checkpoint_id=checkpoint_id)
        return None if found is None else _stored(found)

    async def checkpoints(
        self, session: SessionRef, ns: str | None, *, before: str | None, limit: int | None
    ) -> Sequence[StoredCheckpoint]:
        found = await self._checkpoints.page(session, ns=ns, before=before, limit=limit)
        return [_stored(each) for each in found]

    async def log_items(
        self, session: SessionRef, segments: Sequence[Segment]
    ) -> Sequence[tuple[Sequence[bytes], bool]]:
        return [(each.values, each.more) for each in await self._checkpoints.log_segments(session, segments)]

    async def delete_checkpoints(self, session: SessionRef) -> None:
        await self._writer.commit(UnitOfWork(then=pruning.delete_checkpoints(session)))

    async def delete_run_checkpoints(self, run_ids: Sequence[str]) -> None:
        await self._writer.commit(UnitOfWork(then=pruning.delete_checkpoints_of_runs(run_ids)))

    async def copy_checkpoints(self, source: SessionRef, target: SessionRef) -> None:
        await self._writer.commit(UnitOfWork(then=pruning.copy_checkpoints(source, target)))

    async def prune_checkpoints(
        self, session: SessionRef, *, keep: int, protect: Collection[tuple[str, str]] = ()
    ) -> None:
        step: Step = pruning.delete_checkpoints(session)
        if keep:
            step = pruning.prune_to_newest(session, keep=keep, protect=protect)
        await self._writer.commit(UnitOfWork(then=step))

    # -- effects, inbox and what a run has used ----------------------------------------------------------------

    async def intend(self, run: RunKey, intent: EffectIntent, record: Record) -> EffectState | None:
        known = await self._known(run, intent)
        if known is not None:
            return known
        unit = self.unit(run, Facts(records=[record]))
        unit.touches = ()
        unit.then = record_intent(
            NewEffect(
                session=run.session,
                tool_call_id=intent.tool_call_id,
                run_id=run.run_id,
                node=intent.node,
                tool_name=intent.tool_name,
                effect=intent.effect,
                idempotency_key=intent.idempotency_key,
                now_us=self._clock.now_us(),
            )
        )
        row, is_new = (await self._writer.commit(unit)).result or (None, True)
        return (
            None if is_new or row is None else EffectState(status=row.status, attempts=row.attempts, result=row.result)
        )

    async def repeat(self, run: RunKey, intent: EffectIntent, record: Record) -> None:
        unit = self.unit(run, Facts(records=[record]))
        unit.touches = ()
        unit.then = record_attempt(run.session, intent.tool_call_id, run_id=run.run_id, now_us=self._clock.now_us())
        await self._writer.commit(unit)

    async def _known(self, run: RunKey, intent: EffectIntent) -> EffectState | None:
        rows = await self._database.readers.query(
            "SELECT status, attempts, result FROM effects WHERE session_n = ? AND tool_call_id = ?",
            (run.session.n, intent.tool_call_id),
        )
        return EffectState(status=rows[0][0], attempts=rows[0][1], result=rows[0][2]) if rows else None

    async def inbox(self, run: RunKey) -> Sequence[InboxMessage]:
        rows = await self._runs.inbox(run.session)
        return [InboxMessage(row.inbox_id, row.message) for row in rows if row.run_id == run.run_id]

    async def spent(self, run: RunKey) -> Sequence[ModelCall]:
        return [_model_call(row) for row in await self._calls.calls_of_run(run.session, run.run_id)]

    async def usage(self, scopes: Sequence[Scope], *, day: int) -> Sequence[tuple[Spent, Spent]]:
        found = await self._spending.of([(scope.kind.value, scope.subject) for scope in scopes], day=day)
        return [(Spent(*in_all.sums()), Spent(*on_day.sums())) for in_all, on_day in found]

    async def steps(self, run: RunKey) -> Sequence[Mapping[str, Any]]:
        return await self._records(run, RecordType.STEP)

    async def tool_calls(self, run: RunKey) -> Sequence[Mapping[str, Any]]:
        return await self._records(run, RecordType.TOOL_CALL)

    async def _records(self, run: RunKey, record_type: RecordType) -> Sequence[Mapping[str, Any]]:
        chosen = RecordFilter(types=(record_type,), run_id=run.run_id)
        page = await self._database.records.page(run.session, chosen, limit=1_000_000)
        return [orjson.loads(record.line) for record in page.records]


def _rare_steps(run: RunKey, facts: Facts) -> list[Step]:
    steps: list[Step] = []
    if facts.inbox_taken:
        steps.append(run_rows.take_inbox(run.session, inbox_ids=facts.inbox_taken))
    if facts.clears_pending:
        steps.append(change_pending(run.run_id, _without_edit))
    return steps


def _without_edit(pending: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What still waits with a run when the change of its state has been applied."""
    return {key: value for key, value in (pending or {}).items() if key != "update"} or None


def run_record(run_id: str, status: RunStatus) -> Record:
    """The record of a status that nobody executes a run in, or not yet."""
    fields = {"status": status, "session_status": SESSION_STATUS_OF_RUN[status]}
    return Record(record_type=RecordType.RUN, run_id=run_id, fields=fields)


def _count_call(counters: Counters, call: ModelCall) -> None:
    counters.prompt_tokens += call.prompt_tokens
    counters.completion_tokens += call.completion_tokens
    counters.cached_tokens += call.cached_tokens
    counters.reasoning_tokens += call.reasoning_tokens
    if call.cost_nano is None:
        counters.unpriced_tokens += call.prompt_tokens + call.completion_tokens
    else:
        counters.cost_nano += call.cost_nano


def _error_row(session: SessionRef, record: Record, now: int) -> ErrorRow:
    fields = record.fields
    return ErrorRow(
        *(fields["error_id"], session.n, record.run_id, record.node, now, fields["error_type"]),
        *(fields["error_message"], fields["severity"], fields["fingerprint"]),
    )


def _call_row(run: RunKey, call: ModelCall, now: int) -> LlmCallRow:
    return LlmCallRow(
        *(call.call_id, run.session.n, run.run_id, now, call.workflow_id, call.node, call.provider, call.model),
        *(call.duration_us, call.first_token_us, call.prompt_tokens, call.completion_tokens, call.cached_tokens),
        *(call.cache_write_tokens, call.reasoning_tokens, call.cost_nano, call.price_source, call.error_kind),
        call.served_by,
    )


def _model_call(row: LlmCallRow) -> ModelCall:
    return ModelCall(
        call_id=row.call_id,
        workflow_id=row.workflow_id,
        node=row.node,
        provider=row.provider,
        model=row.model,
        duration_us=row.duration_us,
        first_token_us=row.first_token_us,
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        cached_tokens=row.cached_tokens,
        cache_write_tokens=row.cache_write_tokens,
        reasoning_tokens=row.reasoning_tokens,
        cost_nano=row.cost_nano,
        price_source=row.price_source,
        error_kind=row.error_kind,
        served_by=row.served_by,
    )


def _intent_values(run: RunKey, intent: EffectIntent) -> tuple[Any, ...]:
    place = (run.session.n, intent.tool_call_id, run.run_id, intent.node)
    return (*place, intent.tool_name, intent.effect, intent.idempotency_key)


def _stored(found: stored.StoredCheckpoint) -> StoredCheckpoint:
    row = found.row
    return StoredCheckpoint(
        CheckpointRow(
            ns=row.ns,
            checkpoint_id=row.checkpoint_id,
            parent_id=row.parent_id,
            root_id=row.root_id,
            run_id=row.run_id,
            step=row.step,
            source=row.source,
            type=row.type,
            checkpoint=row.checkpoint,
            metadata=row.metadata,
        ),
        [WriteRow(w.task_id, w.idx, w.task_path, w.channel, w.type, w.value) for w in found.writes],
    )
