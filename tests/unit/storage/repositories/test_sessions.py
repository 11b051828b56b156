import asyncio

import pytest

from modular_agent.errors import CursorInvalid
from modular_agent.storage.errors import SessionBusy, SessionIdTaken, SessionUnknown
from modular_agent.storage.repositories.session_lists import SessionFilter, SessionLists
from modular_agent.storage.repositories.sessions import (
    NewSession,
    SessionChange,
    SessionRepository,
    create_session,
    set_workflow_version,
    update_session,
)
from modular_agent.storage.unit_of_work import Counters, UnitOfWork


@pytest.fixture
def sessions(database):
    return SessionRepository(database.readers)


@pytest.fixture
def lists(database):
    return SessionLists(database.readers)


async def test_a_session_is_read_as_it_was_made(sessions, make_session, clock):
    ref = await make_session(
        metadata={"客户": {"id": 7}}, tags=["a"], title="标题", agent_config={"model": "m"}, initial_state={"score": 1}
    )
    row = await sessions.get("react-1")
    assert row.ref == ref == await sessions.ref("react-1")
    assert (row.metadata, row.tags, row.title) == ({"客户": {"id": 7}}, ["a"], "标题")
    assert (row.agent_config, row.initial_state, row.status) == ({"model": "m"}, {"score": 1}, "active")
    assert (row.created_at, row.updated_at, row.generation, row.last_seq) == (clock.now, clock.now, 1, 0)
    assert await sessions.by_number(ref.n) == row
    assert await sessions.get("react-1", tenant="another") is None
    assert await sessions.get("none") is None
    assert await sessions.ref("none") is None


async def test_a_taken_id_is_refused(make_session):
    await make_session("same")
    with pytest.raises(SessionIdTaken):
        await make_session("same")


@pytest.mark.parametrize("session_id", ["../etc", "a/b", "", "..", "a\nb", "x" * 201])
def test_an_id_that_is_no_file_name_is_refused(session_id):
    with pytest.raises(ValueError, match="not a session id"):
        create_session(
            NewSession(session_id=session_id, workflow_id="w", workflow_version="h", workflow_config_path="p", now_us=1)
        )


async def test_two_changes_at_once_lose_nothing(database, sessions, make_session, clock):
    ref = await make_session(metadata={"a": 1, "b": 1})
    changes = [
        SessionChange(metadata={"b": 2, "c": {"x": None}}),
        SessionChange(metadata={"d": 4}, title="t"),
        SessionChange(tags=["x", "y"]),
    ]
    steps = [UnitOfWork(then=update_session(ref, change, now_us=clock.now + 9)) for change in changes]
    results = await asyncio.gather(*map(database.writer.commit, steps))
    row = await sessions.get("react-1")
    assert row.metadata == {"a": 1, "b": 2, "c": {"x": None}, "d": 4}
    assert (row.title, row.tags, row.updated_at) == ("t", ["x", "y"], clock.now + 9)
    assert results[-1].result == row
    untitled = UnitOfWork(then=update_session(ref, SessionChange(title=""), now_us=1))
    assert (await database.writer.commit(untitled)).result.title is None


async def test_a_change_of_an_unknown_session_is_refused(database, make_session):
    ref = await make_session()
    await database.removal.delete(ref)
    with pytest.raises(SessionUnknown):
        await database.writer.commit(UnitOfWork(then=update_session(ref, SessionChange(title="x"), now_us=1)))


async def test_another_workflow_version_only_while_no_run_is_active(database, sessions, make_session, make_run):
    ref, busy = await make_session("free"), await make_session("busy")
    await make_run(busy)
    for session in (ref, busy):
        step = set_workflow_version(session, workflow_id="w", version="h2", config_path="p2", now_us=1)
        if session is busy:
            with pytest.raises(SessionBusy):
                await database.writer.commit(UnitOfWork(then=step))
        else:
            await database.writer.commit(UnitOfWork(then=step))
    assert (await sessions.get("free")).workflow_version == "h2"
    assert (await sessions.get("busy")).workflow_version == "hash"


