"""The files follow the rows, through full disks and failing syncs, and nobody waits for them."""

import asyncio
import errno
import os
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from modular_agent.events import Record, RecordType, SessionRef
from modular_agent.storage.database import Database
from modular_agent.storage.mirror_files import FileOperations, log_path
from modular_agent.storage.repositories.sessions import NewSession, create_session
from modular_agent.storage.unit_of_work import UnitOfWork


class Disk(FileOperations):
    """The real disk, which fails while it is told to; `partial` takes only so many bytes of a write."""

    def __init__(self) -> None:
        self.fail_write = 0
        self.fail_sync = 0
        self.partial = 0
        self.syncs = 0

    def pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        if self.fail_write:
            raise OSError(self.fail_write, os.strerror(self.fail_write))
        return super().pwrite(descriptor, data[: self.partial] if self.partial else data, offset)

    def sync(self, descriptor: int) -> None:
        self.syncs += 1
        if self.fail_sync:
            raise OSError(self.fail_sync, os.strerror(self.fail_sync))
        super().sync(descriptor)


async def new_session(database: Database, session_id: str = "s") -> SessionRef:
    new = NewSession(session_id=session_id, workflow_id="w", workflow_version="h", workflow_config_path="p", now_us=1)
    made = (await database.writer.commit(UnitOfWork(then=create_session(new)))).result
    assert made is not None
    return made


async def say(database: Database, session: SessionRef, *, size: int = 10, count: int = 1) -> None:
    unit: UnitOfWork[None] = UnitOfWork()
    for _ in range(count):
        unit.record(session, Record(record_type=RecordType.MESSAGE, fields={"content": "x" * size}))
    await database.log.append(unit)


async def until(condition, *, limit: float = 10.0) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


async def contents(database: Database, session: SessionRef) -> tuple[bytes, bytes]:
    """What the files hold, and what the rows hold."""
    paths = sorted(database.location.history.glob(f"*/{session.session_id}.jsonl"))
    records = await database.records.after(session, seq=0, limit=100_000)
    return b"".join(path.read_bytes() for path in paths), b"".join(record.line for record in records)


async def test_files_are_a_quarter_of_a_second_behind_at_most(tmp_path: Path):
    async with Database.open(tmp_path) as database:
        session = await new_session(database)
        delays = []
        for _ in range(10):
            await say(database, session)
            start = time.monotonic()
            _, rows = await contents(database, session)
            await until(
                lambda rows=rows: any(p.stat().st_size == len(rows) for p in tmp_path.glob("history/*/s.jsonl"))
            )
            delays.append(time.monotonic() - start)
        assert sorted(delays)[5] < 0.25


async def test_a_write_that_takes_a_part_is_continued(tmp_path: Path):
    disk = Disk()
    disk.partial = 7
    async with Database.open(tmp_path, operations=disk) as database:
        session = await new_session(database)
        await say(database, session, count=20)
        await database.mirror.wait_until_mirrored()
        files, rows = await contents(database, session)
        assert files == rows


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
async def test_a_failing_disk_stops_the_mirror_only_and_is_tried_again(tmp_path: Path, code: int):
    disk = Disk()
    async with Database.open(tmp_path, operations=disk) as database:
        session = await new_session(database)
        await say(database, session)
        await database.mirror.wait_until_mirrored()
        assert database.mirror.state.status == "ok"
        disk.fail_write = code
        await say(database, session)
        await until(lambda: database.mirror.state.status == "failing")
        assert database.mirror.state.error == errno.errorcode[code]
        await say(database, session)
        assert await database.records.count(session) == 3
        with pytest.raises(TimeoutError):
            await database.mirror.wait_until_mirrored(limit=0)
        disk.fail_write = 0
        await until(lambda: database.mirror.state.status == "ok")
        files, rows = await contents(database, session)
        assert files == rows


