"""Runs: started, waited for, looked at, and taken up again after a restart."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import structlog

from modular_agent.domain.auth import ApiKeys
from modular_agent.domain.configuration.values import LiveValues
from modular_agent.domain.runs.going_back import ATTEMPTS, GoingBack, is_left_behind, is_rolled_back
from modular_agent.domain.runs.requests import StartRequest, check_start
from modular_agent.domain.runs.store import WITHDRAWING, DatabaseRunStore, run_record
from modular_agent.domain.runs.terms import RunTerms
from modular_agent.domain.workflows.catalog import WorkflowCatalog
from modular_agent.engine.checkpoints import Saver
from modular_agent.engine.limits import checked_limits
from modular_agent.engine.nodes.conversation import message_record, normalised, user_message
from modular_agent.engine.open_calls import interrupted
from modular_agent.engine.run import Ticket
from modular_agent.engine.store import Facts, RunKey
from modular_agent.engine.supervisor import Admission, Ended, Supervisor
from modular_agent.engine.workflow import LOGGED, Workflow
from modular_agent.events import Record, SessionRef
from modular_agent.kit.clock import Clock
from modular_agent.kit.ids import new_id
from modular_agent.lifecycle import ENDED_RUN_STATUSES, RunHold, RunStatus, SessionStatus
from modular_agent.storage.database import Database
from modular_agent.storage.errors import RequestRepeated, RunUnknown, SessionMoved, SessionUnknown
from modular_agent.storage.repositories.api_keys import ApiKeyRow, charge_to_key
from modular_agent.storage.repositories.checkpoints import CheckpointRepository, settled_checkpoint
from modular_agent.storage.repositories.idempotency import IdempotencyRepository, claim_key
from modular_agent.storage.repositories.interrupts import InterruptRepository, forget_interrupts, withdraw_interrupts
from modular_agent.storage.repositories.run_steps import change_run, create_run, transition_run
from modular_agent.storage.repositories.runs import (
    KEEP,
    InboxRow,
    Keep,
    NewRun,
    RunChange,
    RunRepository,
    RunRow,
    take_inbox,
)
from modular_agent.storage.repositories.sessions import SessionRepository, SessionRow
from modular_agent.storage.repositories.standing import leave_behind, stands
from modular_agent.storage.unit_of_work import UnitOfWork, in_order

__all__ = ["RunsService"]

_CARRYING: frozenset[SessionStatus] = frozenset({SessionStatus.STOPPED, SessionStatus.ERROR})
_log = structlog.get_logger(__name__)


class RunsService:
    """The verbs about runs."""

    def __init__(
        self,
        database: Database,
        *,
        catalog: WorkflowCatalog,
        supervisor: Supervisor,
        store: DatabaseRunStore,
        saver: Saver,
        clock: Clock,
        keys: ApiKeys,
        live: LiveValues | None = None,
    ) -> None:
        self._terms = RunTerms(live or LiveValues())
        self._api_keys = keys
        self._writer = database.writer
        self._catalog = catalog
        self._supervisor = supervisor
        self._store = store
        self._saver = saver
        self._clock = clock
        self._runs = RunRepository(database.readers)
        self._interrupts = InterruptRepository(database.readers)
        self._sessions = SessionRepository(database.readers)
        self._going_back = GoingBack(database.writer, sessions=self._sessions, store=store, saver=saver)
        self._checkpoints = CheckpointRepository(database.readers)
        self._keys = IdempotencyRepository(database.readers)

    @property
    def rows(self) -> RunRepository:
        return self._runs

    @property
    def terms(self) -> RunTerms:
        return self._terms

    @property
    def interrupts(self) -> InterruptRepository:
        return self._interrupts

    # -- starting ----------------------------------------------------------------------------------------------

    async def start(
        self, session: SessionRow, request: StartRequest, *, run_id: str | None = None, inbox_ids: Sequence[str] = ()
    ) -> str:
        """Starts a run once its input is durable; answers its id.

        A run that waited in the session's queue brings its id; `inbox_ids` are the rows that its input leaves.

        Raises `RunAlreadyActive`, `QueueFull`, `ServerStopping`, `StateInvalid`, `LimitsInvalid`,
        `CheckpointUnknown`, `IdempotencyKeyReused`.
        """
        if request.idempotency_key is not None:
            made = await self._keys.subject(
                tenant="default", key=request.idempotency_key, fingerprint=request.fingerprint
            )
            if made is not None:
                return made
        check_start(request)
        for _ in range(ATTEMPTS):
            try:
                return await self._start(session, request, run_id=run_id, inbox_ids=inbox_ids)
            except SessionMoved:  # what the run was to go on from is another state by now
                session = await self._again(session)
        return await self._start(session, request, run_id=run_id, inbox_ids=inbox_ids)

    async def _again(self, session: SessionRow) -> SessionRow:
        row = await self._sessions.by_number(session.n)
        if row is None:
            raise SessionUnknown(session_id=session.session_id)
        return row

    async def _start(
        self, session: SessionRow, request: StartRequest, *, run_id: str | None, inbox_ids: Sequence[str]
    ) -> str:
        workflow = await self._catalog.workflow(session.workflow_version, session.agent_config)
        if request.state:
            workflow.check_state(request.state, path="state")
        facts = Facts()  # of going back, if it does
        if request.checkpoint_id is not None:
            facts = await self._going_back.facts(session.ref, request.checkpoint_id, by=request.requested_by)
        fresh = await self._is_fresh(session)
        injected = await self._not_consumed(session)
        given = await self._input(session, workflow, request, fresh=fresh, injected=[row.message for row in injected])
        inbox_ids = [*inbox_ids, *(row.inbox_id for row in injected)]
        charged = await self._charged(session, request.key_id)
        limits = checked_limits(request.limits) if request.limits else {}
        key = RunKey(session.ref, run_id or new_id("run"), 1)
        admission = self._supervisor.admit()
        try:
            started_at, newest = await self._store_run(
                key, admission, given, request, limits=limits, inbox_ids=inbox_ids, since=session.last_seq, facts=facts
            )
        except RequestRepeated as repeated:
            self._supervisor.release(admission)
            return repeated.subject
        except BaseException:
            self._supervisor.release(admission)
            raise
        ticket = Ticket(
            key=key,
            workflow=workflow,
            input=workflow.graph_input(given),
            fresh=fresh,
            newest=newest,
            overrides=session.agent_config,
            terms=self._terms.of(session, workflow.spec.limits, run_id=key.run_id, limits=limits, key=charged),
            started_at=started_at,
        )
        self._supervisor.start(ticket, admission)
        return key.run_id

    async def charged(self, session: SessionRef, run_id: str) -> str | None:
        """The id of the key that a run is charged to."""
        key = await self._api_keys.charged(session, run_id)
        return None if key is None else key.key_id

    async def _charged(self, session: SessionRow, key_id: str | None) -> ApiKeyRow | None:
        """The key that a new run is charged to: that of the request, or the one that the session was made with."""
        return await self._api_keys.charged(session.ref) if key_id is None else self._api_keys.get(key_id)

    async def _is_fresh(self, session: SessionRow) -> bool:
        """Whether no run of the session has left a state."""
        if session.last_seq == 0:
            return True
        return not self._saver.holds(session.ref) and await self._store.checkpoint(session.ref, "", None) is None

    async def _not_consumed(self, session: SessionRow) -> list[InboxRow]:
        """Messages for a run that was stopped, or failed, before one of its model calls took them."""
        if session.status not in _CARRYING:
            return []
        return [row for row in await self._runs.inbox(session.ref) if row.run_id is not None]

    async def _input(
        self,
        session: SessionRow,
        workflow: Workflow,
        request: StartRequest,
        *,
        fresh: bool,
        injected: Sequence[Any],  # messages as they wait in the inbox
    ) -> dict[str, Any]:
        """What the graph starts with, as JSON: what was left over, the session's initial state, the request's own."""
        given: dict[str, Any] = {}
        messages: list[Any] = []
        if session.status in _CARRYING and request.checkpoint_id is None:
            messages, others = await self._left_over(session, workflow)
            given.update(others)
        if fresh and not (messages or given):
            given.update(session.initial_state)
        given.update(request.state)
        if injected:
            messages = [*messages, *normalised(list(injected), node="input")]
        if "messages" in given:
            messages = [*messages, *normalised(given["messages"], node="input", role="user")]
        if request.message is not None:
            messages = [*messages, user_message(request.message)]
        if messages:
            given["messages"] = messages
        return given

    async def _left_over(
        self, session: SessionRow, workflow: Workflow
    ) -> tuple[list[dict[str, Any]], Mapping[str, Any]]:
        """What the session's last run was given or did, and no state holds: it was stopped early, or failed.

        Runs that were rolled back are passed over: what they had carried over themselves is the last one's before them.
        """
        run = await self._last_run(session.ref)
        is_lost = run is not None and not is_left_behind(run)
        if run is not None and is_lost and not await self._checkpoints.left_by(session.ref, run.run_id):
            messages = [{**message, LOGGED: True} for message in run.input.get("messages", ())]
            return messages, {key: value for key, value in run.input.items() if key != "messages"}
        return await workflow.unfinished(self._saver, session.ref)

    async def _last_run(self, session: SessionRef) -> RunRow | None:
        """The last run that was not rolled back."""
        offset = 0
        while True:
            page = await self._runs.page(session, limit=1, offset=offset)
            if not page.runs or not is_rolled_back(page.runs[0]):
                return page.runs[0] if page.runs else None
            offset += 1

    async def _store_run(
        self,
        key: RunKey,
        admission: Admission,
        given: Mapping[str, Any],
        request: StartRequest,
        *,
        limits: Mapping[str, Any],
        inbox_ids: Sequence[str],
        since: int,
        facts: Facts,
    ) -> tuple[int, str | None]:
        """Makes the run durable; when (µs), and the checkpoint that is the session's whole state, if one is.

        Raises `SessionMoved` when the session does not stand as it did at the record `since` any more.
        """
        now = self._clock.now_us()
        status = admission.value
        new = NewRun(
            run_id=key.run_id,
            session=key.session,
            now_us=now,
            status=status,
            input=given,
            limits=limits,
            since=since,
        )
        steps: list[Callable[..., object]] = [create_run(new)]
        if request.checkpoint_id is not None:
            steps.insert(0, leave_behind(key.session))
        if request.key_id is not None:
            steps.append(charge_to_key(key.session.session_id, key.run_id, request.key_id))
        if inbox_ids:
            steps.append(take_inbox(key.session, inbox_ids=inbox_ids))
        if request.idempotency_key is not None:
            steps.insert(
                0,
                claim_key(
                    tenant="default",
                    key=request.idempotency_key,
                    fingerprint=request.fingerprint,
                    subject=key.run_id,
                    now_us=now,
                ),
            )
        unit: UnitOfWork[str | None] = UnitOfWork(then=settled_checkpoint(key.session), alone=key.session.n)
        facts.records += [run_record(key.run_id, status), *_new_messages(key, given)]
        self._store.add_facts(unit, key, facts)
        unit.first = in_order(*steps) if steps[1:] else steps[0]  # alone it is one step for many runs
        unit.touches = ("sessions", key.session.n)
        return now, (await self._writer.commit(unit)).result

    # -- going on ----------------------------------------------------------------------------------------------

    async def go_on(
        self,
        session: SessionRow,
        run: RunRow,
        *,
        control: Record | None = None,
        hold: RunHold | Keep | None = KEEP,
    ) -> None:
        """Takes up a paused, failed or stopped run, or one that a process left behind, at a new epoch.

        From then on it is held as `hold` says; for one step with `RunHold.STEP`.

        Raises `IllegalTransition`, `StaleEpoch` (also when it is not held any more as given), `QueueFull`, and
        `SessionMoved` when a run that had ended is not what the session (as given) would go on from any more.
        """
        workflow = await self._catalog.workflow(session.workflow_version, session.agent_config)
        asked = await self._interrupts.of_run(run.run_id, session.ref)
        void = [row for row in asked if row.is_void] if run.status in ENDED_RUN_STATUSES else []
        asked = [row for row in asked if row not in void]
        taken = await self._input_was_taken(session.ref, run)
        charged = await self._api_keys.charged(session.ref, run.run_id)
        admission = self._supervisor.admit()
        try:
            ids = [row.interrupt_id for row in void]
            changed = await self._reopen(session, run, admission, control, hold=hold, void=ids)
        except BaseException:
            self._supervisor.release(admission)
            raise
        ticket = Ticket(
            key=RunKey(session.ref, run.run_id, changed.epoch),
            workflow=workflow,
            input=None if taken else workflow.graph_input(run.input),
            answers={row.graph_id: row.answer for row in asked if row.status == "answered"},
            asked=frozenset(row.graph_id for row in asked if row.status != "withdrawn"),  # a stop took those back
            update=_edit(run),
            overrides=session.agent_config,
            terms=self._terms.of(session, workflow.spec.limits, run_id=run.run_id, limits=changed.limits, key=charged),
            step=changed.hold is RunHold.STEP,
            started_at=changed.started_at or self._clock.now_us(),
            active_us=changed.active_us,
        )
        self._supervisor.start(ticket, admission)

    async def _input_was_taken(self, session: SessionRef, run: RunRow) -> bool:
        """Whether the session's newest state belongs to this run; if not, its input has to be given again."""
        newest = await self._store.checkpoint(session, "", None)
        return newest is not None and newest.row.run_id == run.run_id

    async def _reopen(
        self,
        session: SessionRow,
        run: RunRow,
        admission: Admission,
        control: Record | None,
        *,
        hold: RunHold | Keep | None,
        void: Sequence[str],
    ) -> RunRow:
        key = RunKey(session.ref, run.run_id, run.epoch)
        status = admission.value
        unit: UnitOfWork[RunRow] = UnitOfWork()
        if run.status is status:  # left behind by a process that died
            unit.then = change_run(run.run_id, RunChange(), expected_epoch=run.epoch, raise_epoch=True)
        else:
            records = [*([control] if control else []), run_record(key.run_id, status)]
            self._store.add_facts(unit, key, Facts(records=records))
            if run.status in ENDED_RUN_STATUSES:
                unit.first = in_order(stands(session.ref, since=session.last_seq), forget_interrupts(void))
            unit.then = transition_run(
                run.run_id,
                status,
                now_us=self._clock.now_us(),
                expected_epoch=run.epoch,
                expected_hold=run.hold,
                raise_epoch=True,
                change=RunChange(result=None, error=None, hold=hold),  # those of the attempt that failed
            )
        committed = await self._writer.commit(unit)
        assert committed.result is not None
        return committed.result

    async def is_answered(self, ref: SessionRef, run: RunRow) -> bool:
        """Whether a paused run goes on by itself: its last question is answered, and nobody holds it."""
        if run.status is not RunStatus.PAUSED or run.hold is RunHold.PAUSE:
            return False
        asked = {row.status for row in await self._interrupts.of_run(run.run_id, ref)}
        return "answered" in asked and "open" not in asked

    async def hold(self, ref: SessionRef, run: RunRow, hold: RunHold | None, control: Record) -> RunRow:
        """Changes how a paused run is held, with the record of who asked for it.

        Raises `StaleEpoch` when it has gone on, or somebody else was quicker.
        """
        unit: UnitOfWork[RunRow] = UnitOfWork()
        self._store.add_facts(unit, RunKey(ref, run.run_id, run.epoch), Facts(records=[control]))
        unit.then = change_run(run.run_id, RunChange(hold=hold), expected_epoch=run.epoch, expected_hold=run.hold)
        committed = await self._writer.commit(unit)
        assert committed.result is not None
        return committed.result

    async def close(self, ref: SessionRef, run: RunRow, status: RunStatus, *, records: Sequence[Record] = ()) -> RunRow:
        """Changes the status of a run that nobody executes; later writes of an execution that died are refused.

        One that is paused holds.
        """
        key = RunKey(ref, run.run_id, run.epoch)
        unit: UnitOfWork[RunRow] = UnitOfWork()
        left: list[Record] = []
        if status in ENDED_RUN_STATUSES:
            left = interrupted(run.run_id, [(call["node"], call) for call in await self._store.tool_calls(key)])
        self._store.add_facts(unit, key, Facts(records=[*records, *left, run_record(key.run_id, status)]))
        if status in WITHDRAWING:
            unit.first = withdraw_interrupts(run.run_id, now_us=self._clock.now_us())
        unit.then = transition_run(
            run.run_id,
            status,
            now_us=self._clock.now_us(),
            expected_epoch=run.epoch,
            raise_epoch=True,
            change=RunChange(hold=RunHold.PAUSE if status is RunStatus.PAUSED else KEEP),
        )
        committed = await self._writer.commit(unit)
        assert committed.result is not None
        return committed.result

    # -- looking -----------------------------------------------------------------------------------------------

    async def wait(self, run_id: str) -> None:
        """Returns when no execution of the run is under way in this process (any more)."""
        await self._supervisor.settled(run_id)

    async def get(self, session: SessionRef, run_id: str) -> RunRow:
        """Raises `RunUnknown`."""
        run = await self._runs.get(run_id)
        if run is None or run.session_n != session.n:
            raise RunUnknown(run_id=run_id)
        return run

    def on_end(self, listener: Callable[[Ended], Awaitable[None]]) -> None:
        self._supervisor.on_end(listener)


def _edit(run: RunRow) -> Mapping[str, Any] | None:
    """The change of the state that waits for the run to go on; None where nothing changes."""
    pending: Mapping[str, Any] = run.pending or {}
    return pending.get("update") or None


def _new_messages(key: RunKey, given: Mapping[str, Any]) -> list[Record]:
    """The records of the messages a run starts with; those that a stopped run's tasks wrote are in the log already."""
    return [
        message_record(message, key.run_id, None) for message in given.get("messages") or () if LOGGED not in message
    ]
