"""A few threads that read, each with its own connection: everything one answer needs in one call."""

import asyncio
import concurrent.futures
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from modular_agent.kit.timings import note
from modular_agent.storage.connections import open_reading
from modular_agent.storage.errors import StorageBusy, StorageClosed, storage_error

__all__ = ["Readers"]

T = TypeVar("T")

THREADS: Final = 3
CALLS_LIMIT: Final = 2_000  # calls under way or waiting


class Readers:
    """The reading side of a database file that exists. An async context manager.

    What a call reads includes every commit that was awaited before it. Raises `StorageBusy`, `StorageClosed`,
    `StorageFailed`, and what the function raises.
    """

    def __init__(self, path: Path, *, threads: int = THREADS) -> None:
        self._path = path
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._pool = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="storage-reader")
        self._calls = 0
        self._closed = False

    async def __aenter__(self) -> "Readers":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(None, self._close)

    async def run(self, read: Callable[[sqlite3.Connection], T]) -> T:
        """What `read(connection)` returns; all its statements see the same state of the database."""
        return await self._call(lambda: self._in_snapshot(read))

    async def query(self, text: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of one statement (SQL values)."""
        return await self._call(lambda: self._fetch(text, parameters))

    async def _call(self, function: Callable[[], T]) -> T:
        if self._closed:
            raise StorageClosed
        if self._calls >= CALLS_LIMIT:
            raise StorageBusy
        self._calls += 1
        started = time.perf_counter()
        job = self._pool.submit(function)
        try:
            return await asyncio.wrap_future(job)
        except sqlite3.Error as error:
            raise storage_error(error) from error
        finally:
            self._calls -= 1
            note("db", time.perf_counter() - started)

    def _in_snapshot(self, read: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._connection()
        connection.execute("BEGIN")
        try:
            return read(connection)
        finally:
            if connection.in_transaction:  # an open snapshot would keep the WAL from being reused
                connection.execute("ROLLBACK")

    def _fetch(self, text: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        return self._connection().execute(text, parameters).fetchall()

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = open_reading(self._path)
            with self._lock:
                self._connections.append(connection)
        return connection

    def _close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        for connection in self._connections:
            connection.close()
