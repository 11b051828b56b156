"""A session taken back to a checkpoint: its state is what it was there, and its log keeps what happened since.

The copy of the checkpoint, which becomes the newest, and the record of it are one transaction; with a run that starts
from there, that run is in it too.
"""

from collections.abc import Mapping
from typing import Any, Final

from modular_agent.domain.runs.errors import CheckpointUnknown
from modular_agent.domain.runs.store import DatabaseRunStore
from modular_agent.engine.checkpoints import Saver
from modular_agent.engine.store import Facts, RunKey
from modular_agent.events import Record, RecordType, SessionRef
from modular_agent.storage.errors import SessionMoved, SessionUnknown
from modular_agent.storage.repositories.runs import RunRow
from modular_agent.storage.repositories.sessions import SessionRepository, SessionRow
from modular_agent.storage.repositories.standing import LEFT_BEHIND, ROLLED_BACK, at_rest, leave_behind, stands
from modular_agent.storage.unit_of_work import UnitOfWork, in_order
from modular_agent.storage.writer import Writer

__all__ = ["ATTEMPTS", "GoingBack", "is_left_behind", "is_rolled_back"]

ATTEMPTS: Final = 10  # of what is prepared anew when somebody else was quicker


class GoingBack:
    """Takes sessions without an active run back."""

    def __init__(self, writer: Writer, *, sessions: SessionRepository, store: DatabaseRunStore, saver: Saver) -> None:
        self._writer = writer
        self._sessions = sessions
        self._store = store
        self._saver = saver

    async def check(self, session: SessionRef, checkpoint_id: str) -> None:
        """Raises `CheckpointUnknown`."""
        if await self._store.checkpoint(session, "", checkpoint_id) is None:
            raise CheckpointUnknown(checkpoint_id=checkpoint_id)

    async def facts(self, session: SessionRef, checkpoint_id: str, *, by: str) -> Facts:
        """What is to be committed, with `leave_behind`, for the state at a checkpoint to be the session's newest.

        Raises `CheckpointUnknown`.
        """
        copy = await self._saver.copied(session, checkpoint_id)
        if copy is None:
            raise CheckpointUnknown(checkpoint_id=checkpoint_id)
        fields = {"action": "restore", "by": by, "checkpoint_id": checkpoint_id}
        return Facts(checkpoints=[copy], records=[Record(record_type=RecordType.CONTROL, fields=fields)])

    async def go(self, session: SessionRow, checkpoint_id: str, *, by: str) -> None:
        """Makes the state at a checkpoint the session's newest. Raises `CheckpointUnknown`, `SessionBusy`."""
        for _ in range(ATTEMPTS):
            try:
                return await self._go(session, checkpoint_id, by=by)
            except SessionMoved:
                session = await self._again(session)
        return await self._go(session, checkpoint_id, by=by)

    async def _go(self, session: SessionRow, checkpoint_id: str, *, by: str) -> None:
        unit: UnitOfWork[Any] = UnitOfWork()
        facts = await self.facts(session.ref, checkpoint_id, by=by)
        self._store.add_facts(unit, RunKey(session.ref, "", 0), facts)
        unit.first = in_order(
            at_rest(session.ref), stands(session.ref, since=session.last_seq), leave_behind(session.ref)
        )
        await self._writer.commit(unit)
        self._saver.forget(session.ref)

    async def _again(self, session: SessionRow) -> SessionRow:
        row = await self._sessions.by_number(session.n)
        if row is None:
            raise SessionUnknown(session_id=session.session_id)
        return row


def is_left_behind(run: RunRow) -> bool:
    """Whether the session was taken back since the run's last execution."""
    return _pending(run).get(LEFT_BEHIND) == run.epoch


def is_rolled_back(run: RunRow) -> bool:
    """Whether what the run did was dropped."""
    return ROLLED_BACK in _pending(run)


def _pending(run: RunRow) -> Mapping[str, Any]:
    return run.pending or {}
