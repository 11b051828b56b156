"""How many steps a second the storage commits, compared with plain sqlite3 in the same run: trust the ratios.

A step is a checkpoint of 2 kB, three checkpoint writes, five records of 500 bytes, a model call, the run's fence and
the session's counters. `uv run python benchmarks/storage.py [SECONDS]`
"""

import asyncio
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from modular_agent.events import Record, RecordType, SessionRef
from modular_agent.lifecycle import RunStatus
from modular_agent.storage.connections import open_writing
from modular_agent.storage.database import Database
from modular_agent.storage.migrations import upgrade
from modular_agent.storage.models import log_files, metadata, records
from modular_agent.storage.repositories.checkpoints import CheckpointRow, WriteRow, put_checkpoint, put_writes
from modular_agent.storage.repositories.llm_calls import LlmCallRow, put_llm_call
from modular_agent.storage.repositories.run_steps import create_run
from modular_agent.storage.repositories.runs import NewRun
from modular_agent.storage.repositories.sessions import NewSession, create_session
from modular_agent.storage.sql import marks
from modular_agent.storage.unit_of_work import Counters, Fence, UnitOfWork, in_order

SESSIONS = 200


def step(session: SessionRef, number: int) -> UnitOfWork[None]:
    unit: UnitOfWork[None] = UnitOfWork(fences=[Fence(f"run-{session.n}", 1)])
    name = f"{number:012}"
    run = f"run-{session.n}"
    put_checkpoint(
        unit, CheckpointRow(session.n, "", name, None, None, run, 1, "loop", 1, None, "m", b"c" * 2_000, b"{}")
    )
    rows = [WriteRow(session.n, "", name, "t", idx, "", "messages", "m", b"v" * 100) for idx in range(3)]
    put_writes(unit, rows, replace=False)
    for _ in range(5):
        fields = {"message_type": "assistant", "content": "x" * 250}
        unit.record(session, Record(record_type=RecordType.MESSAGE, fields=fields, run_id=run, node="think"))
    put_llm_call(
        unit,
        LlmCallRow(
            *(f"{session.n}-{name}", session.n, run, 1, "react", "think", "openai", "m", 1, 1),
            *(10, 5, 0, 0, 0, 100, "list", None),
        ),
    )
    unit.count(session, Counters(messages=5, prompt_tokens=10, completion_tokens=5, cost_nano=100))
    return unit


def setting_up(n: int) -> UnitOfWork[object]:
    new = NewSession(session_id=f"s-{n}", workflow_id="w", workflow_version="h", workflow_config_path="p", now_us=1)
    run = NewRun(run_id=f"run-{n}", session=SessionRef(n, f"s-{n}"), now_us=1, status=RunStatus.RUNNING)
    return UnitOfWork(then=in_order(create_session(new), create_run(run)))


async def ours(folder: Path, *, writers: int, seconds: float) -> tuple[float, float, float]:
    """Steps per second, mean units in a group, CPU microseconds per step."""
    async with Database.open(folder) as database:
        for n in range(1, SESSIONS + 1):
            await database.writer.commit(setting_up(n))
        done = 0
        end = time.perf_counter() + seconds

        async def write(which: int) -> None:
            nonlocal done
            number = which
            while time.perf_counter() < end:
                session = SessionRef(number % SESSIONS + 1, f"s-{number % SESSIONS + 1}")
                await database.log.append(step(session, number))
                number += writers
                done += 1

        groups, units, cpu = database.writer.groups, database.writer.units, time.process_time()
        start = time.perf_counter()
        await asyncio.gather(*[write(n) for n in range(writers)])
        elapsed, cpu = time.perf_counter() - start, time.process_time() - cpu
        size = (database.writer.units - units) / (database.writer.groups - groups)
        return done / elapsed, size, cpu / done * 1e6


def plain(folder: Path, *, group: int, seconds: float) -> float:
    """Steps per second of the same rows, each by its own statement, in transactions of `group` steps."""
    connection = open_writing(folder / "plain.db")
    upgrade(connection)
    for n in range(1, SESSIONS + 1):
        setting_up(n).then(connection)  # pyright: ignore[reportOptionalCall]
    inserts: dict[str, str] = {
        table.name: f"INSERT INTO {table.name} VALUES ({marks(len(table.columns))})" for table in metadata.sorted_tables
    }
    number = 0
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        connection.execute("BEGIN IMMEDIATE")
        for _ in range(group):
            plain_step(connection.execute, inserts, number)
            number += 1
        connection.execute("COMMIT")
        if number % 256 == 0:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
    elapsed = time.perf_counter() - start
    connection.close()
    return number / elapsed


def plain_step(execute: Callable[..., object], inserts: dict[str, str], number: int) -> None:
    session = SessionRef(number % SESSIONS + 1, f"s-{number % SESSIONS + 1}")
    unit = step(session, number)
    execute("UPDATE runs SET epoch = epoch WHERE run_id = ? AND epoch = ?", unit.fences[0])
    for (table, _), rows in unit.rows.items():
        for row in rows:
            execute(inserts[table.name], row)
    for seq, (_, record) in enumerate(unit.records, number * 5):
        line = record.encode(session.session_id)
        values = (None, session.n, seq, 1, record.record_type, record.record_id, record.run_id, record.node)
        execute(inserts[records.name], (*values, 202610, 0, len(line), line))
    execute(f"INSERT OR REPLACE INTO {log_files.name} VALUES (?, ?, ?)", (session.n, 202610, number))
    execute("UPDATE sessions SET messages = messages + 5, updated_at = ? WHERE n = ?", (number, session.n))


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
    print(f"SQLite {sqlite3.sqlite_version}, {seconds} s each")
    for writers in (1, 10, 50, 200):
        with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
            rate, size, cpu = asyncio.run(ours(Path(first), writers=writers, seconds=seconds))
            base = plain(Path(second), group=writers, seconds=seconds)
        print(
            f"{writers:4} writers: {rate:7,.0f} steps/s in groups of {size:5.1f}, {cpu:4.0f} us CPU a step (mirror"
            f" included); plain sqlite3 in groups of {writers}: {base:7,.0f} steps/s; ratio {rate / base:.2f}"
        )


if __name__ == "__main__":
    main()
