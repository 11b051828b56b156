"""The search index of a database: kept up by a thread of its own, after the commits and out of the writer's way.

What is not indexed yet is scanned, so a search finds everything that was committed before it. Nothing depends on the
index being there: all of it, or any of its files, can be deleted and is made again.
"""

import asyncio
import concurrent.futures
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal, Self, TypeVar

import structlog

from modular_agent.events import CommittedRecord, SessionRef
from modular_agent.kit.dataclass import dataclass
from modular_agent.storage.connections import open_reading
from modular_agent.storage.errors import StorageBusy, StorageClosed, storage_error
from modular_agent.storage.search_files import read_position
from modular_agent.storage.search_query import Place, SearchFilter, Searching, SearchPage
from modular_agent.storage.search_writing import IndexWriting
from modular_agent.storage.searchable import SEARCHED_TYPES

__all__ = ["IndexReader", "IndexState", "SearchIndex", "Searcher"]

T = TypeVar("T")

BATCH: Final = 200  # records in a transaction
REBUILD_BATCH: Final = 1_000
REST: Final = 0.2  # seconds to let records gather
BUSY_PAUSE: Final = 0.2  # seconds after a batch while the writer has work: a millisecond for each record
STORE_EVERY: Final = 50  # batches
FORGET_ATTEMPTS: Final = 3
RETRY: Final = 1.0  # seconds after a failure
SEARCH_THREADS: Final = 2
SEARCHES_LIMIT: Final = 200  # under way or waiting
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class IndexState:
    """How the index stands. `indexed_id`: every record up to this one is in it; `error` is the system's text."""

    status: Literal["ok", "failing"]
    indexed_id: int
    error: str | None = None


class Searcher:
    """Searches in threads of its own. An async context manager."""

    def __init__(self, database: Path, folder: Path, *, position: Callable[[], int]) -> None:
        self._database = database
        self._folder = folder
        self._position = position
        self._pool = concurrent.futures.ThreadPoolExecutor(SEARCH_THREADS, thread_name_prefix="search")
        self._local = threading.local()
        self._open: list[tuple[sqlite3.Connection, Searching]] = []
        self._calls = 0
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(None, self._close)

    @property
    def state(self) -> IndexState:
        return IndexState("ok", self._position())

    async def search(self, query: str, chosen: SearchFilter, *, limit: int, after: Place | None = None) -> SearchPage:
        """At most `limit` records that hold `query` (not empty), the newest first.

        Raises `StorageBusy`, `StorageClosed`, `StorageFailed`.
        """
        if self._closed:
            raise StorageClosed
        if self._calls >= SEARCHES_LIMIT:
            raise StorageBusy
        self._calls += 1
        try:
            job = self._pool.submit(lambda: self._searching().search(query, chosen, limit=limit, after=after))
            return await asyncio.wrap_future(job)
        except sqlite3.Error as error:
            raise storage_error(error) from error
        finally:
            self._calls -= 1

    def _searching(self) -> Searching:
        known: Searching | None = getattr(self._local, "searching", None)
        if known is None:
            connection = open_reading(self._database)
            known = self._local.searching = Searching(connection, self._folder, position=self._position)
            self._open.append((connection, known))
        return known

    def _close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        for connection, searching in self._open:
            searching.close()
            connection.close()


class IndexReader(Searcher):
    """Searches a data path beside the process that owns it."""

    def __init__(self, database: Path, folder: Path) -> None:
        super().__init__(database, folder, position=lambda: read_position(folder).record_id)


class SearchIndex(Searcher):
    """Keeps the index of a database and searches it. An async context manager.

    `busy()` says how many units wait for the writer: indexing then takes its time.
    """

    def __init__(self, database: Path, folder: Path, *, busy: Callable[[], int]) -> None:
        super().__init__(database, folder, position=lambda: self._writing.position)
        self._writing = IndexWriting(database, folder)
        self._busy = busy
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="search-index")
        self._work = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._error: str | None = None

    async def __aenter__(self) -> Self:
        await self._call(self._writing.open)
        self._work.set()
        self._task = asyncio.create_task(self._run(), name="search-index")
        return self

    async def __aexit__(self, *exit_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await super().__aexit__(*exit_)
        try:
            await self._call(self._writing.close)
        except (sqlite3.Error, OSError) as error:
            _log.warning("search_index_not_stored", error=str(error))  # the next start indexes a little again
        self._thread.shutdown(wait=False)

    @property
    def state(self) -> IndexState:
        return IndexState("failing" if self._error else "ok", self._writing.position, self._error)

    def committed(self, records: Sequence[CommittedRecord]) -> None:
        """Hears of every commit (a listener of the log)."""
        if not self._work.is_set() and any(record.record_type in SEARCHED_TYPES for record in records):
            self._work.set()

    async def forget(self, session: SessionRef) -> None:
        """Takes out a session that is marked as deleted, before its records are.

        While the index fails it is tried a few times; then the whole index is dropped and made anew.
        """
        for _ in range(FORGET_ATTEMPTS):
            try:
                await self._call(lambda: self._writing.remove(session))
            except (sqlite3.Error, OSError) as error:
                await self._failed(error)
            else:
                return
        with suppress(OSError):  # what is left leads to no record, and so to no hit
            await self._call(self._writing.drop)
        self._work.set()

    async def rebuild(self, progress: Callable[[int], None] = lambda _: None) -> int:
        """Makes the whole index anew; `progress` hears how many records were gone through. Returns their number."""
        await self._call(self._writing.drop)
        done = 0
        while passed := await self._call(lambda: self._writing.advance(limit=REBUILD_BATCH)):
            done += passed
            progress(done)
        await self._call(self._writing.merge)
        await self._call(self._writing.store_position)
        return done

    async def wait_until_indexed(self) -> None:
        """Returns when everything committed before is in the index. Raises `sqlite3.Error`, `OSError`."""
        while await self._call(lambda: self._writing.advance(limit=BATCH)):
            pass

    async def _run(self) -> None:
        batches = 0
        while True:
            await self._work.wait()
            await asyncio.sleep(REST)
            self._work.clear()
            try:
                while await self._call(lambda: self._writing.advance(limit=BATCH)):
                    self._error = None
                    batches += 1
                    if batches % STORE_EVERY == 0:
                        await self._call(self._writing.store_position)
                    await asyncio.sleep(BUSY_PAUSE if self._busy() else 0)
                await self._call(self._writing.store_position)
                self._error = None
            except (sqlite3.Error, OSError) as error:
                await self._failed(error)
                self._work.set()

    async def _failed(self, error: Exception) -> None:
        """Says so, mends what is damaged by making it anew, and waits before the next attempt."""
        if self._error is None:
            _log.warning("search_index_failing", error=str(error))
        self._error = str(error)
        if isinstance(error, sqlite3.DatabaseError) and getattr(error, "sqlite_errorcode", 0) & 0xFF in (
            sqlite3.SQLITE_CORRUPT,
            sqlite3.SQLITE_NOTADB,
        ):
            with suppress(OSError):
                await self._call(self._writing.drop)
        await asyncio.sleep(RETRY)

    async def _call(self, work: Callable[[], T]) -> T:
        return await asyncio.wrap_future(self._thread.submit(work))
