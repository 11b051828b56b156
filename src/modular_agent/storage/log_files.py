"""The log files as a whole: verify them against the rows, make them anew from the rows, or the rows from them."""

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path

from modular_agent.events import SessionRef
from modular_agent.kit.clock import Clock
from modular_agent.kit.dataclass import dataclass
from modular_agent.storage.location import Location
from modular_agent.storage.log_reading import Damage, LogLine, read_log
from modular_agent.storage.mirror import Mirror
from modular_agent.storage.mirror_files import log_path
from modular_agent.storage.readers import Readers
from modular_agent.storage.repositories.sessions import NewSession, create_session
from modular_agent.storage.unit_of_work import UnitOfWork
from modular_agent.storage.writer import Writer

__all__ = ["LogFiles", "Rebuilding", "Verification"]


@dataclass(frozen=True, slots=True)
class Verification:
    """What comparing every file with its rows has found."""

    files: int
    lines: int
    damages: list[Damage]


@dataclass(frozen=True, slots=True)
class Rebuilding:
    """What reading the files into the database has brought: sessions it did not know, records it did not have."""

    sessions: int
    records: int
    damages: list[Damage]


@dataclass(frozen=True, slots=True)
class _FileRow:
    session: SessionRef
    month: int


class LogFiles:
    """Work on the log files; all of it may be done while the database is in use."""

    def __init__(self, location: Location, *, readers: Readers, writer: Writer, mirror: Mirror, clock: Clock) -> None:
        self._history = location.history
        self._readers = readers
        self._writer = writer
        self._mirror = mirror
        self._clock = clock

    async def verify(self, session_id: str | None = None) -> Verification:
        """Compares every byte of a session's files, or of all, with the rows; changes nothing.

        Raises `TimeoutError` while the mirror cannot write.
        """
        await self._mirror.wait_until_mirrored()
        upto = self._mirror.state.mirrored_id
        rows = await self._readers.query(
            "SELECT s.n, s.session_id, f.month FROM log_files f JOIN sessions s ON s.n = f.session_n"
            " WHERE s.deleted_at IS NULL AND (?1 IS NULL OR s.session_id = ?1) ORDER BY f.month, s.n",
            (session_id,),
        )
        files = [_FileRow(SessionRef(n, name), month) for n, name, month in rows]
        lines, damages = 0, list[Damage]()
        for file in files:
            checked, found = await self._readers.run(_verifying(self._history, file, upto))
            lines += checked
            damages += found
        if session_id is None:
            known = {log_path(self._history, file.session.session_id, file.month) for file in files}
            damages += await asyncio.to_thread(_orphans, self._history, known)
        return Verification(len(files), lines, damages)

    async def rewrite(self, session_id: str | None = None) -> int:
        """Makes the files of a session, or all, anew from the rows; returns their number. Raises `OSError`."""
        return await self._mirror.rewrite(session_id)

    async def rebuild_records(self) -> Rebuilding:
        """Reads every line that the database lacks into it; creates sessions that it does not know.

        Such a session has its log and nothing else: status `active`, workflow named as its id begins, and
        `recovered: true` in its metadata. Damaged lines are reported and left out.
        """
        sessions = records = 0
        damages: list[Damage] = []
        for session_id, paths in (await asyncio.to_thread(_by_session, self._history)).items():
            lines, found = await asyncio.to_thread(_read_session, self._history, session_id, paths)
            damages += found
            unit = UnitOfWork(then=_restoring(session_id, lines, self._clock.now_us()))
            created, added = (await self._writer.commit(unit)).result or (False, 0)
            sessions += created
            records += added
        return Rebuilding(sessions, records, damages)


def _verifying(history: Path, file: _FileRow, upto: int) -> Callable[[sqlite3.Connection], tuple[int, list[Damage]]]:
    path = log_path(history, file.session.session_id, file.month)
    name = str(path.relative_to(history))

    def read(connection: sqlite3.Connection) -> tuple[int, list[Damage]]:
        if not path.exists():
            return 0, [Damage(name, "missing_file", 0)]
        size = path.stat().st_size  # before the snapshot of the rows: what is in the file then has been committed
        committed = connection.execute(
            "SELECT length FROM log_files WHERE session_n = ? AND month = ?", (file.session.n, file.month)
        ).fetchone()
        lines, damages = _compare(connection, file, path, name, upto)
        if committed is not None and size > committed[0]:
            damages.append(Damage(name, "extra_bytes", committed[0], detail=f"{size - committed[0]} bytes too many"))
        return lines, damages

    return read


