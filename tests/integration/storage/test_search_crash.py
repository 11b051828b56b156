"""A process that writes and indexes is killed at any moment; the next one finds everything, once."""

import asyncio
import random
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from modular_agent.storage.database import Database
from modular_agent.storage.search_files import month_files
from modular_agent.storage.search_query import SearchFilter

WRITER = """
import asyncio, sys
from pathlib import Path
from modular_agent.events import Record, RecordType
from modular_agent.storage.database import Database
from modular_agent.storage.errors import SessionIdTaken
from modular_agent.storage.repositories.sessions import NewSession, SessionRepository, create_session
from modular_agent.storage.unit_of_work import UnitOfWork

class Moving:
    now = 1_792_000_000_000_000 + int(sys.argv[2]) * 10 * 86_400_000_000
    def now_us(self):
        self.now += 3_600_000_000
        return self.now
    def monotonic(self):
        return 0.0

async def main():
    async with Database.open(Path(sys.argv[1]), clock=Moving()) as database:
        name = f"s-{sys.argv[2]}"
        new = NewSession(session_id=name, workflow_id="w", workflow_version="v", workflow_config_path="p", now_us=1)
        session = (await database.writer.commit(UnitOfWork(then=create_session(new)))).result
        other = NewSession(
            session_id=name + "x", workflow_id="w", workflow_version="v", workflow_config_path="p", now_us=1
        )
        doomed = (await database.writer.commit(UnitOfWork(then=create_session(other)))).result
        print("ready", flush=True)
        for number in range(100_000):
            unit = UnitOfWork()
            for ref in (session, doomed):
                unit.record(ref, Record(record_type=RecordType.MESSAGE, fields={"content": f"text {number} 天气"}))
            await database.log.append(unit)
            if number % 20 == 0:
                await database.search.wait_until_indexed()
            if number == 60:
                removal = asyncio.create_task(database.removal.delete(doomed))
                doomed = session

asyncio.run(main())
"""


@pytest.mark.parametrize("seed", range(4))
async def test_after_a_kill_the_index_is_what_a_scan_finds(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    for round_ in range(2):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", WRITER, str(tmp_path), str(round_)), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 30) == b"ready\n"
        await asyncio.sleep(rng.uniform(0.01, 0.4))
        process.kill()
        await process.wait()
    async with Database.open(tmp_path) as database:
        tail = await ids(database)
        await database.search.wait_until_indexed()
        rows = await database.readers.query("SELECT id FROM records ORDER BY month DESC, id DESC")
        assert await ids(database) == tail == [row[0] for row in rows]
        assert entries(database) == sorted(tail)


async def ids(database: Database) -> list[int]:
    found: list[int] = []
    after = None
    while True:
        page = await database.search.search("天气", SearchFilter(), limit=100, after=after)
        found += [hit.place.record for hit in page.hits]
        if page.after is None:
            return found
        after = page.after


def entries(database: Database) -> list[int]:
    """What the files themselves hold."""
    found: list[int] = []
    for path in month_files(database.location.index).values():
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            found += [row[0] for row in connection.execute("SELECT rowid FROM grams WHERE grams MATCH '\"天气\"'")]
    return sorted(found)
