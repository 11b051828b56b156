"""The log as everybody else knows it: append, read on from a place, be told what was appended."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from modular_agent.events import CommittedRecord, SessionRef
from modular_agent.storage.records import Records
from modular_agent.storage.unit_of_work import Committed, UnitOfWork
from modular_agent.storage.writer import CommitListener, Writer

__all__ = ["LogListeners", "SessionLog"]

T = TypeVar("T")


class LogListeners:
    """Those who are told on the event loop what was committed, before its writers know."""

    def __init__(self) -> None:
        self._listeners: list[CommitListener] = []

    def add(self, listener: CommitListener) -> Callable[[], None]:
        """Registers `listener`; the returned function takes it off again."""
        self._listeners.append(listener)

        def remove() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return remove

    def tell(self, records: Sequence[CommittedRecord]) -> None:
        for listener in tuple(self._listeners):
            listener(records)


class SessionLog:
    """Appends to the logs of sessions and reads them. Every record is durable before anybody hears of it."""

    def __init__(self, *, writer: Writer, records: Records, listeners: LogListeners) -> None:
        self._writer = writer
        self._records = records
        self._listeners = listeners

    async def append(self, unit: UnitOfWork[T]) -> Committed[T]:
        """Commits the unit; see `Writer.submit` for what it raises."""
        return await self._writer.commit(unit)

    async def read_after(self, session: SessionRef, *, seq: int, limit: int) -> list[CommittedRecord]:
        """At most `limit` records after `seq`, in order."""
        return await self._records.after(session, seq=seq, limit=limit)

    async def last_seq(self, session: SessionRef) -> int:
        """The `seq` of the session's newest record; 0 while there is none."""
        return await self._records.last_seq(session)

    def listen(self, listener: CommitListener) -> Callable[[], None]:
        """Has `listener(records)` called on the event loop after each commit, in log order, before the writers of the
        records know of it; it must be quick. Returns what ends it."""
        return self._listeners.add(listener)