def _compare(
    connection: sqlite3.Connection, file: _FileRow, path: Path, name: str, upto: int
) -> tuple[int, list[Damage]]:
    damages: list[Damage] = []
    number = end = 0
    rows = connection.execute(
        "SELECT seq, offset, line FROM records WHERE session_n = ? AND month = ? AND id <= ? ORDER BY seq",
        (file.session.n, file.month, upto),
    )
    with path.open("rb") as stream:
        for number, (seq, offset, line) in enumerate(rows, 1):
            if offset != end:
                damages.append(Damage(name, "hole", end, number, seq, "bytes that belong to no record"))
            end = offset + len(line)
            stream.seek(offset)
            data = stream.read(len(line))
            if len(data) < len(line):
                damages.append(Damage(name, "short_file", offset + len(data), number, seq))
                break
            if data != line:
                damages.append(Damage(name, "differs", offset, number, seq))
    return number, damages


def _orphans(history: Path, known: set[Path]) -> list[Damage]:
    found = sorted(history.glob("[0-9]*/*.jsonl"))
    return [Damage(str(path.relative_to(history)), "orphan_file", 0) for path in found if path not in known]


def _by_session(history: Path) -> dict[str, list[Path]]:
    grouped: dict[str, list[Path]] = {}
    for path in sorted(history.glob("[0-9][0-9][0-9][0-9][0-9][0-9]/*.jsonl")):
        grouped.setdefault(path.stem, []).append(path)
    return grouped


def _read_session(history: Path, session_id: str, paths: list[Path]) -> tuple[list[tuple[int, LogLine]], list[Damage]]:
    """The session's readable lines with their months, in order, and what is damaged."""
    lines: list[tuple[int, LogLine]] = []
    damages: list[Damage] = []
    last = 0
    for path in paths:
        name = str(path.relative_to(history))
        for number, found in enumerate(read_log(path, name=name, session_id=session_id), 1):
            if isinstance(found, Damage):
                damages.append(found)
                continue
            if found.seq <= last:
                damages.append(Damage(name, "invalid", found.offset, number, found.seq, "seq does not grow"))
                continue
            if found.seq != last + 1:
                detail = f"records {last + 1} to {found.seq - 1} are missing"
                damages.append(Damage(name, "gap", found.offset, number, found.seq, detail))
            last = found.seq
            lines.append((int(path.parent.name), found))
    return lines, damages


def _restoring(
    session_id: str, lines: list[tuple[int, LogLine]], now_us: int
) -> Callable[[sqlite3.Connection], tuple[bool, int]]:
    """The step that inserts the lines whose `seq` the session lacks; its result: was it unknown, how many lines."""

    def step(connection: sqlite3.Connection) -> tuple[bool, int]:
        if not lines:
            return False, 0
        row = connection.execute("SELECT n, deleted_at FROM sessions WHERE session_id = ?", (session_id,)).fetchone()
        if row is not None and row[1] is not None:
            return False, 0
        n = row[0] if row is not None else create_session(_recovered(session_id, lines, now_us))(connection).n
        known = {seq for (seq,) in connection.execute("SELECT seq FROM records WHERE session_n = ?", (n,))}
        missing = [(month, line) for month, line in lines if line.seq not in known]
        _insert(connection, n, missing)
        return row is None, len(missing)

    return step


def _recovered(session_id: str, lines: list[tuple[int, LogLine]], now_us: int) -> NewSession:
    parts = session_id.rsplit("-", 3)
    return NewSession(
        session_id=session_id,
        workflow_id=parts[0] if len(parts) == 4 else "unknown",
        workflow_version="",
        workflow_config_path="",
        now_us=lines[0][1].ts if lines else now_us,
        metadata={"recovered": True},
    )


def _insert(connection: sqlite3.Connection, n: int, missing: list[tuple[int, LogLine]]) -> None:
    connection.executemany(
        "INSERT INTO records (session_n, seq, ts, record_type, record_id, run_id, node, month, offset, length, line)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                *(n, line.seq, line.ts, line.record_type, line.record_id, line.run_id, line.node),
                *(month, line.offset, len(line.line), line.line),
            )
            for month, line in missing
        ],
    )
    connection.executemany(
        "INSERT INTO log_files VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET length = max(length, excluded.length)",
        [(n, month, line.offset + len(line.line)) for month, line in missing],
    )
    counts = dict(
        connection.execute("SELECT record_type, count(*) FROM records WHERE session_n = ? GROUP BY 1", (n,)).fetchall()
    )
    connection.execute(
        "UPDATE sessions SET (last_seq, last_ts) = (SELECT max(seq), max(ts) FROM records WHERE session_n = ?1),"
        " updated_at = max(updated_at, (SELECT max(ts) FROM records WHERE session_n = ?1)),"
        " messages = max(messages, ?2), errors = max(errors, ?3) WHERE n = ?1",
        (n, counts.get("message", 0), counts.get("error", 0)),
    )
