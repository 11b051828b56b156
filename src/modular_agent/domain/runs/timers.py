"""Questions that answer themselves when their time has come: waits, and questions with a default."""

import asyncio
from types import TracebackType
from typing import Final, Self

import structlog

from modular_agent.domain.runs.control import RunControl
from modular_agent.domain.runs.service import RunsService
from modular_agent.engine.supervisor import Ended
from modular_agent.errors import AgentError
from modular_agent.kit.clock import MICROSECONDS, Clock
from modular_agent.lifecycle import ENDED_RUN_STATUSES
from modular_agent.storage.database import Database
from modular_agent.storage.repositories.interrupts import InterruptRow
from modular_agent.storage.repositories.sessions import SessionRepository

__all__ = ["Timers"]

# The wall clock may be set while we sleep on the monotonic one, so no sleep is longer.
LONGEST_SLEEP: Final = 30.0  # seconds
RETRY: Final = 1.0  # seconds
_log = structlog.get_logger(__name__)


class Timers:
    """An async context manager: while it is entered, due questions are answered. It sleeps until the next one."""

    def __init__(self, database: Database, *, runs: RunsService, control: RunControl, clock: Clock) -> None:
        self._sessions = SessionRepository(database.readers)
        self._runs = runs
        self._control = control
        self._clock = clock
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._runs.on_end(self._look_again)  # a run that pauses may have asked something with a time
        self._task = asyncio.create_task(self._run(), name="timers")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _look_again(self, ended: Ended) -> None:
        if ended.status not in ENDED_RUN_STATUSES:
            self._changed.set()

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            try:
                wait = await self._look()
            except AgentError as error:  # the database has too much to do, say
                _log.warning("timers_postponed", code=error.code)
                wait = RETRY
            try:
                async with asyncio.timeout(min(wait, LONGEST_SLEEP)):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _look(self) -> float:
        """Answers what is due; the seconds until something is."""
        for row in await self._runs.interrupts.due(now_us=self._clock.now_us()):
            await self._answer(row)
        due = await self._runs.interrupts.next_due_at()
        return LONGEST_SLEEP if due is None else max(0.0, (due - self._clock.now_us()) / MICROSECONDS)

    async def _answer(self, row: InterruptRow) -> None:
        try:
            session = await self._sessions.by_number(row.session_n)
            if session is not None:
                answer = row.question.get("default_answer")
                await self._control.answer(session, row.interrupt_id, answer, by="timer", wait=False)
        except AgentError as error:  # answered or stopped meanwhile, say: the next look finds what is left
            _log.warning("timer_answer_refused", interrupt_id=row.interrupt_id, code=error.code)
            await asyncio.sleep(RETRY)
