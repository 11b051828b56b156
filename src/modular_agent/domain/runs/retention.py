"""Pruning the checkpoints of sessions that rest: the newest few and the saved ones stay."""

import asyncio
from types import TracebackType
from typing import Final, Self

import structlog

from modular_agent.domain.runs.service import RunsService
from modular_agent.engine.supervisor import Ended
from modular_agent.errors import AgentError
from modular_agent.events import SessionRef
from modular_agent.lifecycle import ENDED_RUN_STATUSES
from modular_agent.storage.database import Database
from modular_agent.storage.repositories.checkpoint_pruning import prune_checkpoints
from modular_agent.storage.unit_of_work import UnitOfWork

__all__ = ["Retention"]

DEBOUNCE: Final = 5.0  # seconds: the turns of a lively conversation are pruned together
_log = structlog.get_logger(__name__)


class Retention:
    """An async context manager: while it is entered, sessions whose run has ended are pruned to `keep` checkpoints."""

    def __init__(self, database: Database, *, runs: RunsService, keep: int) -> None:
        self._writer = database.writer
        self._runs = runs
        self._keep = keep
        self._resting: dict[int, SessionRef] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def keep(self, count: int) -> None:
        """Prunes to another number of checkpoints from now on."""
        self._keep = count

    async def __aenter__(self) -> Self:
        self._runs.on_end(self._note)
        self._task = asyncio.create_task(self._run(), name="retention")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _note(self, ended: Ended) -> None:
        if ended.status in ENDED_RUN_STATUSES:
            self._resting[ended.key.session.n] = ended.key.session
            self._changed.set()

    async def _run(self) -> None:
        while True:
            await self._changed.wait()
            await asyncio.sleep(DEBOUNCE)
            self._changed.clear()
            resting, self._resting = self._resting, {}
            for session in resting.values():
                await self._prune(session)

    async def _prune(self, session: SessionRef) -> None:
        step = prune_checkpoints(session, keep=self._keep)
        try:
            if await self._runs.rows.active(session) is not None:
                return  # its end will bring it back
            await self._writer.commit(UnitOfWork(then=step, alone=session.n, touches=()))
        except AgentError as error:
            _log.warning("pruning_refused", session_id=session.session_id, code=error.code)
