import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modular_agent.domain.history import HistoryService, LogPage, LogQuery, SessionUnknown, TimeRangeReversed
from modular_agent.events import RecordType
from modular_agent.kit.pagination import InvalidCursor

DAY = 86_400_000_000


def seqs(page: LogPage) -> list[int]:
    return [orjson.loads(line)["seq"] for line in page.lines]


async def test_the_newest_records_come_oldest_first(history: HistoryService, write: Any) -> None:
    for number in range(5):
        await write(content=str(number))
    await write(RecordType.LOG, level="info", message="noise")
    found = [orjson.loads(line) for line in await history.newest("react-1", limit=3, types=[RecordType.MESSAGE])]
    assert [record["content"] for record in found] == ["2", "3", "4"]
    assert [orjson.loads(line)["seq"] for line in await history.newest("react-1", limit=2)] == [5, 6]


async def test_messages_leave_other_records_out(history: HistoryService, write: Any) -> None:
    await write(content="question")
    await write(RecordType.LOG, level="info", message="noise")
    await write(message_type="assistant", content="answer")
    page = await history.messages("react-1", LogQuery())
    assert [orjson.loads(line)["content"] for line in page.lines] == ["question", "answer"]
    assert (page.total, page.has_next, page.cursor) == (2, False, None)
    of_people = await history.messages("react-1", LogQuery(message_types=["user"]))
    assert of_people.total == 1
    of_two = await history.messages("react-1", LogQuery(message_types=["assistant", "tool"]))
    assert of_two.total == 1


async def test_the_lines_are_those_of_the_log(history: HistoryService, write: Any) -> None:
    record = await write(content="它写着 “日本”\n")
    page = await history.records("react-1", LogQuery())
    assert page.joined() == b"[" + record.line.rstrip(b"\n") + b"]"


async def test_a_query_spans_months_with_its_end_excluded(history: HistoryService, write: Any, clock: Any) -> None:
    times = []
    for _ in range(4):
        times.append((await write()).ts)
        clock.now += 30 * DAY
    page = await history.records("react-1", LogQuery(start=times[1], end=times[3]))
    assert seqs(page) == [2, 3]
    assert seqs(await history.records("react-1", LogQuery(start=times[3]))) == [4]
    assert seqs(await history.records("react-1", LogQuery(end=times[0]))) == []
    assert seqs(await history.records("react-1", LogQuery(start=times[2], end=times[2]))) == []


async def test_records_are_chosen_by_kind_run_node_and_place(history: HistoryService, write: Any) -> None:
    await write(run_id="r1", node="think")
    await write(RecordType.LOG, run_id="r1", node="act", level="info", message="x")
    await write(RecordType.STEP, run_id="r2", node="think", phase="start")
    await write(run_id="r2", node="act")

    async def chosen(**query: Any) -> list[int]:
        return seqs(await history.records("react-1", LogQuery(**query)))

    assert await chosen(types=[RecordType.LOG, RecordType.STEP]) == [2, 3]
    assert await chosen(run_id="r2") == [3, 4]
    assert await chosen(node="think") == [1, 3]
    assert await chosen(after_seq=2) == [3, 4]
    assert await chosen(run_id="r1", node="think", types=[RecordType.MESSAGE]) == [1]
    assert await chosen(newest_first=True) == [4, 3, 2, 1]
    assert await chosen(offset=1, limit=2) == [2, 3]
    assert await chosen(offset=9) == []


async def test_a_reversed_range_is_refused(history: HistoryService, write: Any) -> None:
    await write()
    with pytest.raises(TimeRangeReversed):
        await history.messages("react-1", LogQuery(start=2, end=1))


async def test_an_unknown_session_is_refused_everywhere(history: HistoryService, write: Any) -> None:
    await write()
    for session_id, tenant in (("nobody", None), ("react-1", "another")):
        with pytest.raises(SessionUnknown):
            await history.newest(session_id, tenant=tenant)
        with pytest.raises(SessionUnknown):
            await history.messages(session_id, LogQuery(), tenant=tenant)
        with pytest.raises(SessionUnknown):
            await history.records(session_id, LogQuery(), tenant=tenant)


async def test_a_cursor_of_another_order_is_refused(history: HistoryService, write: Any) -> None:
    for _ in range(3):
        await write()
    first = await history.records("react-1", LogQuery(limit=1))
    with pytest.raises(InvalidCursor):
        await history.records("react-1", LogQuery(limit=1, cursor=first.cursor, newest_first=True))


async def test_what_is_appended_while_paging_is_neither_lost_nor_doubled(history: HistoryService, write: Any) -> None:
    for _ in range(3):
        await write()
    first = await history.records("react-1", LogQuery(limit=2, newest_first=True))
    await write()
    second = await history.records("react-1", LogQuery(limit=2, newest_first=True, cursor=first.cursor))
    assert seqs(first) + seqs(second) == [3, 2, 1]
    assert second.total == 4


KINDS = (RecordType.MESSAGE, RecordType.LOG, RecordType.STEP)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kinds=st.lists(st.sampled_from(KINDS), max_size=25),
    wanted=st.lists(st.sampled_from(KINDS), max_size=2, unique=True),
    after=st.none() | st.integers(0, 30),
    limit=st.integers(1, 9),
    newest_first=st.booleans(),
)
def test_parts_by_cursor_and_by_offset_make_the_whole(
    tmp_path_factory: pytest.TempPathFactory,
    kinds: list[RecordType],
    wanted: list[RecordType],
    after: int | None,
    limit: int,
    newest_first: bool,
) -> None:
    asyncio.run(_whole(tmp_path_factory.mktemp("log"), kinds, wanted, after, limit, newest_first))


async def _whole(
    path: Path, kinds: list[RecordType], wanted: list[RecordType], after: int | None, limit: int, newest_first: bool
) -> None:
    from modular_agent.events import Record
    from modular_agent.storage.database import Database
    from modular_agent.storage.repositories.sessions import NewSession, create_session
    from modular_agent.storage.unit_of_work import UnitOfWork

    async with Database.open(path) as database:
        new = NewSession(session_id="s", workflow_id="w", workflow_version="h", workflow_config_path="w.yaml", now_us=1)
        session = (await database.writer.commit(UnitOfWork(then=create_session(new)))).result
        assert session is not None
        unit: UnitOfWork[Any] = UnitOfWork()
        for kind in kinds:
            unit.record(session, Record(record_type=kind, fields={}))
        await database.log.append(unit)
        chosen = [
            seq
            for seq, kind in enumerate(kinds, 1)
            if (not wanted or kind in wanted) and (after is None or seq > after)
        ]
        expected = chosen[::-1] if newest_first else chosen
        history = HistoryService(database)
        by_cursor: list[int] = []
        by_offset: list[int] = []
        query: dict[str, Any] = {
            "types": wanted, "after_seq": after, "limit": limit, "newest_first": newest_first,
        }  # fmt: skip
        cursor = None
        while True:
            page = await history.records("s", LogQuery(**query, cursor=cursor))
            by_cursor += seqs(page)
            assert page.total == len(expected)
            assert page.has_next == (page.cursor is not None) == (len(by_cursor) < len(expected))
            cursor = page.cursor
            if cursor is None:
                break
        for offset in range(0, len(expected) + 1, limit):
            by_offset += seqs(await history.records("s", LogQuery(**query, offset=offset)))
        assert by_cursor == by_offset == expected
