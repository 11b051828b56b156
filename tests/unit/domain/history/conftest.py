"""A log that the test writes, on a real database, with a clock that the test moves."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from modular_agent.domain.history import HistoryService
from modular_agent.events import CommittedRecord, Record, RecordType, SessionRef
from modular_agent.storage.database import Database
from modular_agent.storage.repositories.sessions import NewSession, create_session
from modular_agent.storage.unit_of_work import UnitOfWork

START = 1_792_000_000_000_000  # 2026-10-14


class MovableClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = START

    def now_us(self) -> int:
        return self.now

    def monotonic(self) -> float:
        return self.now / 1e6


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
async def database(tmp_path: Path, clock: MovableClock) -> AsyncIterator[Database]:
    async with Database.open(tmp_path / "data", clock=clock) as opened:
        yield opened


@pytest.fixture
def history(database: Database) -> HistoryService:
    return HistoryService(database)


@pytest.fixture
async def session(database: Database, clock: MovableClock) -> SessionRef:
    new = NewSession(
        session_id="react-1",
        workflow_id="react",
        workflow_version="hash",
        workflow_config_path="workflows/react.yaml",
        now_us=clock.now,
    )
    done = await database.writer.commit(UnitOfWork(then=create_session(new)))
    assert done.result is not None
    return done.result


@pytest.fixture
def write(database: Database, session: SessionRef) -> Callable[..., Awaitable[CommittedRecord]]:
    async def append(
        kind: RecordType = RecordType.MESSAGE, *, run_id: str | None = None, node: str | None = None, **fields: Any
    ) -> CommittedRecord:
        if kind is RecordType.MESSAGE:
            fields = {"message_type": "user", "content": "hi", **fields}
        unit: UnitOfWork[Any] = UnitOfWork()
        unit.record(session, Record(record_type=kind, run_id=run_id, node=node, fields=fields))
        return (await database.log.append(unit)).records[0]

    return append
