import orjson
import pytest

from modular_agent.events import Record, RecordType
from modular_agent.storage.records import RecordFilter
from modular_agent.storage.unit_of_work import UnitOfWork

OCTOBER_END = 1_793_491_200_000_000  # 2026-11-01T00:00:00Z


@pytest.fixture
async def session(database, make_session, clock):
    """Twenty records, a second apart, ten in each of two months: message, log, message, log, ..."""
    ref, other = await make_session(), await make_session("other")
    for n in range(20):
        clock.now = OCTOBER_END + (n - 10) * 1_000_000
        kind = RecordType.MESSAGE if n % 2 == 0 else RecordType.LOG
        fields = {"content": f"第{n}条", "message_type": "user" if n % 4 == 0 else "assistant"}
        unit: UnitOfWork[None] = UnitOfWork()
        unit.record(ref, Record(record_type=kind, fields=fields, run_id=f"run_{n // 7}", node=f"n{n % 3}"))
        unit.record(other, Record(record_type=kind, fields=fields))
        await database.log.append(unit)
    return ref


def seqs(records):
    return [record.seq for record in records]


async def test_reading_on_after_a_seq(database, session):
    assert seqs(await database.records.after(session, seq=7, limit=5)) == [8, 9, 10, 11, 12]
    assert seqs(await database.records.after(session, seq=20, limit=5)) == []


async def test_a_record_is_read_as_it_was_stored(database, session):
    (record,) = await database.records.after(session, seq=4, limit=1)
    fields = orjson.loads(record.line)
    assert (fields["seq"], fields["content"], fields["session_id"]) == (5, "第4条", "react-1")
    assert (record.record_type, record.run_id, record.node) == ("message", "run_0", "n1")
    assert record.line.endswith(b"\n")
    assert await database.records.get(session, record.record_id) == record
    assert await database.records.get(session, "rec_none") is None


async def test_the_newest_come_oldest_first(database, session):
    assert seqs(await database.records.newest(session, limit=3)) == [18, 19, 20]
    only_logs = RecordFilter(types=[RecordType.LOG])
    assert seqs(await database.records.newest(session, limit=3, chosen=only_logs)) == [16, 18, 20]


async def test_a_time_range_includes_its_start_and_excludes_its_end_across_months(database, session):
    chosen = RecordFilter(start=OCTOBER_END - 2_000_000, end=OCTOBER_END + 2_000_000)
    page = await database.records.page(session, chosen, limit=100)
    assert (seqs(page.records), page.total) == ([9, 10, 11, 12], 4)


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (RecordFilter(types=["message"]), [1, 3, 5, 7, 9, 11, 13, 15, 17, 19]),
        (RecordFilter(types=["message", "log"], run_id="run_1"), [8, 9, 10, 11, 12, 13, 14]),
        (RecordFilter(node="n1", types=["log"]), [2, 8, 14, 20]),
        (RecordFilter(message_types=["user"]), [1, 5, 9, 13, 17]),
        (RecordFilter(after_seq=3, before_seq=6), [4, 5]),
        (RecordFilter(types=["error"]), []),
    ],
)
async def test_filters_are_combined(database, session, chosen, expected):
    page = await database.records.page(session, chosen, limit=100)
    assert (seqs(page.records), page.total) == (expected, len(expected))
    assert await database.records.count(session, chosen) == len(expected)


async def test_pages_have_an_offset_and_a_total(database, session):
    chosen = RecordFilter(types=["message"])
    page = await database.records.page(session, chosen, limit=3, offset=4)
    assert (seqs(page.records), page.total) == ([9, 11, 13], 10)
    backwards = await database.records.page(session, chosen, limit=3, offset=1, newest_first=True)
    assert (seqs(backwards.records), backwards.total) == ([17, 15, 13], 10)


async def test_a_session_without_records_has_none(database, make_session):
    empty = await make_session("empty")
    assert await database.records.newest(empty, limit=5) == []
    assert await database.records.last_seq(empty) == 0
    assert (await database.records.page(empty, RecordFilter(), limit=5)).total == 0


async def test_reading_by_seq_and_type_uses_the_index_of_the_session(database, session):
    plan = await database.readers.query(
        "EXPLAIN QUERY PLAN SELECT line FROM records WHERE session_n = ? AND seq > ? ORDER BY seq LIMIT 5", (1, 1)
    )
    assert "ix_records_place" in str(plan)
    assert "TEMP B-TREE" not in str(plan)
