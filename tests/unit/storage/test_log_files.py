import orjson
import pytest

from modular_agent.events import Record, RecordType
from modular_agent.storage.database import Database
from modular_agent.storage.mirror_files import log_path
from modular_agent.storage.unit_of_work import UnitOfWork


@pytest.fixture
async def session(database, make_session, clock):
    ref = await make_session("react-261014-120000-abcdef")
    for month_end in (1_793_491_199_000_000, 1_793_491_200_000_000):
        clock.now = month_end
        unit: UnitOfWork[None] = UnitOfWork()
        for n in range(5):
            unit.record(ref, Record(record_type=RecordType.MESSAGE, fields={"content": f"消息 {n}"}))
        await database.log.append(unit)
    await database.mirror.wait_until_mirrored(synced=True)
    return ref


@pytest.fixture
def path(database, session):
    return log_path(database.location.history, session.session_id, 202610)


async def test_the_files_hold_the_lines_of_the_records(database, session, path):
    lines = [record.line for record in await database.records.after(session, seq=0, limit=100)]
    assert path.read_bytes() == b"".join(lines[:5])
    assert log_path(database.location.history, session.session_id, 202611).read_bytes() == b"".join(lines[5:])
    assert [orjson.loads(line)["seq"] for line in path.read_bytes().splitlines()] == [1, 2, 3, 4, 5]


async def test_sound_files_verify(database, session):
    found = await database.files.verify()
    assert (found.files, found.lines, found.damages) == (2, 10, [])


async def test_every_kind_of_damage_is_reported_with_its_place_and_mended(database, session, path):
    sound = path.read_bytes()
    third = sound.index(b'{"seq":3')
    for damaged, kind, offset, line in (
        (sound[: third + 20] + b"#" + sound[third + 21 :], "differs", third, 3),
        (sound[: third + 20], "short_file", third + 20, 3),
        (sound + b"more\n", "extra_bytes", len(sound), None),
        (None, "missing_file", 0, None),
    ):
        if damaged is None:
            path.unlink()
        else:
            path.write_bytes(damaged)
        (damage,) = (await database.files.verify(session.session_id)).damages
        assert (damage.kind, damage.offset, damage.line) == (kind, offset, line)
        assert str(damage).startswith(f"202610/{session.session_id}.jsonl")
        if damaged is None:
            await database.mirror.wait_until_mirrored(synced=True)
        assert await database.files.rewrite(session.session_id) == 2
        await database.mirror.wait_until_mirrored(synced=True)
        assert path.read_bytes() == sound


async def test_a_file_without_a_session_is_reported(database, session, path):
    path.with_name("nobody.jsonl").write_bytes(b"{}\n")
    assert [(d.kind, d.path) for d in (await database.files.verify()).damages] == [
        ("orphan_file", "202610/nobody.jsonl")
    ]


async def test_records_are_rebuilt_from_the_files_alone(database, session, path, tmp_path):
    before = await database.records.after(session, seq=0, limit=100)
    await database.mirror.wait_until_mirrored(synced=True)
    (tmp_path / "fresh").mkdir()
    database.location.history.rename(tmp_path / "fresh" / "history")
    async with Database.open(tmp_path / "fresh") as fresh:
        done = await fresh.files.rebuild_records()
        assert (done.sessions, done.records, done.damages) == (1, 10, [])
        rebuilt = await fresh.records.after(session, seq=0, limit=100)
        assert rebuilt == before
        assert (await fresh.files.rebuild_records()).records == 0
        assert (await fresh.files.verify()).damages == []
        rows = await fresh.readers.query("SELECT workflow_id, last_seq, messages FROM sessions")
        assert rows == [("react", 10, 10)]
        unit: UnitOfWork[None] = UnitOfWork()
        unit.record(session, Record(record_type=RecordType.LOG, fields={}))
        assert (await fresh.log.append(unit)).records[0].seq == 11


async def test_a_damaged_line_is_reported_and_the_others_are_rebuilt(database, session, path, tmp_path):
    lines = path.read_bytes().splitlines(keepends=True)
    history = tmp_path / "fresh" / "history"
    (history / "202610").mkdir(parents=True)
    damaged = b"".join([lines[0], b"garbage\n", *lines[2:], b'{"seq":6,"torn'])
    (history / "202610" / path.name).write_bytes(damaged)
    async with Database.open(tmp_path / "fresh") as fresh:
        done = await fresh.files.rebuild_records()
        assert done.records == 4
        assert [(d.kind, d.line) for d in done.damages] == [("invalid", 2), ("gap", 3), ("torn", 6)]
        assert done.damages[0].offset == len(lines[0])
