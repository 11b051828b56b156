import pytest

from modular_agent.events import Record, RecordType
from modular_agent.storage.errors import BookmarkUnknown, MessageUnknown, SessionUnknown
from modular_agent.storage.repositories.bookmarks import (
    BookmarkRepository,
    create_bookmark,
    delete_bookmark,
    update_bookmark,
)
from modular_agent.storage.repositories.checkpoint_pruning import prune_checkpoints
from modular_agent.storage.repositories.checkpoints import CheckpointRepository, CheckpointRow, put_checkpoint
from modular_agent.storage.unit_of_work import UnitOfWork


async def said(database, session, text="words"):
    record = Record(record_type=RecordType.MESSAGE, fields={"message_type": "user", "content": text})
    unit: UnitOfWork[None] = UnitOfWork()
    unit.record(session, record)
    return (await database.log.append(unit)).records[0]


async def commit(database, step):
    return (await database.writer.commit(UnitOfWork(then=step))).result


async def mark(database, message, bookmark_id="bkm_1", note="", now_us=5):
    step = create_bookmark(message, bookmark_id=bookmark_id, note=note, now_us=now_us)
    return await commit(database, step)


async def test_bookmarks_belong_to_their_sessions(database, make_session):
    one, two = await make_session("one"), await make_session("two", tenant="else")
    first = await mark(database, await said(database, one), "bkm_1", "a")
    second = await mark(database, await said(database, two), "bkm_2", "b")
    rows = BookmarkRepository(database.readers)
    assert await rows.listed(limit=10) == [second, first]
    assert await rows.listed(limit=1, offset=1) == [first]
    assert await rows.listed(session_n=one.n, limit=10) == [first]
    assert await rows.listed(tenant="else", limit=10) == [second]
    with pytest.raises(BookmarkUnknown):
        await commit(database, update_bookmark("bkm_1", note="x", now_us=9, tenant="else"))
    with pytest.raises(BookmarkUnknown):
        await commit(database, delete_bookmark("bkm_1", tenant="else"))
    changed = await commit(database, update_bookmark("bkm_1", note="x", now_us=9))
    assert (changed.note, changed.created_at, changed.updated_at) == ("x", 5, 9)
    await database.removal.delete(one)
    assert await rows.listed(limit=10) == [second]


async def test_a_message_must_be_there(database, make_session):
    session = await make_session("one")
    message = await said(database, session)
    await database.removal.delete(session)
    with pytest.raises(SessionUnknown):
        await mark(database, message)
    other = await make_session("other")
    unit: UnitOfWork[None] = UnitOfWork()
    unit.record(other, Record(record_type=RecordType.LOG, fields={"message": "x"}))
    log = (await database.log.append(unit)).records[0]
    with pytest.raises(MessageUnknown):
        await mark(database, log)


async def test_retention_keeps_the_checkpoint_behind_a_bookmarked_message(database, make_session, clock):
    session = await make_session("one")
    messages = []
    for number in range(6):
        clock.now += 1_000
        messages.append(await said(database, session))
        clock.now += 1_000
        unit: UnitOfWork[None] = UnitOfWork()
        row = CheckpointRow(
            session.n, "", f"c{number}", None, None, "run", number, "loop", clock.now, None, "m", b"c", b"{}"
        )
        put_checkpoint(unit, row)
        await database.writer.commit(unit)
    await mark(database, messages[2])
    assert await commit(database, prune_checkpoints(session, keep=2)) == 3
    left = await CheckpointRepository(database.readers).summaries(session, limit=10)
    assert [row.checkpoint_id for row in left] == ["c5", "c4", "c2"]
    await commit(database, delete_bookmark("bkm_1"))
    assert await commit(database, prune_checkpoints(session, keep=2)) == 1
