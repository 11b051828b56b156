"""A session taken back to a checkpoint: its state is what it was there, and its log keeps what happened since."""

from typing import Final

from modular_agent.domain.runs.errors import CheckpointUnknown
from modular_agent.domain.runs.store import DatabaseRunStore
from modular_agent.engine.checkpoints import Saver
from modular_agent.engine.workflow import Workflow
from modular_agent.events import Record, RecordType, SessionRef
from modular_agent.storage.unit_of_work import UnitOfWork
from modular_agent.storage.writer import Writer

__all__ = ["ROLLED_BACK", "GoingBack"]

ROLLED_BACK: Final = "rolled_back"  # in a run's `pending`: what it was given and did is not carried over


class GoingBack:
    """Takes sessions without an active run back."""

    def __init__(self, writer: Writer, *, store: DatabaseRunStore, saver: Saver) -> None:
        self._writer = writer
        self._store = store
        self._saver = saver

    async def check(self, session: SessionRef, checkpoint_id: str) -> None:
        """Raises `CheckpointUnknown`."""
        if await self._store.checkpoint(session, "", checkpoint_id) is None:
            raise CheckpointUnknown(checkpoint_id=checkpoint_id)

    async def go(self, session: SessionRef, workflow: Workflow, checkpoint_id: str, *, by: str) -> None:
        """Makes the state at a checkpoint the session's newest. Raises `CheckpointUnknown`."""
        await self.check(session, checkpoint_id)
        place = {"thread_id": session.session_id, "checkpoint_ns": "", "checkpoint_id": checkpoint_id}
        await workflow.graph.aupdate_state({"configurable": place}, None, as_node="__copy__")
        self._saver.forget(session)
        unit: UnitOfWork[None] = UnitOfWork()
        fields = {"action": "restore", "by": by, "checkpoint_id": checkpoint_id}
        unit.record(session, Record(record_type=RecordType.CONTROL, fields=fields))
        await self._writer.commit(unit)
