"""Whether the database takes writes: what the last commit said, and when that is over.

A full or read-only disk, or one that fails, refuses whole groups. From then on a task tries, a small commit at a time,
until one succeeds; whoever had to give something up waits for `over`. Nothing has to be started again by hand.
"""

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import structlog

from modular_agent.errors import AgentError
from modular_agent.storage.errors import DiskFailed, StorageFull, storage_error

__all__ = ["Trouble", "check_disk"]

ROOM: Final = 1024 * 1024  # bytes that must be free: less holds no more than a few groups
FIRST_TRY: Final = 0.25  # seconds
LONGEST_PAUSE: Final = 2.0
_WRITE: Final = "INSERT INTO mirror VALUES (1, 0) ON CONFLICT (only) DO UPDATE SET synced_id = mirror.synced_id"

Exclusive = Callable[[Callable[[sqlite3.Connection], Any]], Awaitable[Any]]
_log = structlog.get_logger(__name__)


def check_disk(folder: Path) -> None:
    """Raises `StorageFull` when the disk of `folder` has no room, `DiskFailed` when it can only be read."""
    disk = os.statvfs(folder)
    if disk.f_flag & os.ST_RDONLY:
        raise DiskFailed(reason="EROFS")
    if disk.f_bavail * disk.f_frsize < ROOM:
        raise StorageFull


class Trouble:
    """The faults of one database. `exclusive` runs work in the writer's thread.

    An async context manager: while it is entered, a fault is followed until it is over. Belongs to the event loop.
    """

    def __init__(self, database: Path, *, exclusive: Exclusive) -> None:
        self._folder = database.parent
        self._exclusive = exclusive
        self._begun = asyncio.Event()
        self._over = asyncio.Event()
        self._over.set()
        self._task: asyncio.Task[None] | None = None
        self.fault: AgentError | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._follow(), name="storage trouble")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def note(self, fault: AgentError | None) -> None:
        """Takes what the last group said: the fault that refused all of it, or None."""
        if fault is None:
            if self.fault is not None:
                self._end()
            return
        if self.fault is None:
            _log.error("storage_trouble", code=fault.code, reason=str(fault))
            self._over.clear()
            self._begun.set()
        self.fault = fault

    def check(self) -> None:
        """Raises the fault there is, also one that no write has met yet."""
        if self.fault is not None:
            raise self.fault
        check_disk(self._folder)

    async def over(self) -> None:
        """Returns at once when there is no trouble, else when the database takes writes again."""
        await self._over.wait()

    async def _follow(self) -> None:
        while True:
            await self._begun.wait()
            self._begun.clear()
            pause = FIRST_TRY
            while self.fault is not None:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                with contextlib.suppress(AgentError, OSError):  # it goes on: the next try says when it is over
                    await self._exclusive(self._try)
                    self.note(None)

    def _try(self, connection: sqlite3.Connection) -> None:
        check_disk(self._folder)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_WRITE)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
            raise storage_error(error) from error

    def _end(self) -> None:
        _log.info("storage_trouble_over")
        self.fault = None
        self._over.set()
