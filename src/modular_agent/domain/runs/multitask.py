"""A second input for a session whose run is active: refused, put in a queue, or in the first one's place.

What waits in the queue is durable, keeps its order, and starts by itself when the run before it has ended, also after a
restart. It has the id of the run it will be.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import asdict, replace
from enum import StrEnum
from typing import Any, Final

import structlog

from modular_agent.domain.runs.control import RunControl
from modular_agent.domain.runs.errors import NoActiveRun, RunQueueFull
from modular_agent.domain.runs.going_back import GoingBack
from modular_agent.domain.runs.requests import StartRequest, check_start
from modular_agent.domain.runs.service import RunsService
from modular_agent.domain.runs.store import DatabaseRunStore
from modular_agent.domain.workflows.catalog import WorkflowCatalog
from modular_agent.engine.checkpoints import Saver
from modular_agent.engine.supervisor import Ended
from modular_agent.errors import AgentError, Kind
from modular_agent.events import Record, RecordType, SessionRef
from modular_agent.kit.clock import Clock, rfc3339
from modular_agent.kit.ids import new_id
from modular_agent.lifecycle import ENDED_RUN_STATUSES
from modular_agent.storage.database import Database
from modular_agent.storage.errors import RequestRepeated, RunAlreadyActive, SessionMoved
from modular_agent.storage.repositories.checkpoint_pruning import delete_checkpoints_of_runs
from modular_agent.storage.repositories.idempotency import claim_key
from modular_agent.storage.repositories.run_steps import change_pending
from modular_agent.storage.repositories.runs import (
    InboxRow,
    RunRepository,
    add_to_inbox,
    take_inbox,
    take_inbox_of_run,
)
from modular_agent.storage.repositories.sessions import SessionRepository, SessionRow
from modular_agent.storage.repositories.standing import ROLLED_BACK, stands
from modular_agent.storage.unit_of_work import UnitOfWork, in_order

__all__ = ["Multitask", "MultitaskMode"]

MAX_WAITING: Final = 100  # per session
ATTEMPTS: Final = 10
_START: Final = "start"  # the key of a queued request in its inbox row; injected messages have a role
_log = structlog.get_logger(__name__)


class MultitaskMode(StrEnum):
    """What to do with an input while a run of the session is active."""

    REJECT = "reject"
    ENQUEUE = "enqueue"
    INTERRUPT = "interrupt"  # stop the first, keep its state
    ROLLBACK = "rollback"  # stop the first, drop its state


class Multitask:
    """Starts runs of sessions that may be busy."""

    def __init__(
        self,
        database: Database,
        *,
        runs: RunsService,
        control: RunControl,
        store: DatabaseRunStore,
        saver: Saver,
        catalog: WorkflowCatalog,
        clock: Clock,
    ) -> None:
        self._writer = database.writer
        self._sessions = SessionRepository(database.readers)
        self._rows = RunRepository(database.readers)
        self._readers = database.readers
        self._runs = runs
        self._control = control
        self._store = store
        self._saver = saver
        self._catalog = catalog
        self._clock = clock
        self._going_back = GoingBack(database.writer, sessions=self._sessions, store=store, saver=saver)
        self._postponed: dict[int, SessionRef] = {}
        self._replacing = _Turns()
        self._waiters: dict[str, tuple[int, asyncio.Future[None]]] = {}  # by run id, with the session's number
        runs.on_end(self._on_end)

    async def start(self, session: SessionRow, request: StartRequest, *, mode: MultitaskMode) -> str:
        """Starts a run, or puts it in the session's queue; answers its id.

        Raises `RunAlreadyActive` with `REJECT`, `RunQueueFull` with `ENQUEUE`, and what starting a run raises.
        """
        if mode is MultitaskMode.ENQUEUE:
            return await self._enqueue(session, request)
        try:
            return await self._runs.start(session, request)
        except RunAlreadyActive:
            if mode is MultitaskMode.REJECT:
                raise
        return await self._replace(session, request, drop=mode is MultitaskMode.ROLLBACK)

    async def _replace(self, session: SessionRow, request: StartRequest, *, drop: bool) -> str:
        """Starts a run in the place of the active one; what waits in the session's queue goes on waiting."""
        async with self._replacing.of(session.n):
            try:
                for _ in range(ATTEMPTS):
                    await self._clear(session, request, drop=drop)
                    session = await self._again(session)
                    with contextlib.suppress(RunAlreadyActive):  # somebody else was quicker
                        return await self._runs.start(session, request)
                return await self._runs.start(session, request)
            except AgentError:
                self._postponed[session.n] = session.ref  # the queue was held back for nothing
                raise

    async def _clear(self, session: SessionRow, request: StartRequest, *, drop: bool) -> None:
        """Stops the active run; with `drop` the session's state is what it was before that run."""
        try:
            run = await self._control.stop(session, by=request.requested_by)
        except NoActiveRun:
            return
        if drop and run.status in ENDED_RUN_STATUSES:
            with contextlib.suppress(SessionMoved):  # somebody has gone on from it: then that run is the active one
                await self._drop_run(await self._again(session), run.run_id, by=request.requested_by)

    async def _drop_run(self, session: SessionRow, run_id: str, *, by: str) -> None:
        """Takes the session's state back to before its last run; all of it, or nothing. Raises `SessionMoved`."""
        page = await self._rows.page(session.ref, limit=1)
        if page.runs[0].run_id != run_id:
            raise SessionMoved(session_id=session.session_id)
        waiting = [row.message for row in await self._rows.inbox(session.ref) if row.run_id == run_id]
        unit: UnitOfWork[Any] = UnitOfWork(first=stands(session.ref, since=session.last_seq))
        unit.then = in_order(
            delete_checkpoints_of_runs([run_id], session=session.ref),
            change_pending(run_id, lambda _: {ROLLED_BACK: True}),
            take_inbox_of_run(session.ref, run_id),
        )
        fields = {"action": "rollback", "by": by, "dropped": waiting}
        unit.record(session.ref, Record(record_type=RecordType.CONTROL, run_id=run_id, fields=fields))
        await self._writer.commit(unit)
        self._saver.forget(session.ref)

    async def _again(self, session: SessionRow) -> SessionRow:
        row = await self._sessions.by_number(session.n)
        return row or session

    # -- the queue ---------------------------------------------------------------------------------------------

    async def _enqueue(self, session: SessionRow, request: StartRequest) -> str:
        if not await self._waiting(session.ref):
            try:
                return await self._runs.start(session, request)
            except RunAlreadyActive:
                pass
        check_start(request)
        if request.checkpoint_id is not None:
            await self._going_back.check(session.ref, request.checkpoint_id)
        if request.state:
            (await self._catalog.workflow(session.workflow_version, session.agent_config)).check_state(
                request.state, path="state"
            )
        run_id = new_id("run")
        unit: UnitOfWork[InboxRow] = UnitOfWork()
        fields = {"action": "enqueue", "by": request.requested_by}
        unit.record(session.ref, Record(record_type=RecordType.CONTROL, run_id=run_id, fields=fields))
        given = {_START: asdict(replace(request, idempotency_key=None)), "run_id": run_id}
        now = self._clock.now_us()
        if request.idempotency_key is not None:
            key, fingerprint = request.idempotency_key, request.fingerprint
            unit.first = claim_key(tenant=session.tenant, key=key, fingerprint=fingerprint, subject=run_id, now_us=now)
        unit.then = _queueing(session, given, now_us=now)
        try:
            await self._writer.commit(unit)
        except RequestRepeated as repeated:
            return repeated.subject
        self._waiters[run_id] = (session.n, asyncio.get_running_loop().create_future())
        await self._start_next(session.ref)  # the run before it may have ended meanwhile
        return run_id

    async def _waiting(self, session: SessionRef) -> list[InboxRow]:
        return [row for row in await self._rows.inbox(session) if _START in row.message]

    async def queued(self, session: SessionRef, run_id: str) -> Mapping[str, Any] | None:
        """What waits in the queue under that run id."""
        for row in await self._waiting(session):
            if row.message["run_id"] == run_id:
                return {"run_id": run_id, "created_at": rfc3339(row.created_at)}
        return None

    async def started(self, run_id: str) -> None:
        """Waits until a queued run has started (or never will); returns at once for any other."""
        if run_id in self._waiters:
            _, waiter = self._waiters[run_id]
            await asyncio.shield(waiter)

    def let_go(self) -> None:
        """Ends all waiting for queued runs, when the server stops: they start after it has started again."""
        for run_id in [*self._waiters]:
            self._tell(run_id)

    @contextlib.asynccontextmanager
    async def ending(self, session: SessionRow) -> AsyncGenerator[None]:
        """While a session is deleted: nothing that waits in its queue starts, and who waits for that learns the end."""
        try:
            async with self._replacing.of(session.n):
                yield
        finally:
            if await self._sessions.by_number(session.n) is None:
                for run_id in [run_id for run_id, (n, _) in self._waiters.items() if n == session.n]:
                    self._tell(run_id)
            else:
                await self._start_next(session.ref)

    async def recover(self) -> None:
        """Starts what waits in the queues of sessions whose run ended while the process died."""
        rows = await self._readers.query("SELECT DISTINCT session_n FROM run_inbox WHERE run_id IS NULL", ())
        for (n,) in rows:
            session = await self._sessions.by_number(n)
            if session is not None:
                await self._start_next(session.ref)

    async def _on_end(self, ended: Ended) -> None:
        postponed, self._postponed = self._postponed, {}
        if ended.status in ENDED_RUN_STATUSES and ended.inbox_waits:
            postponed.pop(ended.key.session.n, None)
            await self._start_next(ended.key.session)
        for ref in postponed.values():
            await self._start_next(ref)

    async def _start_next(self, ref: SessionRef) -> None:
        """Starts the oldest queued input unless a run is active; one that cannot start is dropped with a record."""
        while ref.n not in self._replacing and (waiting := await self._waiting(ref)):
            session = await self._sessions.by_number(ref.n)
            if session is None:
                return
            row = waiting[0]
            run_id = str(row.message["run_id"])
            request = StartRequest(**row.message[_START])
            try:
                await self._runs.start(session, request, run_id=run_id, inbox_ids=[row.inbox_id])
            except RunAlreadyActive:
                return  # its end brings us back
            except AgentError as error:
                if error.kind is Kind.UNAVAILABLE:  # no place in this process: the next end of any run tries again
                    self._postponed[ref.n] = ref
                    return
                await self._drop(session, row, error)
                self._tell(run_id)
                continue
            self._tell(run_id)
            return

    async def _drop(self, session: SessionRow, row: InboxRow, error: AgentError) -> None:
        _log.warning("queued_run_refused", session_id=session.session_id, code=error.code)
        unit: UnitOfWork[Any] = UnitOfWork(then=take_inbox(session.ref, inbox_ids=[row.inbox_id]))
        fields = {"action": "dequeue", "by": "server", "code": error.code, "reason": str(error)}
        run_id = str(row.message["run_id"])
        unit.record(session.ref, Record(record_type=RecordType.CONTROL, run_id=run_id, fields=fields))
        await self._writer.commit(unit)

    def _tell(self, run_id: str) -> None:
        _, waiter = self._waiters.pop(run_id, (0, None))
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class _Turns:
    """Those who replace runs: one at a time in a session."""

    def __init__(self) -> None:
        self._locks: dict[int, tuple[asyncio.Lock, int]] = {}

    def __contains__(self, session_n: int) -> bool:
        return session_n in self._locks

    @contextlib.asynccontextmanager
    async def of(self, session_n: int) -> AsyncGenerator[None]:
        """The session's turn."""
        lock, waiting = self._locks.get(session_n, (asyncio.Lock(), 0))
        self._locks[session_n] = (lock, waiting + 1)
        try:
            async with lock:
                yield
        finally:
            lock, waiting = self._locks.pop(session_n)
            if waiting > 1:
                self._locks[session_n] = (lock, waiting - 1)


def _queueing(
    session: SessionRow, given: Mapping[str, Any], *, now_us: int
) -> Callable[[sqlite3.Connection], InboxRow]:
    """The step that puts a request into the session's queue. Raises `RunQueueFull`."""
    add = add_to_inbox(session.ref, given, run_id=None, now_us=now_us)

    def step(connection: sqlite3.Connection) -> InboxRow:
        (waiting,) = connection.execute(
            "SELECT COUNT(*) FROM run_inbox WHERE session_n = ? AND run_id IS NULL", (session.n,)
        ).fetchone()
        if waiting >= MAX_WAITING:
            raise RunQueueFull(session_id=session.session_id, maximum=MAX_WAITING)
        return add(connection)

    return step
