"""The group-committing writer: units wait on the event loop, one thread commits them, a group at a time.

A group is whatever arrived while the last one was being committed; there is no timer. Futures are resolved in the
order of the units, after `on_commit` has been told what reached the log: nothing is published that is not durable, and
whoever awaits a commit finds it published.
"""

import asyncio
import concurrent.futures
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar, cast

from modular_agent.errors import AgentError
from modular_agent.events import CommittedRecord
from modular_agent.kit.clock import Clock
from modular_agent.kit.timings import note
from modular_agent.storage.cache import ANY, Cache, Tag
from modular_agent.storage.connections import JOURNAL_SIZE_LIMIT, open_writing
from modular_agent.storage.errors import StorageBusy, StorageClosed
from modular_agent.storage.fresh_lines import FreshLines
from modular_agent.storage.hours import tags_of_hour
from modular_agent.storage.prepared_units import PreparedUnit
from modular_agent.storage.transaction import GroupTransaction, Outcome
from modular_agent.storage.unit_of_work import Committed, UnitOfWork

__all__ = ["CommitListener", "Writer"]

T = TypeVar("T")

CommitListener = Callable[[Sequence[CommittedRecord]], None]

QUEUE_LIMIT: Final = 10_000  # units
GROUP_LIMIT: Final = 512  # units
GROUP_BYTES: Final = 8 * 1024 * 1024  # of records
PATIENCE: Final = 0.005  # seconds before the loop steps aside for a starved writer
HANDOVER: Final = 0.02  # seconds it steps aside at most
IDLE: Final = 1.0  # seconds without work before the WAL is checkpointed
CHECKPOINT_BYTES: Final = 2 * 1024 * 1024  # of records: up to 50 MB of WAL, so that it is used again and not truncated
CHECKPOINT_GROUPS: Final = 256
OPEN_LIMIT: Final = 600.0  # seconds: a migration may take long


class _Waiting(NamedTuple):
    prepared: PreparedUnit
    future: "asyncio.Future[Committed[Any]]"


