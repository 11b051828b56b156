"""A real database for each test, with a clock that the test moves."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from modular_agent.events import SessionRef
from modular_agent.lifecycle import RunStatus
from modular_agent.storage.database import Database
from modular_agent.storage.repositories.run_steps import create_run
from modular_agent.storage.repositories.runs import NewRun, RunRow
from modular_agent.storage.repositories.sessions import NewSession, create_session
from modular_agent.storage.unit_of_work import UnitOfWork

START = 1_792_000_000_000_000  # 2026-10-14T...Z


class MovableClock:
    """A clock that stands still until it is moved."""

    def __init__(self, now_us: int = START) -> None:
        self.now = now_us

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
def make_session(database: Database, clock: MovableClock) -> Callable[..., Awaitable[SessionRef]]:
    async def make(session_id: str = "react-1", **fields: object) -> SessionRef:
        new = NewSession(
            **{
                "session_id": session_id,
                "workflow_id": "react",
                "workflow_version": "hash",
                "workflow_config_path": "workflows/react.yaml",
                "now_us": clock.now,
                **fields,
            }
        )
        done = await database.writer.commit(UnitOfWork(then=create_session(new)))
        assert done.result is not None
        return done.result

    return make


@pytest.fixture
def make_run(database: Database, clock: MovableClock) -> Callable[..., Awaitable[RunRow]]:
    async def make(session: SessionRef, run_id: str = "run_1", status: RunStatus = RunStatus.RUNNING) -> RunRow:
        new = NewRun(run_id=run_id, session=session, now_us=clock.now, status=status)
        done = await database.writer.commit(UnitOfWork(then=create_run(new)))
        assert done.result is not None
        return done.result

    return make
