"""The JSON Lines files as a mirror of the records in the database.

A record's row says where its line belongs, so every repair is "put the bytes there again": the mirror gets the lines of
each commit from the writer (`FreshLines`), or, where some are missing, reads rows in the order of their commits; it
writes the lines at their places, syncs every few seconds, and then remembers in the database
up to which record the files are safe (`synced_id`). At start-up everything behind that is written again, and files are
cut or completed to their committed length. Nobody waits for the files; a full or failing disk stops the mirror only,
says so in `state`, and is tried again each second.
"""

import asyncio
import concurrent.futures
import contextlib
import errno
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import orjson

from modular_agent.errors import AgentError
from modular_agent.kit.dataclass import dataclass
from modular_agent.storage.connections import open_reading
from modular_agent.storage.errors import StorageClosed
from modular_agent.storage.fresh_lines import FreshLines, Piece
from modular_agent.storage.location import Location
from modular_agent.storage.mirror_files import FileOperations, MirrorFiles, log_name

__all__ = ["Mirror", "MirrorState"]

T = TypeVar("T")

GATHER: Final = 0.1  # seconds between two passes
RETRY: Final = 1.0  # seconds after a failure
SYNC_SECONDS: Final = 3.0
SYNC_BYTES: Final = 32 * 1024 * 1024
BATCH_ROWS: Final = 1_000
BATCH_BYTES: Final = 8 * 1024 * 1024
CHECKED_FILES: Final = 20_000  # at start-up, newest months first; `verify` reads all of them
CLOSE_LIMIT: Final = 60.0

_BATCH_END: Final = (
    "SELECT max(id) FROM (SELECT id, length, sum(length) OVER (ORDER BY id) AS total FROM"
    " (SELECT id, length FROM records WHERE id > ? ORDER BY id LIMIT ?)) WHERE total - length < ?"
)
_BATCH: Final = (
    "SELECT json_group_array(json_array(session_id, month, offset, length)), CAST(group_concat(line, '') AS BLOB)"
    " FROM (SELECT s.session_id, r.month, r.offset, r.length, r.line"
    " FROM records r JOIN sessions s ON s.n = r.session_n"
    " WHERE r.id > ? AND r.id <= ? AND s.deleted_at IS NULL ORDER BY r.id)"
)
_UNSYNCED: Final = "SELECT session_n, month, min(offset) FROM records WHERE id > ? GROUP BY session_n, month"
_FILES: Final = (
    "SELECT s.n, s.session_id, f.month, f.length FROM log_files f JOIN sessions s ON s.n = f.session_n"
    " WHERE s.deleted_at IS NULL ORDER BY f.month DESC, s.n DESC LIMIT ?"
)


@dataclass(frozen=True, slots=True)
class MirrorState:
    """How the mirror stands. `error` is the operating system's name of the fault (`ENOSPC`) while it is `failing`."""

    status: Literal["starting", "ok", "failing", "closed"]
    error: str | None
    mirrored_id: int  # every record up to here is in its file
    synced_id: int  # and up to here the files are safe


