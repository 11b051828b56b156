"""The saver on a real database, without the rest of the product."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableConfig

from modular_agent.domain.runs.store import DatabaseRunStore
from modular_agent.engine.binding import BINDING, Binding
from modular_agent.engine.checkpoints import Saver
from modular_agent.engine.store import RunKey
from modular_agent.events import SessionRef
from modular_agent.kit.clock import SystemClock
from modular_agent.lifecycle import RunStatus
from modular_agent.storage.database import Database
from modular_agent.storage.repositories.run_steps import create_run
from modular_agent.storage.repositories.runs import NewRun
from modular_agent.storage.repositories.sessions import NewSession, create_session
from modular_agent.storage.unit_of_work import UnitOfWork


class SessionMaker(DatabaseRunStore):
    """Makes a session of every thread it is asked for: LangGraph's suite knows threads only."""

    async def session(self, thread_id: str) -> SessionRef | None:
        found = await super().session(thread_id)
        if found is not None:
            return found
        new = NewSession(
            session_id=thread_id, workflow_id="test", workflow_version="v", workflow_config_path="w.yaml", now_us=1
        )
        return (await self._writer.commit(UnitOfWork(then=create_session(new)))).result


class Savers:
    """A database with a saver, sessions and runs."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.store = SessionMaker(database, SystemClock())
        self.saver = Saver(self.store)

    async def session(self, session_id: str = "s-1") -> SessionRef:
        ref = await self.store.session(session_id)
        assert ref is not None
        return ref

    async def start(self, session: SessionRef, run_id: str = "run_1") -> Binding:
        new = NewRun(run_id=run_id, session=session, now_us=1, status=RunStatus.RUNNING)
        await self.database.writer.commit(UnitOfWork(then=create_run(new)))
        return Binding(RunKey(session, run_id, 1), self.store.commit)

    async def rows(self, text: str, *values: Any) -> list[tuple[Any, ...]]:
        return await self.database.readers.query(text, values)


def config_of(thread_id: str, *, binding: Binding | None = None, **configurable: Any) -> RunnableConfig:
    more: dict[str, Any] = {} if binding is None else {BINDING: binding}
    config: RunnableConfig = {"configurable": {"thread_id": thread_id, **more, **configurable}}
    if binding is not None:
        config["metadata"] = {"run_id": binding.run.run_id}
    return config


@asynccontextmanager
async def open_savers(path: Path) -> AsyncIterator[Savers]:
    async with Database.open(path) as database:
        yield Savers(database)


def ids(items: Sequence[Any]) -> list[str]:
    return [item.config["configurable"]["checkpoint_id"] for item in items]