async def test_after_a_failed_sync_everything_unsynced_is_written_again(tmp_path: Path):
    disk = Disk()
    async with Database.open(tmp_path, operations=disk) as database:
        session = await new_session(database)
        await say(database, session, count=3)
        await database.mirror.wait_until_mirrored(synced=True)
        synced = database.mirror.state.synced_id
        disk.fail_sync = errno.EIO
        await say(database, session, count=3)
        with pytest.raises(TimeoutError):
            await database.mirror.wait_until_mirrored(synced=True, limit=0)
        assert database.mirror.state.synced_id == database.mirror.state.mirrored_id == synced
        (path,) = tmp_path.glob("history/*/s.jsonl")
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] + b"\0" * (len(content) - len(content) // 2))  # lost pages
        disk.fail_sync = 0
        await database.mirror.wait_until_mirrored(synced=True)
        files, rows = await contents(database, session)
        assert files == rows


async def test_what_was_written_is_synced_within_seconds_and_at_the_end(tmp_path: Path):
    disk = Disk()
    async with Database.open(tmp_path, operations=disk) as database:
        session = await new_session(database)
        await say(database, session)
        await until(lambda: database.mirror.state.synced_id == 1)
        await say(database, session)
    async with Database.open(tmp_path) as database:
        assert await database.readers.query("SELECT synced_id FROM mirror") == [(2,)]


async def test_start_up_mends_files_that_were_cut_lengthened_or_lost(tmp_path: Path):
    async with Database.open(tmp_path) as database:
        sessions = [await new_session(database, f"s-{n}") for n in range(3)]
        for session in sessions:
            await say(database, session, count=10)
    paths = {path.stem: path for path in tmp_path.glob("history/*/*.jsonl")}
    sound = paths["s-0"].read_bytes()
    paths["s-0"].write_bytes(sound[:-25])
    with paths["s-1"].open("ab") as file:
        file.write(b'{"seq":11}\ngarbage')
    paths["s-2"].unlink()
    async with Database.open(tmp_path) as database:
        await database.mirror.wait_until_mirrored(synced=True)
        assert (await database.files.verify()).damages == []
    assert paths["s-0"].read_bytes() == sound
    assert paths["s-1"].with_name("s-1.jsonl.cut").read_bytes() == b'{"seq":11}\ngarbage'


async def test_a_file_cut_short_before_what_is_written_again_has_no_gap(tmp_path: Path):
    async with Database.open(tmp_path) as database:
        session = await new_session(database)
        await say(database, session, count=5)
    with sqlite3.connect(tmp_path / "modular_agent.db") as connection:  # as if killed before the last sync
        connection.execute("UPDATE mirror SET synced_id = (SELECT max(id) - 2 FROM records)")
    connection.close()
    (path,) = (tmp_path / "history").glob("*/s.jsonl")
    os.truncate(path, path.stat().st_size // 3)  # torn further back than what will be written again
    async with Database.open(tmp_path) as database:
        await until(lambda: database.mirror.state.status == "ok")
        files, rows = await contents(database, session)
        assert files == rows


async def test_a_file_removed_while_it_is_written_comes_back(tmp_path: Path):
    async with Database.open(tmp_path) as database:
        session = await new_session(database)
        await say(database, session, count=3)
        await database.mirror.wait_until_mirrored()
        next(tmp_path.glob("history/*/s.jsonl")).unlink()
        await say(database, session, count=3)
        await database.mirror.wait_until_mirrored(synced=True)
        files, rows = await contents(database, session)
        assert files == rows


async def test_more_files_than_descriptors(tmp_path: Path):
    async with Database.open(tmp_path) as database:
        sessions = [await new_session(database, f"s-{n}") for n in range(300)]
        for _ in range(2):
            await asyncio.gather(*[say(database, session) for session in sessions])
            await database.mirror.wait_until_mirrored()
        await database.mirror.wait_until_mirrored(synced=True)
        found = await database.files.verify()
        assert (found.files, found.lines, found.damages) == (300, 600, [])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A data path whose log folder is a disk of 256 kB."""
    history = tmp_path / "history"
    history.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(history)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small disk needs privileges")
    yield tmp_path
    subprocess.run(["umount", "-l", str(history)], check=True)


async def test_a_real_full_disk(small_disk: Path):
    async with Database.open(small_disk) as database:
        session = await new_session(database)
        ballast = small_disk / "history" / "ballast"
        ballast.write_bytes(b"x" * 200_000)
        await say(database, session, size=10_000, count=20)
        await until(lambda: database.mirror.state.status == "failing")
        assert database.mirror.state.error == "ENOSPC"
        await say(database, session)
        assert await database.records.count(session) == 21
        ballast.unlink()
        await until(lambda: database.mirror.state.status == "ok")
        files, rows = await contents(database, session)
        assert files == rows
        assert log_path(database.location.history, "s", 1).name == "s.jsonl"
