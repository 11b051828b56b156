"""Control of runs: pause, resume, step, stop, retry, answers. What it says has happened, has happened."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, cast

import structlog
from jsonschema.validators import Draft202012Validator

from modular_agent.domain.auth import KeyNotForKeys
from modular_agent.domain.runs.errors import (
    AnswerInvalid,
    NoActiveRun,
    NotPaused,
    QuestionsOpen,
    RunRolledBack,
    RunSuperseded,
)
from modular_agent.domain.runs.going_back import ATTEMPTS, is_rolled_back
from modular_agent.domain.runs.service import RunsService
from modular_agent.domain.runs.store import DatabaseRunStore
from modular_agent.domain.runs.terms import ALLOWED
from modular_agent.engine.errors import QueueFull
from modular_agent.engine.schema_faults import schema_faults
from modular_agent.engine.store import Facts, RunKey
from modular_agent.engine.supervisor import Ended, Supervisor
from modular_agent.errors import IllegalTransition, ServerStopping
from modular_agent.events import Record, RecordType, SessionRef
from modular_agent.kit.clock import Clock
from modular_agent.lifecycle import ENDED_RUN_STATUSES, RUN_TRANSITIONS, RunHold, RunStatus
from modular_agent.storage.database import Database
from modular_agent.storage.errors import InterruptClosed, InterruptUnknown, SessionMoved, StaleEpoch
from modular_agent.storage.repositories.interrupts import InterruptRow, answer_interrupt
from modular_agent.storage.repositories.run_steps import change_run
from modular_agent.storage.repositories.runs import RunChange, RunRow
from modular_agent.storage.repositories.sessions import SessionRepository, SessionRow
from modular_agent.storage.unit_of_work import UnitOfWork, in_order

__all__ = ["RunControl"]

_OF_OTHERS = frozenset({"workflow", "key", "installation"})
_TAKES_UP = frozenset({RunStatus.FAILED, RunStatus.STOPPED})
_log = structlog.get_logger(__name__)


class RunControl:
    """The verbs of those who watch over runs. `by` names who asks, for the log."""

    def __init__(
        self,
        database: Database,
        *,
        runs: RunsService,
        supervisor: Supervisor,
        store: DatabaseRunStore,
        clock: Clock,
    ) -> None:
        self._writer = database.writer
        self._runs = runs
        self._supervisor = supervisor
        self._store = store
        self._clock = clock
        self._sessions = SessionRepository(database.readers)
        self._postponed: dict[str, SessionRef] = {}  # answered runs, by id, for which there was no place
        runs.on_end(self._go_on_when_answered)

    async def active(self, session: SessionRow) -> RunRow:
        """The session's active run. Raises `NoActiveRun`."""
        run = await self._runs.rows.active(session.ref)
        if run is None:
            raise NoActiveRun(session_id=session.session_id)
        return run

    async def pause(self, session: SessionRow, *, by: str, wait: bool = True) -> RunRow:
        """Has the active run hold after the step in progress; answers the run as it then is.

        The step may turn out to be the last, or fail. Without `wait`, answers when the request is in the log. A run
        that waits for an answer holds too: the answer alone does not have it go on. Raises `NoActiveRun`.
        """
        run = await self._current(session)
        for _ in range(ATTEMPTS):
            if await self._is_held(session, run, control_record(run, "pause", by), wait=wait):
                break
            run = await self._looked_at(session, run.run_id)
            if run.status in ENDED_RUN_STATUSES:
                break
        return await self._runs.get(session.ref, run.run_id)

    async def _is_held(self, session: SessionRow, run: RunRow, record: Record, *, wait: bool) -> bool:
        """Has a run hold; False when it came to rest, went on or ended before we were heard."""
        if self._supervisor.is_here(run.run_id):
            is_asked = await self._supervisor.ask_to_pause(run.run_id, record)
            if wait or not is_asked:
                await self._runs.wait(run.run_id)
            return is_asked
        try:
            if run.status is RunStatus.PAUSED and run.hold is not RunHold.PAUSE:
                await self._runs.hold(session.ref, run, RunHold.PAUSE, record)
            elif RunStatus.PAUSED in RUN_TRANSITIONS[run.status]:  # its process gave it up
                await self._runs.close(session.ref, run, RunStatus.PAUSED, records=[record])
        except (StaleEpoch, IllegalTransition):
            return False
        return True

    async def stop(self, session: SessionRow, *, by: str, wait: bool = True) -> RunRow:
        """Ends the active run; answers when nothing of it executes any more. Raises `NoActiveRun`.

        Code that does not end within STOP_GRACE_SECONDS leaves it `stopping`. Without `wait`, answers when the request
        is in the log.
        """
        run = await self._current(session)
        record = control_record(run, "stop", by)
        if not self._supervisor.is_here(run.run_id):
            active = run.status in {RunStatus.RUNNING, RunStatus.PAUSING}
            await self._settle(session, run, (*([RunStatus.STOPPING] if active else []), RunStatus.STOPPED), record)
        if self._supervisor.is_here(run.run_id):
            verb = self._supervisor.stop if wait else self._supervisor.ask_to_stop
            await verb(run.run_id, record)
        return await self._runs.get(session.ref, run.run_id)

    async def _current(self, session: SessionRow) -> RunRow:
        """The active run; looked at twice when nobody executes it: it may just be starting, or ending."""
        run = await self.active(session)
        return run if self._supervisor.is_here(run.run_id) else await self.active(session)

    async def _looked_at(self, session: SessionRow, run_id: str) -> RunRow:
        """A run, as `_current` looks."""
        run = await self._runs.get(session.ref, run_id)
        return run if self._supervisor.is_here(run_id) else await self._runs.get(session.ref, run_id)

    async def _settle(self, session: SessionRow, run: RunRow, statuses: Sequence[RunStatus], record: Record) -> None:
        """Takes a run that nobody executes through `statuses`; when somebody else was quicker, theirs stands."""
        try:
            for number, status in enumerate(statuses):
                run = await self._runs.close(session.ref, run, status, records=[] if number else [record])
        except (StaleEpoch, IllegalTransition):
            _log.info("control_came_second", run_id=run.run_id, action=record.fields["action"])
            return
        if run.status in ENDED_RUN_STATUSES:  # what waits for its end starts now
            await self._supervisor.tell(Ended(key=RunKey(session.ref, run.run_id, run.epoch), status=run.status))

    async def resume(self, session: SessionRow, *, by: str, step: bool = False) -> RunRow:
        """Has a paused run go on (for one step with `step`); answers once it is under way.

        One that waits for an answer is not held any more: it goes on when it has it. Raises `NotPaused`, and
        `QuestionsOpen` when it waits for an answer and nobody holds it.
        """
        for _ in range(ATTEMPTS):
            run = await self._runs.rows.active(session.ref)
            if run is None or run.status is not RunStatus.PAUSED:
                break
            with contextlib.suppress(StaleEpoch, IllegalTransition):  # somebody else was quicker: we look again
                return await self._release(session, run, RunHold.STEP if step else None, by)
        raise NotPaused(session_id=session.session_id)

    async def _release(self, session: SessionRow, run: RunRow, hold: RunHold | None, by: str) -> RunRow:
        control = control_record(run, "resume" if hold is None else hold, by)
        asked = await self._runs.interrupts.of_run(run.run_id, session.ref)
        waits_for = next((row for row in asked if row.status == "open"), None)
        if waits_for is None:
            await self._runs.go_on(session, run, control=control, hold=hold)
            return await self._runs.get(session.ref, run.run_id)
        if run.hold in {None, hold}:
            raise QuestionsOpen(run_id=run.run_id, interrupt_id=waits_for.interrupt_id)
        await self._runs.hold(session.ref, run, hold, control)
        return await self._after_answer(session, run)  # which may have come while it was still held

    async def retry(self, session: SessionRow, *, by: str, run_id: str | None = None) -> RunRow:
        """Takes up the session's last run (or the given one) where it failed or was stopped.

        Raises `NoActiveRun` when there is none, `IllegalTransition` when it did not fail or stop, `RunSuperseded` when
        a later run has gone on with the session's state, and `RunRolledBack`.
        """
        for _ in range(ATTEMPTS):
            try:
                return await self._retry(session, by=by, run_id=run_id)
            except SessionMoved:  # it was taken back to a checkpoint at the same time, say
                session = await self._sessions.by_number(session.n) or session
        return await self._retry(session, by=by, run_id=run_id)

    async def _retry(self, session: SessionRow, *, by: str, run_id: str | None) -> RunRow:
        page = await self._runs.rows.page(session.ref, limit=1)
        if not page.runs and run_id is None:
            raise NoActiveRun(session_id=session.session_id)
        run = page.runs[0] if run_id is None else await self._runs.get(session.ref, run_id)
        if run.run_id != page.runs[0].run_id:
            raise RunSuperseded(run_id=run.run_id, newest=page.runs[0].run_id)
        run_id = run.run_id
        if is_rolled_back(run):
            raise RunRolledBack(run_id=run_id)
        if run.status not in _TAKES_UP:
            raise IllegalTransition(noun="run", status=run.status, target=RunStatus.RUNNING)
        try:
            await self._runs.go_on(session, run, control=control_record(run, "retry", by), hold=None)
        except StaleEpoch:  # somebody else was quicker
            run = await self._runs.get(session.ref, run_id)
            raise IllegalTransition(noun="run", status=run.status, target=RunStatus.RUNNING) from None
        return await self._runs.get(session.ref, run.run_id)

    async def answer(
        self,
        session: SessionRow,
        interrupt_id: str,
        answer: Any,
        *,
        by: str,
        key_id: str | None = None,
        wait: bool = True,
    ) -> RunRow:
        """Answers a question of the session's run, and has the run go on when it was the last one open, unless held.

        Other branches may still execute: then it goes on when they have ended, which only `wait` waits for. Where there
        is no place for it, it goes on when another run has ended. Parallel branches that ask about the same limit take
        the same answer. `key_id` is the API key of who answers.

        Raises `InterruptUnknown`, `InterruptClosed` for a second answer, `AnswerInvalid` for one that does not fit,
        `KeyNotForKeys` for one that would lift a limit that others set for the key.
        """
        row = await self._runs.interrupts.get(interrupt_id)
        if row is None or row.session_n != session.n:
            raise InterruptUnknown(interrupt_id=interrupt_id)
        if row.status != "open":
            raise InterruptClosed(interrupt_id=interrupt_id, status=row.status)
        _check_answer(row, answer)
        if key_id is not None and _is_lifted(row, answer):
            raise KeyNotForKeys(what=row.question["budget"])
        run = await self._runs.get(session.ref, row.run_id)
        await self._store_answer(session, run, row, answer, by)
        if row.kind == "budget":
            for other in await self._runs.interrupts.of_run(run.run_id, session.ref):
                if other.status == "open" and _is_alike(row, other):
                    with contextlib.suppress(InterruptClosed):  # answered by somebody else meanwhile
                        run = await self._runs.get(session.ref, row.run_id)
                        await self._store_answer(session, run, other, answer, by)
        if self._supervisor.is_here(run.run_id):  # other branches still execute: they end in a pause
            if not wait:
                return await self._runs.get(session.ref, run.run_id)
            await self._supervisor.settled(run.run_id)
        return await self._after_answer(session, run)

    async def _store_answer(self, session: SessionRow, run: RunRow, row: InterruptRow, answer: Any, by: str) -> None:
        unit: UnitOfWork[Any] = UnitOfWork()
        record = Record(
            record_type=RecordType.INTERRUPT,
            run_id=run.run_id,
            node=row.node,
            fields={
                "interrupt_id": row.interrupt_id,
                "kind": row.kind,
                "phase": "answered",
                "answer": answer,
                "by": by,
            },
        )
        self._store.add_facts(unit, RunKey(session.ref, run.run_id, run.epoch), Facts(records=[record]))
        now = self._clock.now_us()
        step = answer_interrupt(row.interrupt_id, answer=answer, answered_by=by, now_us=now)
        limits = _raised_limits(run, row, answer)
        unit.first = in_order(step, change_run(run.run_id, RunChange(limits=limits))) if limits != run.limits else step
        await self._writer.commit(unit)

    async def _after_answer(self, session: SessionRow, run: RunRow) -> RunRow:
        run = await self._runs.get(session.ref, run.run_id)
        if await self._runs.is_answered(session.ref, run):
            try:
                await self._runs.go_on(session, run)
            except (StaleEpoch, IllegalTransition):  # of several last answers one has it go on; or it was held
                _log.info("control_came_second", run_id=run.run_id, action="answer")
            except (QueueFull, ServerStopping):  # no refusal: the answer counts
                self._postponed[run.run_id] = session.ref
            run = await self._runs.get(session.ref, run.run_id)
        return run

    async def _go_on_when_answered(self, ended: Ended) -> None:
        """Has runs go on whose last answer came while other branches of them executed, or while there was no place."""
        postponed, self._postponed = self._postponed, {}
        if ended.status is RunStatus.PAUSED:
            postponed[ended.key.run_id] = ended.key.session
        for run_id, ref in postponed.items():
            run, session = await self._runs.rows.get(run_id), await self._sessions.by_number(ref.n)
            if run is not None and session is not None:
                await self._after_answer(session, run)

    async def end_for_deletion(self, session: SessionRow, *, by: str) -> None:
        """Stops the session's run, if it has one."""
        run = await self._runs.rows.active(session.ref)
        if run is not None and run.status not in ENDED_RUN_STATUSES:
            with contextlib.suppress(NoActiveRun):  # it has just ended
                await self.stop(session, by=by)


