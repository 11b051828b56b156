import sqlite3

import pytest

from modular_agent.events import Record, RecordType
from modular_agent.lifecycle import RunStatus
from modular_agent.storage.database import Database
from modular_agent.storage.errors import SessionBusy, SessionUnknown
from modular_agent.storage.models import log_items, metadata
from modular_agent.storage.repositories.run_steps import transition_run
from modular_agent.storage.repositories.sessions import SessionRepository, mark_deleted
from modular_agent.storage.unit_of_work import UnitOfWork


def saying(session, count=1):
    unit: UnitOfWork[None] = UnitOfWork()
    for n in range(count):
        unit.record(session, Record(record_type=RecordType.LOG, fields={"n": n}))
    return unit


@pytest.fixture
async def session(database, make_session):
    ref = await make_session("doomed")
    unit = saying(ref, 1_200)
    for n in range(600):
        unit.insert(log_items, (ref.n, "one", n, b"x"))
    await database.log.append(unit)
    await database.mirror.wait_until_mirrored(synced=True)
    return ref


async def left(database, session):
    tables = [table.name for table in metadata.sorted_tables if "session_n" in table.columns]
    counts = [f"SELECT '{table}' AS t, count(*) AS c FROM {table} WHERE session_n = {session.n}" for table in tables]
    rows = await database.readers.query(f"SELECT t FROM ({' UNION ALL '.join(counts)}) WHERE c > 0")
    return [row[0] for row in rows]


async def test_a_deleted_session_leaves_neither_rows_nor_files(database, session, make_session):
    other = await make_session("other")
    await database.log.append(saying(other))
    assert await left(database, session) == ["log_files", "log_items", "records"]
    await database.removal.delete(session)
    assert await left(database, session) == []
    assert await SessionRepository(database.readers).get("doomed") is None
    await database.mirror.wait_until_mirrored()
    assert [path.stem for path in database.location.history.glob("*/*")] == ["other"]
    await database.removal.delete(session)


async def test_a_session_is_not_deleted_under_its_run(database, session, make_run):
    run = await make_run(session)
    with pytest.raises(SessionBusy) as refused:
        await database.removal.delete(session)
    assert refused.value.run_id == run.run_id
    assert await database.records.count(session) == 1_200
    await database.writer.commit(UnitOfWork(then=transition_run(run.run_id, RunStatus.COMPLETED, now_us=1)))
    await database.removal.delete(session)


async def test_nothing_is_appended_to_a_session_that_is_being_deleted(database, session):
    await database.writer.commit(UnitOfWork(then=mark_deleted(session, now_us=1), forgets={session.n}))
    with pytest.raises(SessionUnknown):
        await database.log.append(saying(session))
    assert await SessionRepository(database.readers).ref("doomed") is None


async def test_a_deletion_that_a_crash_cut_short_is_ended_at_the_next_start(database, session, tmp_path):
    await database.writer.commit(UnitOfWork(then=mark_deleted(session, now_us=1), forgets={session.n}))

    def half(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM records WHERE session_n = ? AND seq < 700", (session.n,))

    await database.writer.commit(UnitOfWork(then=half))
    target = tmp_path / "after the crash"
    target.mkdir()
    await database.readers.query("SELECT 1")
    await database.writer.exclusive(
        lambda connection: connection.execute("VACUUM INTO ?", (str(target / "modular_agent.db"),)).fetchall()
    )
    database.location.history.rename(target / "history")
    async with Database.open(target) as restarted:
        assert await left(restarted, session) == []
        assert await SessionRepository(restarted.readers).being_deleted() == []
        assert list((target / "history").glob("*/*")) == []


async def test_an_id_given_again_keeps_its_files(database, session, make_session):
    await database.removal.delete(session)
    again = await make_session("doomed")
    await database.log.append(saying(again))
    await database.mirror.wait_until_mirrored()
    await database.removal.delete(session)
    await database.mirror.remove("doomed")
    assert len(list(database.location.history.glob("*/doomed.jsonl"))) == 1
    assert await database.records.count(again) == 1
