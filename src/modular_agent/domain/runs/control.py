"""Control of runs: pause, resume, step, stop, retry, answers. What it says has happened, has happened."""

from collections.abc import Mapping
from typing import Any, cast

from jsonschema.validators import Draft202012Validator

from modular_agent.domain.runs.errors import AnswerInvalid, NoActiveRun, NotPaused, QuestionsOpen
from modular_agent.domain.runs.service import RunsService
from modular_agent.domain.runs.store import DatabaseRunStore
from modular_agent.engine.store import Facts, RunKey
from modular_agent.engine.supervisor import Supervisor
from modular_agent.errors import Fault
from modular_agent.events import Record, RecordType
from modular_agent.kit.clock import Clock
from modular_agent.lifecycle import ENDED_RUN_STATUSES, RunStatus, check_run_transition
from modular_agent.storage.database import Database
from modular_agent.storage.errors import InterruptClosed, InterruptUnknown
from modular_agent.storage.repositories.interrupts import InterruptRow, answer_interrupt, withdraw_interrupts
from modular_agent.storage.repositories.runs import RunChange, RunRow, change_run
from modular_agent.storage.repositories.sessions import SessionRow
from modular_agent.storage.unit_of_work import UnitOfWork, in_order

__all__ = ["RunControl"]

_TAKES_UP = frozenset({RunStatus.FAILED, RunStatus.STOPPED})


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

    async def active(self, session: SessionRow) -> RunRow:
        """The session's active run. Raises `NoActiveRun`."""
        run = await self._runs.rows.active(session.ref)
        if run is None:
            raise NoActiveRun(session_id=session.session_id)
        return run

    async def pause(self, session: SessionRow, *, by: str) -> RunRow:
        """Has the active run hold after the step in progress; answers the run as it then is.

        The step may turn out to be the last, or fail. A paused run stays so. Raises `NoActiveRun`.
        """
        run = await self.active(session)
        if run.status is RunStatus.PAUSED:
            return run
        if self._supervisor.is_here(run.run_id):
            await self._supervisor.pause(run.run_id, control_record(run, "pause", by))
        return await self._runs.get(session.ref, run.run_id)

    async def stop(self, session: SessionRow, *, by: str) -> RunRow:
        """Ends the active run; answers when nothing of it executes any more. Raises `NoActiveRun`."""
        run = await self.active(session)
        record = control_record(run, "stop", by)
        if self._supervisor.is_here(run.run_id):
            await self._supervisor.stop(run.run_id, record)
        else:
            await self._stop_resting(session, run, record)
        return await self._runs.get(session.ref, run.run_id)

    async def _stop_resting(self, session: SessionRow, run: RunRow, record: Record) -> None:
        """Stops a run that nobody executes: a paused one, or one whose process gave it up."""
        if run.status is RunStatus.RUNNING or run.status is RunStatus.PAUSING:
            run = await self._runs.close(session.ref, run, RunStatus.STOPPING, records=[record])
            await self._runs.close(session.ref, run, RunStatus.STOPPED)
        else:
            await self._runs.close(session.ref, run, RunStatus.STOPPED, records=[record])
        unit: UnitOfWork[list[str]] = UnitOfWork(then=withdraw_interrupts(run.run_id, now_us=self._clock.now_us()))
        await self._writer.commit(unit)

    async def resume(self, session: SessionRow, *, by: str, step: bool = False) -> RunRow:
        """Has a paused run go on (for one step with `step`); answers once it is under way.

        Raises `NotPaused`, and `QuestionsOpen` while it waits for a person.
        """
        run = await self._runs.rows.active(session.ref)
        if run is None or run.status is not RunStatus.PAUSED:
            raise NotPaused(session_id=session.session_id)
        for row in await self._runs.interrupts.of_run(run.run_id, session.ref):
            if row.status == "open":
                raise QuestionsOpen(run_id=run.run_id, interrupt_id=row.interrupt_id)
        await self._runs.go_on(session, run, control=control_record(run, "step" if step else "resume", by), step=step)
        return await self._runs.get(session.ref, run.run_id)

    async def retry(self, session: SessionRow, *, by: str, run_id: str | None = None) -> RunRow:
        """Takes up the session's last run (or the given one) where it failed or was stopped.

        Raises `NoActiveRun` when there is none, `IllegalTransition` when it did not fail or stop.
        """
        if run_id is None:
            page = await self._runs.rows.page(session.ref, limit=1)
            if not page.runs:
                raise NoActiveRun(session_id=session.session_id)
            run_id = page.runs[0].run_id
        run = await self._runs.get(session.ref, run_id)
        if run.status not in _TAKES_UP:
            check_run_transition(run.status, RunStatus.RUNNING)
        await self._runs.go_on(session, run, control=control_record(run, "retry", by))
        return await self._runs.get(session.ref, run.run_id)

    async def answer(self, session: SessionRow, interrupt_id: str, answer: Any, *, by: str) -> RunRow:
        """Answers a question of the session's run, and has the run go on when it was the last one open.

        Raises `InterruptUnknown`, `InterruptClosed` for a second answer, `AnswerInvalid` for one that does not fit.
        """
        row = await self._runs.interrupts.get(interrupt_id)
        if row is None or row.session_n != session.n:
            raise InterruptUnknown(interrupt_id=interrupt_id)
        if row.status != "open":
            raise InterruptClosed(interrupt_id=interrupt_id, status=row.status)
        _check_answer(row, answer)
        run = await self._runs.get(session.ref, row.run_id)
        await self._store_answer(session, run, row, answer, by)
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
        raised = _raised_limits(row, answer)
        unit.first = (
            in_order(step, change_run(run.run_id, RunChange(limits={**run.limits, **raised}))) if raised else step
        )
        await self._writer.commit(unit)

    async def _after_answer(self, session: SessionRow, run: RunRow) -> RunRow:
        if self._supervisor.is_here(run.run_id):  # other branches still execute: they end in a pause
            await self._supervisor.wait(run.run_id)
        run = await self._runs.get(session.ref, run.run_id)
        waiting = [row for row in await self._runs.interrupts.of_run(run.run_id, session.ref) if row.status == "open"]
        if run.status is RunStatus.PAUSED and not waiting:
            await self._runs.go_on(session, run)
            run = await self._runs.get(session.ref, run.run_id)
        return run

    async def end_for_deletion(self, session: SessionRow, *, by: str) -> None:
        """Stops the session's run, if it has one."""
        run = await self._runs.rows.active(session.ref)
        if run is not None and run.status not in ENDED_RUN_STATUSES:
            await self.stop(session, by=by)


def control_record(run: RunRow, action: str, by: str, **more: Any) -> Record:
    """The `control` record of what somebody asked for."""
    return Record(record_type=RecordType.CONTROL, run_id=run.run_id, fields={"action": action, "by": by, **more})


def _check_answer(row: InterruptRow, answer: Any) -> None:
    if row.form is None:
        return
    validator: Any = Draft202012Validator(row.form)  # its methods are only partly typed
    faults = [
        Fault(
            code="answer_value",
            message=error.message[:300],
            path=".".join(["answer", *(str(part) for part in error.absolute_path)]),
        )
        for error in validator.iter_errors(answer)
    ]
    if faults:
        raise AnswerInvalid(faults)


def _raised_limits(row: InterruptRow, answer: Any) -> Mapping[str, Any]:
    """New limits in the answer of a budget question; they hold for the rest of the run, also after a restart."""
    if row.kind != "budget" or not isinstance(answer, dict):
        return {}
    return {key: value for key, value in cast("dict[str, Any]", answer).items() if key != "stop"}
