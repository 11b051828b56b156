"""Runs that nobody executes are taken up: those a former process left behind, and those this one had to give up.

A run is given up when the database refused one of its writes: what it did since is not in the log. Once the database
takes writes again, it goes on from its last checkpoint, as it would after a restart.
"""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Self

import structlog

from modular_agent.domain.runs.control import RunControl
from modular_agent.domain.runs.errors import NoActiveRun
from modular_agent.domain.runs.interventions import Interventions
from modular_agent.domain.runs.multitask import Multitask
from modular_agent.domain.runs.service import RunsService
from modular_agent.engine.supervisor import Ended, Supervisor
from modular_agent.errors import AgentError, IllegalTransition
from modular_agent.events import SessionRef
from modular_agent.kit.dataclass import dataclass
from modular_agent.lifecycle import ENDED_RUN_STATUSES, RunHold, RunStatus
from modular_agent.storage.database import Database
from modular_agent.storage.errors import StaleEpoch
from modular_agent.storage.repositories.runs import RunRow
from modular_agent.storage.repositories.sessions import SessionRepository

__all__ = ["Recovery"]

PAUSE: Final = 0.5  # seconds between two attempts
LONGEST_PAUSE: Final = 30.0
SOON: Final = 10.0  # a run that is given up again so soon waits longer: its model calls cost money
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Left:
    """A run that waits to be taken up. `epoch` is that of the execution which gave it up."""

    session: SessionRef
    run_id: str
    epoch: int
    stopped_by: str | None = None


class Recovery:
    """Takes runs up. An async context manager: while it is entered, runs that are given up are looked after."""

    def __init__(
        self,
        database: Database,
        *,
        runs: RunsService,
        control: RunControl,
        multitask: Multitask,
        interventions: Interventions,
        supervisor: Supervisor,
    ) -> None:
        self._trouble = database.trouble
        self._sessions = SessionRepository(database.readers)
        self._runs = runs
        self._control = control
        self._queues: tuple[Callable[[], Awaitable[None]], ...] = (interventions.recover, multitask.recover)
        self._supervisor = supervisor
        self._left: dict[str, _Left] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._runs.on_end(self._note)
        self._task = asyncio.create_task(self._look_after(), name="recovery")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def take_up(self) -> int:
        """Takes up every run that a former process left behind; answers how many.

        Paused ones stay paused, unless their last question was answered just before; one that was cut in a single step
        is paused. One that cannot go on now is tried again.
        """
        count = 0
        for ref, run in await self._runs.rows.all_active():
            try:
                count += await self._take_up(ref, run)
            except (StaleEpoch, IllegalTransition):  # somebody has stopped or resumed it since we looked
                _log.info("recovery_came_second", session_id=ref.session_id, run_id=run.run_id)
            except AgentError as error:  # no place, no room on the disk, or the process ends already
                _log.warning("recovery_postponed", session_id=ref.session_id, run_id=run.run_id, code=error.code)
                self._leave(_Left(ref, run.run_id, run.epoch))
            except Exception:  # noqa: BLE001 - one run that cannot go on must not keep the others
                _log.exception("recovery_failed", session_id=ref.session_id, run_id=run.run_id)
                self._leave(_Left(ref, run.run_id, run.epoch))
        await self._start_what_waits()
        return count

    async def _take_up(self, ref: SessionRef, run: RunRow) -> bool:
        if run.status is RunStatus.PAUSED and not await self._runs.is_answered(ref, run):
            return False
        if run.status is RunStatus.STOPPING:
            await self._runs.close(ref, run, RunStatus.STOPPED)
            return False
        is_stepping = run.hold is RunHold.STEP and run.status is not RunStatus.PAUSED
        if run.status is RunStatus.PAUSING or is_stepping:
            await self._runs.close(ref, run, RunStatus.PAUSED)
            return False
        session = await self._sessions.by_number(ref.n)
        assert session is not None
        await self._runs.go_on(session, run)
        return True

    async def _start_what_waits(self) -> None:
        """Starts inputs and messages whose session has no run any more."""
        for recover in self._queues:
            try:
                await recover()
            except Exception as error:  # noqa: BLE001 - the next end of a run, or the next start, tries again
                _log.warning("queue_not_started", reason=str(error))

    # -- runs that this process gave up ------------------------------------------------------------------------

    async def _note(self, ended: Ended) -> None:
        if ended.status is None and not self._supervisor.draining:
            key = ended.key
            self._leave(_Left(key.session, key.run_id, key.epoch, ended.stopped_by))

    def _leave(self, left: _Left) -> None:
        self._left[left.run_id] = left
        self._changed.set()

    async def _look_after(self) -> None:
        clock = asyncio.get_running_loop().time
        pause, last = PAUSE, -SOON
        while True:
            await self._changed.wait()
            pause = min(2 * pause, LONGEST_PAUSE) if clock() - last < SOON else PAUSE  # it did not get far
            await asyncio.sleep(pause)
            await self._trouble.over()
            self._changed.clear()
            left, self._left = self._left, {}
            for one in left.values():
                await self._again(one)
            await self._start_what_waits()
            last = clock()

    async def _again(self, left: _Left) -> None:
        try:
            run = await self._runs.rows.get(left.run_id)
            if run is None or run.status in ENDED_RUN_STATUSES or self._is_taken(left, run):
                return
            if left.stopped_by is not None:
                await self._stop(left)
            else:
                await self._take_up(left.session, run)
            _log.info("run_taken_up_again", run_id=left.run_id, session_id=left.session.session_id)
        except Exception as error:  # noqa: BLE001 - whatever it was, the run is tried again and keeps no other from it
            _log.warning("run_not_taken_up", run_id=left.run_id, reason=str(error))
            self._leave(left)

    def _is_taken(self, left: _Left, run: RunRow) -> bool:
        """Whether somebody else has the run by now."""
        return run.epoch != left.epoch or self._supervisor.is_here(left.run_id)

    async def _stop(self, left: _Left) -> None:
        session = await self._sessions.by_number(left.session.n)
        if session is not None and left.stopped_by is not None:
            try:
                await self._control.stop(session, by=left.stopped_by)
            except NoActiveRun:
                return