@pytest.fixture
async def many(database, make_session, clock):
    """Twelve sessions of two tenants, created a second apart, with costs and tokens that tie."""
    for n in range(12):
        clock.now += 1_000_000
        ref = await make_session(
            f"s-{n:02}",
            tenant="a" if n < 10 else "b",
            metadata={"note": f'100% "sure" {n}', "名": "中文"},
            title="Under_score" if n == 3 else None,
            workflow_id="even" if n % 2 == 0 else "odd",
        )
        unit: UnitOfWork[None] = UnitOfWork()
        unit.count(ref, Counters(cost_nano=n % 3, prompt_tokens=n % 4, completion_tokens=1))
        clock.now += 20_000_000 - 2_000_000 * n
        await database.writer.commit(unit)
        clock.now -= 20_000_000 - 2_000_000 * n


def names(page):
    return [int(row.session_id[2:]) for row in page.sessions]


async def test_the_newest_come_first(lists, many):
    page = await lists.page(SessionFilter(tenant="a"), page_size=4)
    assert (names(page), page.total, page.has_next) == ([9, 8, 7, 6], 10, True)
    last = await lists.page(SessionFilter(tenant="a"), page=3, page_size=4)
    assert (names(last), last.total, last.has_next) == ([1, 0], 10, False)
    assert (await lists.page(SessionFilter())).total == 12


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("sort_by", ["created_at", "updated_at", "status", "session_id", "cost", "tokens"])
async def test_pages_by_cursor_are_the_pages_by_number(lists, many, sort_by, descending):
    by_cursor, by_number, cursor = [], [], None
    for number in range(1, 5):
        page = await lists.page(
            SessionFilter(tenant="a"), sort_by=sort_by, descending=descending, page_size=3, cursor=cursor
        )
        by_cursor += page.sessions
        cursor = page.cursor
        numbered = await lists.page(
            SessionFilter(tenant="a"), sort_by=sort_by, descending=descending, page_size=3, page=number
        )
        by_number += numbered.sessions
    assert cursor is None
    assert by_cursor == by_number
    key = {
        "cost": lambda row: (row.cost_nano, row.n),
        "tokens": lambda row: (row.prompt_tokens + row.completion_tokens, row.n),
    }.get(sort_by, lambda row: (getattr(row, sort_by), row.n))
    assert by_cursor == sorted(by_cursor, key=key, reverse=descending)
    assert len({row.n for row in by_cursor}) == 10


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ("s-03", [3]),
        ("EVEN", [8, 6, 4, 2, 0]),
        ("中文", [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
        ('"sure" 7', [7]),
        ("under_s", [3]),
        ("_", [3]),
        ("100%", [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
        ("0% s", []),
        ("%", [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
        ("\\", []),
        ("nothing", []),
    ],
)
async def test_a_search_is_taken_literally(lists, many, search, expected):
    page = await lists.page(SessionFilter(tenant="a", search=search))
    assert names(page) == expected
    assert page.total == len(expected)


async def test_filters_are_combined(lists, many, make_run, sessions, clock):
    await make_run(await sessions.ref("s-04"))
    row = await sessions.get("s-05")
    chosen = SessionFilter(tenant="a", workflow_id="odd", start=row.created_at, end=row.created_at + 2_000_001)
    assert names(await lists.page(chosen, descending=False)) == [5, 7]
    assert (await lists.page(SessionFilter(status="paused"))).sessions == []
    assert await lists.count_by_status(tenant="b") == {"active": 2}


@pytest.mark.parametrize("cursor", ["x", "", "ü", "W10", "WzEsMl0", "bnVsbA"])
async def test_a_foreign_cursor_is_refused(lists, cursor):
    with pytest.raises(CursorInvalid):
        await lists.page(SessionFilter(), cursor=cursor)


async def test_a_cursor_belongs_to_its_order(lists, many):
    page = await lists.page(SessionFilter(), page_size=2)
    with pytest.raises(CursorInvalid):
        await lists.page(SessionFilter(), page_size=2, cursor=page.cursor, sort_by="cost")


@pytest.mark.parametrize("sort", ["created_at", "updated_at", "cost_nano", "(prompt_tokens + completion_tokens)"])
async def test_sorting_a_tenants_sessions_uses_an_index(database, sort):
    plan = await database.readers.query(
        "EXPLAIN QUERY PLAN SELECT * FROM sessions WHERE deleted_at IS NULL AND tenant = ?"
        f" ORDER BY {sort} DESC, n DESC LIMIT 20",
        ("a",),
    )
    assert "USING INDEX ix_sessions" in str(plan)
    assert "TEMP B-TREE" not in str(plan)
