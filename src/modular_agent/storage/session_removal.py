"""Deleting a session with all that belongs to it, so that it survives a crash half-way.

First the session is marked and is not found any more; then what was made of its records goes (the search index), and
the keys of the requests that made it and its runs; then its rows, in pieces that hold the writer for a few milliseconds
each; then its files; its own row last. Whoever finds a marked session goes on from there.
"""

import asyncio
import contextlib
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from modular_agent.events import SessionRef
from modular_agent.kit.clock import Clock
from modular_agent.storage.mirror import Mirror
from modular_agent.storage.models import (
    checkpoint_writes,
    checkpoints,
    errors,
    llm_calls,
    log_items,
    metadata,
    records,
    runs,
)
from modular_agent.storage.models.table import Table
from modular_agent.storage.repositories.idempotency import IdempotencyRepository, release_key
from modular_agent.storage.repositories.sessions import SessionRepository, mark_deleted
from modular_agent.storage.rollup_changes import count_session, forget_facts, forget_runs
from modular_agent.storage.session_grams import regrammed
from modular_agent.storage.sql import InsertTexts
from modular_agent.storage.unit_of_work import UnitOfWork, in_order
from modular_agent.storage.writer import Writer

__all__ = ["SessionRemoval"]

PIECE: Final = 500  # rows


class SessionRemoval:
    """Deletes sessions. Each session's folder below `files`, if there is one, goes with it.

    `forget(session)` is told of each before its records go, again after a crash.
    """

    def __init__(
        self,
        *,
        writer: Writer,
        mirror: Mirror,
        sessions: SessionRepository,
        keys: IdempotencyRepository,
        clock: Clock,
        forget: Callable[[SessionRef], Awaitable[None]],
        files: Path | None = None,
    ) -> None:
        self._writer = writer
        self._mirror = mirror
        self._sessions = sessions
        self._keys = keys
        self._clock = clock
        self._inserts = InsertTexts()  # used in the writer's thread only
        self._files = files
        self._forget = forget

    async def delete(self, session: SessionRef) -> None:
        """Deletes the session; done before, it does nothing. Raises `SessionBusy` while a run is active.

        Raises `OSError` when the files cannot be removed; `finish` tries again.
        """
        unit = UnitOfWork(then=mark_deleted(session, now_us=self._clock.now_us()), forgets={session.n})
        if (await self._writer.commit(unit)).result:
            await self._remove(session)

    async def finish(self) -> int:
        """Ends every deletion that was begun, for a start-up; returns how many."""
        begun = await self._sessions.being_deleted()
        for session in begun:
            await self._remove(session)
        return len(begun)

    async def _remove(self, session: SessionRef) -> None:
        await self._forget(session)
        steps = [release_key(tenant=tenant, key=key) for tenant, key in await self._keys.of_session(session)]
        await self._writer.commit(UnitOfWork(then=in_order(*steps)))
        large = (records, checkpoint_writes, checkpoints, log_items, llm_calls)
        others = [table for table in metadata.sorted_tables if "session_n" in table.columns and table not in large]
        for table in (*large, *others):
            if table.name == "log_files":
                continue  # goes with the session's row
            step = self._piece(table, session.n)
            while (await self._writer.commit(UnitOfWork(then=step))).result == PIECE:
                pass
        await self._mirror.remove(session.session_id)
        if self._files is not None:
            await asyncio.to_thread(_remove_folder, self._files / session.session_id)
        await self._writer.commit(UnitOfWork(then=_delete_session(session.n), forgets={session.n}))

    def _piece(self, table: Table, n: int) -> Callable[[sqlite3.Connection], int]:
        """The step that deletes some rows of a table, and takes them out of the statistics."""
        if table in (llm_calls, errors):
            return lambda connection: forget_facts(connection, table, n, limit=PIECE, inserts=self._inserts)
        if table is runs:
            return lambda connection: forget_runs(connection, n, limit=PIECE)
        return _delete_piece(table.name, ", ".join(column.name for column in table.primary_key), n)


def _remove_folder(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)


def _delete_piece(table: str, keys: str, n: int) -> Callable[[sqlite3.Connection], int]:
    def step(connection: sqlite3.Connection) -> int:
        return connection.execute(
            f"DELETE FROM {table} WHERE ({keys}) IN (SELECT {keys} FROM {table} WHERE session_n = ? LIMIT {PIECE})",
            (n,),
        ).rowcount

    return step


def _delete_session(n: int) -> Callable[[sqlite3.Connection], None]:
    def step(connection: sqlite3.Connection) -> None:
        row = connection.execute(
            "SELECT created_at, session_id FROM sessions WHERE n = ? AND deleted_at IS NOT NULL", (n,)
        ).fetchone()
        if row is not None:
            count_session(connection, n, created_at=row[0], sign=-1)
            connection.execute("DELETE FROM spending WHERE scope = 'session' AND subject = ?", (row[1],))
            with regrammed(connection, n):
                connection.execute("DELETE FROM sessions WHERE n = ?", (n,))

    return step