def control_record(run: RunRow, action: str, by: str, **more: Any) -> Record:
    """The `control` record of what somebody asked for."""
    return Record(record_type=RecordType.CONTROL, run_id=run.run_id, fields={"action": action, "by": by, **more})


def _check_answer(row: InterruptRow, answer: Any) -> None:
    if row.form is None:
        return
    faults = schema_faults(Draft202012Validator(row.form), answer, code="answer_value", path="answer")
    if faults:
        raise AnswerInvalid(faults)


def _raised_limits(run: RunRow, row: InterruptRow, answer: Any) -> Mapping[str, Any]:
    """The run's limits with those in the answer of a budget question; they hold for its rest, also after a restart.

    What others share is not raised: the run alone may use more than it says.
    """
    given = cast("dict[str, Any]", answer) if row.kind == "budget" and isinstance(answer, dict) else {}
    raised = {name: value for name, value in given.items() if name != "stop"}
    name = row.question.get("budget", "run")
    if not raised or name == "run":
        return {**run.limits, **raised}
    allowed: Mapping[str, Any] = run.limits.get(ALLOWED) or {}
    return {**run.limits, ALLOWED: {**allowed, name: {**allowed.get(name, {}), **raised}}}


def _is_lifted(row: InterruptRow, answer: Any) -> bool:
    """Whether an answer lets a run use more than a limit that is not its session's own."""
    given = cast("dict[str, Any]", answer) if row.kind == "budget" and isinstance(answer, dict) else {}
    return bool(given.keys() - {"stop"}) and row.question.get("budget", "run").partition(".")[0] in _OF_OTHERS


def _is_alike(row: InterruptRow, other: InterruptRow) -> bool:
    """Whether two questions of a run are about the same limit: parallel branches ask each, and one answer is meant."""
    same = ("budget", "limit")
    return other.kind == row.kind == "budget" and all(row.question.get(k) == other.question.get(k) for k in same)