class Mirror:
    """Keeps the files equal to the rows, in a thread of its own. An async context manager; leaving it catches up first.

    `advance(record_id)` stores the watermark and is called from the mirror's thread. `fresh` brings what is committed.
    """

    def __init__(
        self,
        location: Location,
        *,
        advance: Callable[[int], None],
        fresh: FreshLines,
        operations: FileOperations | None = None,
    ) -> None:
        self._location = location
        self._fresh = fresh
        self._advance = advance
        self._files = MirrorFiles(location.history, operations=operations or FileOperations())
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._commands: deque[tuple[Callable[[sqlite3.Connection], Any], concurrent.futures.Future[Any]]] = deque()
        self._thread = threading.Thread(target=self._work, name="storage-mirror", daemon=True)
        self._mirrored_id = 0
        self._synced_id = 0
        self._last_sync = time.monotonic()
        self._repaired = False
        self.state = MirrorState("starting", None, 0, 0)

    async def __aenter__(self) -> "Mirror":
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping.set()
        self._woken.set()
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join, CLOSE_LIMIT)

    def wake(self) -> None:
        """Says that something was committed; callable from any thread."""
        self._woken.set()

    async def wait_until_mirrored(self, *, synced: bool = False, limit: float = 30.0) -> None:
        """Returns when all that was committed before the call is in the files (and, if asked for, safe on the disk).

        Raises `TimeoutError` after `limit` seconds, which a failing disk leads to; `state` says why.
        """
        deadline = time.monotonic() + limit
        while True:
            try:
                return await self._command(lambda connection: self._pass(connection, sync=synced))
            except (OSError, sqlite3.Error):
                if time.monotonic() > deadline:
                    raise TimeoutError from None
                await asyncio.sleep(0.05)

    async def remove(self, session_id: str) -> None:
        """Removes the files of a session that is marked as deleted. Raises `OSError`."""
        await self._command(lambda connection: self._remove(connection, session_id))

    async def rewrite(self, session_id: str | None = None) -> int:
        """Makes the files of a session, or all files, anew from the rows; returns how many. Raises `OSError`."""
        return await self._command(lambda connection: self._rewrite(connection, session_id))

    async def _command(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if not self._thread.is_alive() or self._stopping.is_set():
            raise StorageClosed
        done: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._commands.append((work, done))
        self._woken.set()
        return await asyncio.wrap_future(done)

    def _work(self) -> None:
        connection = open_reading(self._location.database)
        try:
            while True:
                self._turn(connection)
                self._run_commands(connection)
                if self._stopping.is_set():
                    break
                self._stopping.wait(RETRY if self.state.status == "failing" and not self._commands else GATHER)
                if self.state.status != "failing":
                    self._woken.wait(SYNC_SECONDS if self._files.dirty else None)
                self._woken.clear()
            self._turn(connection, sync=True)
        finally:
            self._files.forget()
            connection.close()
            self._show("closed")
            self._refuse_commands()

    def _turn(self, connection: sqlite3.Connection, *, sync: bool = False) -> None:
        with contextlib.suppress(OSError, sqlite3.Error, AgentError, concurrent.futures.TimeoutError):
            self._pass(connection, sync=sync)

    def _pass(self, connection: sqlite3.Connection, *, sync: bool = False) -> None:
        """Writes what is missing, and syncs when it is time; a fault is shown in `state` and raised."""
        try:
            if not self._repaired:
                self._repair(connection)
            self._catch_up(connection)
            due = time.monotonic() - self._last_sync >= SYNC_SECONDS
            if sync or (due and self._files.dirty) or self._files.unsynced_bytes >= SYNC_BYTES:
                self._sync(connection)
        except (OSError, sqlite3.Error, AgentError, concurrent.futures.TimeoutError) as error:
            self._show("failing", _name(error))
            raise
        self._show("ok")

    def _repair(self, connection: sqlite3.Connection) -> None:
        """Start-up: writes again what was not synced, then cuts or completes files to their committed length."""
        row = connection.execute("SELECT synced_id FROM mirror").fetchone()
        self._mirrored_id = self._synced_id = row[0] if row else 0
        connection.execute("BEGIN")  # rows and lengths of the same moment
        try:
            again: dict[tuple[int, int], int] = {  # by session and month: where what was not synced begins
                (n, month): offset for n, month, offset in connection.execute(_UNSYNCED, (self._synced_id,))
            }
            files = connection.execute(_FILES, (CHECKED_FILES,)).fetchall()
            names = [log_name(session_id, month) for _, session_id, month, _ in files]
            sizes = [_size(self._location.history / name) for name in names]
            self._write_rows(connection)  # no fresh lines: they may be of a later moment
            for (n, _, month, length), name, size in zip(files, names, sizes, strict=True):
                begin = again.get((n, month))
                if size > length:
                    self._files.cut_aside(name, length)
                elif size < (length if begin is None else begin):  # as it was: what came behind a gap hides it
                    self._write_file(connection, n, month, name)
        finally:
            connection.execute("ROLLBACK")
        self._sync(connection)
        self._repaired = True

    def _catch_up(self, connection: sqlite3.Connection) -> None:
        pieces, end = self._fresh.take(self._mirrored_id)
        self._write_pieces(pieces)
        self._mirrored_id = end
        self._write_rows(connection)

    def _write_rows(self, connection: sqlite3.Connection) -> None:
        """Writes the lines of all rows behind those that are in the files."""
        while True:
            (end,) = connection.execute(_BATCH_END, (self._mirrored_id, BATCH_ROWS, BATCH_BYTES)).fetchone()
            if end is None:
                return
            heads, lines = connection.execute(_BATCH, (self._mirrored_id, end)).fetchone()
            self._write_pieces(_pieces(orjson.loads(heads), lines))
            self._mirrored_id = end
            if self._files.unsynced_bytes >= SYNC_BYTES and self._repaired:
                self._sync(connection)

    def _write_pieces(self, pieces: Iterable[Piece]) -> None:
        """Writes the pieces as one for each file, as far as they follow one another there."""
        joined: dict[str, tuple[int, list[bytes], int]] = {}
        for session_id, month, offset, _, data in pieces:
            name = log_name(session_id, month)
            first, parts, end = joined.get(name, (offset, [], offset))
            if end != offset:
                self._files.write(name, b"".join(parts), first)
                first, parts = offset, []
            parts.append(data)
            joined[name] = (first, parts, offset + len(data))
        for name, (first, parts, _) in joined.items():
            self._files.write(name, b"".join(parts), first)

    def _sync(self, connection: sqlite3.Connection) -> None:
        reached = self._mirrored_id
        try:
            gone = self._files.sync()
        except OSError:
            self._files.forget()
            self._mirrored_id = self._synced_id
            raise
        if gone:
            self._restore_removed(connection, gone)
        if reached != self._synced_id:
            self._advance(reached)
        self._synced_id = reached
        self._last_sync = time.monotonic()

    def _restore_removed(self, connection: sqlite3.Connection, gone: list[Path]) -> None:
        """Writes files again that somebody has removed while they were open here."""
        for path in gone:
            row = connection.execute(
                "SELECT n FROM sessions WHERE session_id = ? AND deleted_at IS NULL", (path.stem,)
            ).fetchone()
            if row is not None:
                month = int(path.parent.name)
                self._write_file(connection, row[0], month, log_name(path.stem, month))
        self._files.sync()

    def _write_file(self, connection: sqlite3.Connection, n: int, month: int, name: str) -> None:
        """Writes the lines of a month that the mirror has passed; the others are still to come."""
        rows = connection.execute(
            "SELECT offset, line FROM records WHERE session_n = ? AND month = ? AND id <= ? ORDER BY seq",
            (n, month, self._mirrored_id),
        )
        end = 0
        for offset, line in rows:
            self._files.write(name, line, offset)
            end = offset + len(line)
        self._files.cut(name, end)

    def _remove(self, connection: sqlite3.Connection, session_id: str) -> None:
        self._fresh.take(self._mirrored_id)  # lines of the session may be among them; rows of others are read instead
        alive = connection.execute(
            "SELECT 1 FROM sessions WHERE session_id = ? AND deleted_at IS NULL", (session_id,)
        ).fetchone()
        if alive is None:  # otherwise the id has been given again, and these are the new session's files
            self._files.remove(session_id)

    def _rewrite(self, connection: sqlite3.Connection, session_id: str | None) -> int:
        self._pass(connection)
        rows = connection.execute(
            "SELECT s.n, s.session_id, f.month FROM log_files f JOIN sessions s ON s.n = f.session_n"
            " WHERE s.deleted_at IS NULL AND (?1 IS NULL OR s.session_id = ?1)",
            (session_id,),
        ).fetchall()
        for n, name, month in rows:
            self._write_file(connection, n, month, log_name(name, month))
        self._sync(connection)
        return len(rows)

    def _run_commands(self, connection: sqlite3.Connection) -> None:
        while self._commands:
            work, done = self._commands.popleft()
            if not done.set_running_or_notify_cancel():
                continue
            try:
                done.set_result(work(connection))
            except Exception as error:  # noqa: BLE001 - it belongs to whoever asked
                done.set_exception(error)

    def _refuse_commands(self) -> None:
        while self._commands:
            _, done = self._commands.popleft()
            if done.set_running_or_notify_cancel():
                done.set_exception(StorageClosed())

    def _show(self, status: Literal["ok", "failing", "closed"], error: str | None = None) -> None:
        self.state = MirrorState(status, error, self._mirrored_id, self._synced_id)


def _pieces(heads: Sequence[tuple[str, int, int, int]], lines: bytes) -> Iterator[Piece]:
    """Each line with its place: `heads` are session, month, offset and length."""
    start = 0
    for session_id, month, offset, length in heads:
        end = start + length
        yield Piece(session_id, month, offset, 1, lines[start:end])
        start = end


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else -1


def _name(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return errno.errorcode.get(error.errno, str(error.errno))
    return type(error).__name__
