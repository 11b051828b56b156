"""The database of a data path: opens it, migrates it, and owns the threads that write, read and mirror it."""

import asyncio
import contextlib
import errno
import sqlite3
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Final

from modular_agent.kit.clock import Clock, SystemClock
from modular_agent.storage.cache import MemoryCache
from modular_agent.storage.data_lock import DataLock
from modular_agent.storage.errors import DiskFailed, storage_error
from modular_agent.storage.fresh_lines import FreshLines
from modular_agent.storage.location import Location
from modular_agent.storage.log_files import LogFiles
from modular_agent.storage.migrations import refuse_foreign, upgrade
from modular_agent.storage.mirror import Mirror
from modular_agent.storage.mirror_files import FileOperations
from modular_agent.storage.readers import Readers
from modular_agent.storage.records import Records
from modular_agent.storage.repositories.idempotency import IdempotencyRepository
from modular_agent.storage.repositories.sessions import SessionRepository
from modular_agent.storage.search_index import SearchIndex
from modular_agent.storage.session_log import LogListeners, SessionLog
from modular_agent.storage.session_removal import SessionRemoval
from modular_agent.storage.trouble import Trouble
from modular_agent.storage.writer import QUEUE_LIMIT, Writer

__all__ = ["Database"]

WATERMARK_LIMIT: Final = 30.0  # seconds
CACHE_TTL: Final = 300.0  # seconds
CACHE_SIZE: Final = 1_000
_WATERMARK: Final = "INSERT INTO mirror VALUES (1, ?) ON CONFLICT (only) DO UPDATE SET synced_id = excluded.synced_id"


class Database:
    """An open database; an async context manager (`async with Database.open(data_path) as database`).

    `cache`, `writer`, `trouble`, `readers`, `records`, `log`, `mirror`, `files`, `search` and `removal` are there while
    it is open. Entering ends deletions of sessions that a crash has interrupted.
    """

    cache: MemoryCache
    writer: Writer
    trouble: Trouble
    readers: Readers
    records: Records
    log: SessionLog
    mirror: Mirror
    files: LogFiles
    search: SearchIndex
    removal: SessionRemoval

    def __init__(
        self,
        location: Location,
        *,
        clock: Clock,
        reader_threads: int,
        queue_limit: int,
        operations: FileOperations | None,
        cache: MemoryCache,
    ) -> None:
        self.cache = cache
        self.location = location
        self._clock = clock
        self._reader_threads = reader_threads
        self._queue_limit = queue_limit
        self._operations = operations
        self._stack = AsyncExitStack()

    @classmethod
    def open(
        cls,
        data_path: Path,
        *,
        url: str | None = None,
        clock: Clock | None = None,
        reader_threads: int = 3,
        queue_limit: int = QUEUE_LIMIT,
        operations: FileOperations | None = None,
        cache_ttl: float = CACHE_TTL,
        cache_size: int = CACHE_SIZE,
    ) -> "Database":
        """The database below `data_path`, or at `url` (`sqlite+aiosqlite:///...`), to be entered.

        Entering makes what is missing and migrates what is old. Raises `DataPathInUse`, `DatabaseUnsupported`,
        `DatabaseTooNew`, `DatabaseForeign`.
        """
        clock = clock or SystemClock()
        return cls(
            Location.of(data_path, url=url),
            clock=clock,
            reader_threads=reader_threads,
            queue_limit=queue_limit,
            operations=operations,
            cache=MemoryCache(clock=clock, ttl=cache_ttl, max_size=cache_size),
        )

    async def __aenter__(self) -> "Database":
        async with AsyncExitStack() as stack:
            try:
                await self._start(stack)
            except sqlite3.Error as error:
                raise storage_error(error) from error
            except OSError as error:
                raise DiskFailed(reason=errno.errorcode.get(error.errno or 0, type(error).__name__)) from error
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def probe(self, *, limit: float) -> None:
        """Returns when a reader and the writer have answered; raises `TimeoutError` after `limit` seconds.

        Raises `StorageBusy`, `StorageClosed`, `StorageFull`, `DiskFailed` too: also for a disk on which the next
        write would fail.
        """
        async with asyncio.timeout(limit):
            self.trouble.check()
            await self.readers.query("SELECT 1 FROM sessions LIMIT 1")
            await self.writer.exclusive(_take_lock, changes=False)

    async def _start(self, stack: AsyncExitStack) -> None:
        location = self.location
        stack.enter_context(DataLock(location.data_path, location.database.parent))
        await asyncio.to_thread(refuse_foreign, location.database)
        listeners, fresh = LogListeners(), FreshLines()
        self.mirror = Mirror(location, advance=self._advance, fresh=fresh, operations=self._operations)
        self.writer = Writer(
            location.database,
            clock=self._clock,
            prepare=lambda connection: upgrade(connection, name=location.database.name),
            on_commit=listeners.tell,
            after_commit=self.mirror.wake,
            fresh=fresh,
            on_fault=lambda fault: self.trouble.note(fault),  # noqa: PLW0108 - it is made after the writer
            cache=self.cache,
            queue_limit=self._queue_limit,
        )
        self.trouble = Trouble(location.database, exclusive=partial(self.writer.exclusive, changes=False))
        await stack.enter_async_context(self.writer)
        await stack.enter_async_context(self.trouble)
        self.readers = await stack.enter_async_context(Readers(location.database, threads=self._reader_threads))
        await stack.enter_async_context(self.cache)
        await stack.enter_async_context(self.mirror)
        self.search = await stack.enter_async_context(
            SearchIndex(location.database, location.index, busy=lambda: self.writer.waiting)
        )
        stack.push_async_callback(self.writer.drain)  # first of all, so that the mirror gets the last records
        self.records = Records(self.readers, cache=self.cache)
        self.log = SessionLog(writer=self.writer, records=self.records, listeners=listeners)
        self.log.listen(self.search.committed)
        self.files = LogFiles(location, readers=self.readers, writer=self.writer, mirror=self.mirror, clock=self._clock)
        self.removal = SessionRemoval(
            writer=self.writer,
            mirror=self.mirror,
            sessions=SessionRepository(self.readers),
            keys=IdempotencyRepository(self.readers),
            clock=self._clock,
            forget=self.search.forget,
            files=location.data_path / "files",
        )
        with contextlib.suppress(OSError):  # files that cannot be removed now are tried again at the next start
            await self.removal.finish()

    def _advance(self, record_id: int) -> None:
        def store(connection: sqlite3.Connection) -> None:
            connection.execute(_WATERMARK, (record_id,))

        self.writer.call(store, limit=WATERMARK_LIMIT)


def _take_lock(connection: sqlite3.Connection) -> None:
    """Begins a transaction and gives it up."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        raise storage_error(error) from error