class Writer:
    """The one writer of a database. An async context manager; leaving it commits what waits, then closes.

    `prepare` gets the new connection first (migrations); `on_commit` is called on the event loop with the records of
    each committed group, in log order; `after_commit` likewise without arguments (it wakes the mirror). `fresh` gets
    the lines of each commit in the writer's thread. `cache` forgets what has changed before anybody hears of it.
    `on_fault` hears after each group what refused all of it, or None.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock,
        prepare: Callable[[sqlite3.Connection], None],
        on_commit: CommitListener,
        after_commit: Callable[[], None],
        on_fault: Callable[[AgentError | None], None] | None = None,
        fresh: FreshLines | None = None,
        cache: Cache | None = None,
        queue_limit: int = QUEUE_LIMIT,
    ) -> None:
        self._path = path
        self._fresh = fresh
        self._clock = clock
        self._prepare = prepare
        self._on_commit = on_commit
        self._after_commit = after_commit
        self._on_fault = on_fault
        self._cache = cache
        self._limit = queue_limit
        self._queue: deque[_Waiting] = deque()
        self._room: deque[asyncio.Future[None]] = deque()
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="storage-writer")
        self._busy = False
        self._scheduled = False
        self._closed = True
        self._idle: asyncio.TimerHandle | None = None
        self._drained: asyncio.Event = asyncio.Event()
        self._connection: sqlite3.Connection | None = None
        self._transaction: GroupTransaction | None = None
        self.groups = 0
        self.units = 0

    async def __aenter__(self) -> "Writer":
        self._loop = asyncio.get_running_loop()
        try:
            await asyncio.wait_for(asyncio.wrap_future(self._thread.submit(self._open)), OPEN_LIMIT)
        except BaseException:
            self._thread.shutdown(wait=False)
            raise
        self._closed = False
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.drain()
        await asyncio.wrap_future(self._thread.submit(self._close))
        self._thread.shutdown(wait=False)

    @property
    def waiting(self) -> int:
        """How many units wait for their transaction."""
        return len(self._queue)

    def submit(self, unit: UnitOfWork[T]) -> "asyncio.Future[Committed[T]]":
        """Puts the unit behind all that were submitted before, at once; the future is resolved when it is durable.

        Raises `StorageClosed`, or `StorageBusy` when too many units wait. The future raises `StaleEpoch`,
        `ConstraintViolated`, `SessionUnknown`, `StorageFull`, `DiskFailed`, `StorageFailed`, or what `first` or `then`
        raised. Cancelling the future does not take the unit back.
        """
        if self._closed:
            raise StorageClosed
        if len(self._queue) >= self._limit:
            raise StorageBusy
        future: asyncio.Future[Committed[Any]] = self._loop.create_future()
        self._queue.append(_Waiting(_prepare_unit(unit), future))
        self._schedule()
        return cast("asyncio.Future[Committed[T]]", future)

    async def commit(self, unit: UnitOfWork[T]) -> Committed[T]:
        """Like `submit`, but waits for a place in the queue, and for the result."""
        while len(self._queue) >= self._limit and not self._closed:
            place: asyncio.Future[None] = self._loop.create_future()
            self._room.append(place)
            await place
        started = time.perf_counter()
        try:
            return await self.submit(unit)
        finally:
            note("commit", time.perf_counter() - started)

    async def exclusive(self, work: Callable[[sqlite3.Connection], T], *, changes: bool = True) -> T:
        """Runs `work` in the writer's thread between two groups; it manages its own transactions.

        The cache forgets everything then, unless work `changes` nothing.
        """
        if self._connection is None:
            raise StorageClosed
        try:
            return await asyncio.wrap_future(self._thread.submit(work, self._connection))
        finally:
            if changes and self._cache is not None:
                self._cache.clear()

    def call(self, work: Callable[[sqlite3.Connection], T], *, limit: float) -> T:
        """Like `exclusive`, for another thread: waits `limit` seconds at most (`TimeoutError`)."""
        if self._connection is None:
            raise StorageClosed
        try:
            job = self._thread.submit(work, self._connection)
        except RuntimeError as error:  # the pool is shut down
            raise StorageClosed from error
        return job.result(timeout=limit)

    async def drain(self) -> None:
        """Takes nothing more and waits until everything submitted is committed."""
        self._closed = True
        self._wake_waiting(len(self._room))
        while self._queue or self._busy:
            self._drained.clear()
            self._schedule()
            await self._drained.wait()
        if self._idle is not None:
            self._idle.cancel()

    def _schedule(self) -> None:
        if not self._scheduled and not self._busy:
            self._scheduled = True
            self._loop.call_soon(self._start_group)  # so that what one turn of the loop submits is one group

    def _start_group(self) -> None:
        self._scheduled = False
        if self._busy or not self._queue:
            return
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        group = self._take_group()
        self._busy = True
        self._wake_waiting(len(group))
        assert self._transaction is not None
        job = self._thread.submit(self._transaction.commit, [waiting.prepared for waiting in group])
        patience = self._loop.call_later(PATIENCE, _step_aside, job)
        job.add_done_callback(lambda done: self._loop.call_soon_threadsafe(self._finish, done, group, patience))

    def _take_group(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        size = 0
        while self._queue and len(group) < GROUP_LIMIT and size < GROUP_BYTES:
            waiting = self._queue.popleft()
            size += sum(map(len, waiting.prepared.bodies))
            group.append(waiting)
        return group

    def _wake_waiting(self, count: int) -> None:
        while count > 0 and self._room:
            place = self._room.popleft()
            if not place.done():
                place.set_result(None)
                count -= 1

    def _finish(
        self, job: "concurrent.futures.Future[list[Outcome]]", group: list[_Waiting], patience: asyncio.TimerHandle
    ) -> None:
        patience.cancel()
        self._busy = False
        self.groups += 1
        self.units += len(group)
        outcomes = job.result()
        assert self._transaction is not None
        if self._on_fault is not None:
            self._on_fault(self._transaction.fault)
        self._forget(group)
        self._maintain()
        self._start_group()  # the thread works on while this one tells what happened
        committed = [record for outcome in outcomes if isinstance(outcome, Committed) for record in outcome.records]
        if committed:
            self._publish(committed)
        for waiting, outcome in zip(group, outcomes, strict=True):
            if waiting.future.done():
                continue
            if isinstance(outcome, Committed):
                waiting.future.set_result(outcome)
            else:
                waiting.future.set_exception(outcome)
        if not self._busy and not self._queue:
            self._drained.set()

    def _forget(self, group: Sequence[_Waiting]) -> None:
        """Of refused units too: it costs little, and a group whose commit failed may be there all the same."""
        if self._cache is None:
            return
        assert self._transaction is not None
        tags = set[Tag]({ANY}).union(*map(tags_of_hour, self._transaction.hours))
        for waiting in group:
            changed = waiting.prepared.unit.changed()
            if changed is None:
                self._cache.clear()
                return
            tags |= changed
        self._cache.changed(tags)

    def _publish(self, committed: Sequence[CommittedRecord]) -> None:
        for tell in (lambda: self._on_commit(committed), self._after_commit):
            try:
                tell()
            except Exception as error:  # noqa: BLE001 - the records are durable: their writers must not be failed
                self._loop.call_exception_handler({"message": "A listener of the log failed.", "exception": error})

    def _maintain(self) -> None:
        transaction = self._transaction
        assert transaction is not None
        if (
            transaction.bytes_since_checkpoint >= CHECKPOINT_BYTES
            or transaction.groups_since_checkpoint >= CHECKPOINT_GROUPS
        ):
            self._thread.submit(self._checkpoint)
        elif not self._queue and not self._closed:
            self._idle = self._loop.call_later(IDLE, self._thread.submit, self._checkpoint)

    def _open(self) -> None:
        connection = open_writing(self._path)
        try:
            self._prepare(connection)
            connection.execute("PRAGMA foreign_keys=ON")
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._transaction = GroupTransaction(connection, clock=self._clock, fresh=self._fresh)

    def _checkpoint(self) -> None:
        """Moves the WAL into the database file; truncates a WAL that has grown past its limit."""
        connection, transaction = self._connection, self._transaction
        if connection is None or transaction is None:
            return
        transaction.bytes_since_checkpoint = transaction.groups_since_checkpoint = 0
        try:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            if _size(self._path.with_name(self._path.name + "-wal")) > JOURNAL_SIZE_LIMIT:
                connection.execute("PRAGMA busy_timeout=0")  # a reader in the way: next time
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                connection.execute("PRAGMA busy_timeout=5000")
        except sqlite3.Error:
            return  # nothing is lost: the WAL stays, and the next commit reports a database that does not work

    def _close(self) -> None:
        if self._connection is not None:
            self._checkpoint()
            self._connection.close()
            self._connection = None


def _prepare_unit(unit: UnitOfWork[Any]) -> PreparedUnit:
    for (table, _), rows in unit.rows.items():
        for width in set(map(len, rows)):
            if width != table.width:
                raise ValueError(f"a row of {table.name} has {table.width} values, not {width}")
    return PreparedUnit(unit, [record.encode(session.session_id) for session, record in unit.records])


def _step_aside(job: "concurrent.futures.Future[list[Outcome]]") -> None:
    """Blocks the loop, without the GIL, while the writer finishes: a busy loop would not let it have the GIL at all."""
    if not job.done():
        concurrent.futures.wait([job], timeout=HANDOVER)


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116 - one call, no objects
    except FileNotFoundError:
        return 0
