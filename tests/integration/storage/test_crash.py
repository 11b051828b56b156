"""A process that is killed loses nothing that it was told is durable, and the files are repaired."""

import random
import signal
import sqlite3
import time
from pathlib import Path

import orjson

from modular_agent.storage.database import Database
from modular_agent.storage.repositories.sessions import SessionRepository

ROUNDS = 10


def spoil_unsynced(data: Path, dice: random.Random) -> None:
    """Does to the files what a power cut may do: takes bytes that were not synced, leaves garbage behind the end."""
    connection = sqlite3.connect(data / "modular_agent.db")
    synced = connection.execute("SELECT coalesce(max(synced_id), 0) FROM mirror").fetchone()[0]
    for path in (data / "history").glob("*/*.jsonl"):
        safe = connection.execute(
            "SELECT coalesce(max(offset + length), 0) FROM records r JOIN sessions s ON s.n = r.session_n"
            " WHERE id <= ? AND session_id = ? AND month = ?",
            (synced, path.stem, int(path.parent.name)),
        ).fetchone()[0]
        content = path.read_bytes()
        kept = dice.randint(min(safe, len(content)), len(content))
        garbage = dice.choice([b"", b"\0" * 700, b'{"seq":1,"torn', b"x\n" * 9])
        path.write_bytes(content[:kept] + garbage)
    connection.close()


async def check(data: Path, acknowledged: dict[str, int]) -> None:
    async with Database.open(data) as database:
        await database.mirror.wait_until_mirrored(synced=True)
        assert (await database.files.verify()).damages == []
        sessions = SessionRepository(database.readers)
        for session_id, seq in acknowledged.items():
            row = await sessions.get(session_id)
            assert row is not None
            assert row.last_seq == row.messages >= seq
            lines = []
            for path in sorted(database.location.history.glob(f"*/{session_id}.jsonl")):
                lines += path.read_bytes().splitlines(keepends=True)
            assert [orjson.loads(line)["seq"] for line in lines] == list(range(1, row.last_seq + 1))
            stored = await database.records.after(row.ref, seq=0, limit=1_000_000)
            assert [record.line for record in stored] == lines


async def test_kill_9_at_random_moments(tmp_path: Path, start_writer):
    dice = random.Random(7)
    acknowledged: dict[str, int] = {}
    for _ in range(ROUNDS):
        process = start_writer(tmp_path)
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(dice.random() * 0.2)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for line in [first, *process.stdout]:
            parts = line.split()
            if line.endswith("\n") and len(parts) == 2:
                acknowledged[parts[0]] = max(acknowledged.get(parts[0], 0), int(parts[1]))
        spoil_unsynced(tmp_path, dice)
        await check(tmp_path, acknowledged)
    assert len(acknowledged) == 4
    assert min(acknowledged.values()) > ROUNDS
