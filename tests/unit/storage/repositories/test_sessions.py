import asyncio
import tempfile
from pathlib import Path

import orjson
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from modular_agent.kit.pagination import InvalidCursor
from modular_agent.storage.database import Database
from modular_agent.storage.errors import SessionBusy, SessionIdTaken, SessionUnknown
from modular_agent.storage.repositories.session_lists import SessionFilter, SessionLists
from modular_agent.storage.repositories.session_matches import SESSION_TEXTS
from modular_agent.storage.repositories.sessions import (
    NewSession,
    SessionChange,
    SessionRepository,
    create_session,
    mark_deleted,
    set_workflow_version,
    update_session,
)
from modular_agent.storage.session_grams import rebuild_grams
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
        "status": lambda row: (row.status, row.updated_at, row.n),
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
    with pytest.raises(InvalidCursor):
        await lists.page(SessionFilter(), cursor=cursor)


async def test_a_cursor_belongs_to_its_order(lists, many):
    page = await lists.page(SessionFilter(), page_size=2)
    with pytest.raises(InvalidCursor):
        await lists.page(SessionFilter(), page_size=2, cursor=page.cursor, sort_by="cost")


@pytest.mark.parametrize("few", [0, 1, 8])
async def test_what_the_cache_keeps_of_a_search_follows_what_is_written(database, many, clock, few):
    kept = SessionLists(database.readers, cache=database.cache, few=few)

    async def totals():
        chosen = [SessionFilter(tenant="a", search=search) for search in ("中文", "odd", "--")]
        chosen += [SessionFilter(tenant="a", search="中文", status="active"), SessionFilter(tenant="a")]
        return [(await kept.page(each, page_size=2)).total for each in chosen]

    assert await totals() == [10, 5, 0, 10, 10]
    new = NewSession(
        session_id="new",
        tenant="a",
        workflow_id="odd",
        workflow_version="h",
        workflow_config_path="p",
        now_us=clock.now,
        metadata={"名": "中文"},
    )
    made = UnitOfWork(then=create_session(new), touches=("sessions",))
    ref = (await database.writer.commit(made)).result
    assert await totals() == [11, 6, 0, 11, 11]
    change = SessionChange(title="--", metadata={"名": ""})
    await database.writer.commit(
        UnitOfWork(then=update_session(ref, change, now_us=1), touches=("sessions", SESSION_TEXTS, ref.n))
    )
    assert await totals() == [10, 6, 1, 10, 11]
    await database.removal.delete(ref)
    assert await totals() == [10, 5, 0, 10, 10]


async def statements_of(database, ask):
    """The SQL of the pages that `ask(lists)` reads, with its values."""
    texts = []

    class Traced:
        async def run(self, read):
            def traced(connection):
                connection.set_trace_callback(texts.append)
                try:
                    return read(connection)
                finally:
                    connection.set_trace_callback(None)

            return await database.readers.run(traced)

    await ask(SessionLists(Traced(), few=1))
    return [text for text in texts if "(SELECT n FROM sessions" in text and "ORDER BY" in text]


@pytest.mark.parametrize("chosen", [{}, {"status": "active"}, {"status": "active", "search": "e"}])
@pytest.mark.parametrize("sort_by", ["created_at", "updated_at", "status", "session_id", "cost", "tokens"])
async def test_skipped_sessions_are_neither_read_nor_sorted(database, many, sort_by, chosen):
    (text,) = await statements_of(
        database, lambda lists: lists.page(SessionFilter(tenant="a", **chosen), sort_by=sort_by, page_size=2)
    )
    keys = text[text.index("(SELECT n FROM sessions") + 1 : text.index(" LIMIT ")]
    plan = str(await database.readers.query(f"EXPLAIN QUERY PLAN {keys}"))
    covering = "" if "search" in chosen else "COVERING "  # what is searched is read, of those that may match
    if sort_by == "tokens":  # no row is read by an index of a sum, but only a newer SQLite calls it covering
        plan = plan.replace("COVERING ", "")
        covering = ""
    assert f"SEARCH sessions USING {covering}INDEX ix_sessions_" in plan
    assert "TEMP B-TREE" not in plan


@pytest.mark.parametrize("few", [0, 2_000])
async def test_a_word_is_counted_by_status_whichever_most_have(database, few):
    for number in range(7):
        new = NewSession(
            session_id=f"s-{number}",
            workflow_id="w",
            workflow_version="h",
            workflow_config_path="p",
            now_us=number,
            title=f"refunds {number}" if number % 2 else "a refund",
        )
        ref = (await database.writer.commit(UnitOfWork(then=create_session(new)))).result
        if number > 4:
            await database.writer.commit(
                UnitOfWork(
                    then=lambda connection, n=ref.n: connection.execute(
                        "UPDATE sessions SET status = 'paused' WHERE n = ?", (n,)
                    )
                )
            )
    lists = SessionLists(database.readers, few=few, stretch=3)
    for search in ("refund", "ref", "refunds", "efund"):
        for status, several in (("active", range(5)), ("paused", (5, 6)), (None, range(7))):
            expected = sum(search != "refunds" or number % 2 for number in several)
            page = await lists.page(SessionFilter(search=search, status=status), page_size=1)
            assert page.total == expected


TEXTS = st.text(alphabet='abAB12_% -\\"\n退款ｅéÉ\u0301', max_size=8) | st.sampled_from(
    ["baba", "ABBA", "x-babab", "退款 baba/1", "ba\x00ba", "b" * 40, "#ab.", "abba@b:a"]
)


class SearchedSessions(RuleBasedStateMachine):
    """Sessions are made, changed, moved and deleted in any order; what a search finds is what a scan finds."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.loop = asyncio.new_event_loop()
        self.database = Database.open(Path(self.folder.name))
        self.loop.run_until_complete(self.database.__aenter__())
        self.refs = {}
        self.made = 0

    def commit(self, step, touches=None):
        return self.loop.run_until_complete(self.database.writer.commit(UnitOfWork(then=step, touches=touches))).result

    @rule(workflow=TEXTS, title=st.none() | TEXTS, metadata=st.dictionaries(TEXTS, TEXTS, max_size=2))
    def makes(self, workflow, title, metadata):
        self.made += 1
        new = NewSession(
            session_id=f"Ab-{self.made}",
            workflow_id=workflow,
            workflow_version="h",
            workflow_config_path="p",
            now_us=self.made,
            title=title,
            metadata=metadata,
        )
        self.refs[self.made] = self.commit(create_session(new), ["sessions"])

    @precondition(lambda self: self.refs)
    @rule(data=st.data(), title=TEXTS, metadata=st.dictionaries(TEXTS, TEXTS, max_size=1))
    def changes(self, data, title, metadata):
        ref = self.refs[data.draw(st.sampled_from(sorted(self.refs)))]
        self.changes_to(ref, SessionChange(title=title, metadata=metadata))

    def changes_to(self, ref, change):
        self.commit(update_session(ref, change, now_us=self.made), ["sessions", SESSION_TEXTS, ref.n])

    @precondition(lambda self: self.refs)
    @rule(data=st.data(), workflow=TEXTS)
    def moves(self, data, workflow):
        ref = self.refs[data.draw(st.sampled_from(sorted(self.refs)))]
        self.commit(set_workflow_version(ref, workflow_id=workflow, version="h", config_path="p", now_us=self.made))

    @precondition(lambda self: self.refs)
    @rule(data=st.data(), status=st.sampled_from(["active", "paused", "stopped"]))
    def gets_a_status(self, data, status):
        ref = self.refs[data.draw(st.sampled_from(sorted(self.refs)))]
        self.commit(
            lambda connection: connection.execute("UPDATE sessions SET status = ? WHERE n = ?", (status, ref.n)),
            ["sessions", ref.n],
        )

    @precondition(lambda self: self.refs)
    @rule(data=st.data(), half=st.booleans())
    def deletes(self, data, half):
        ref = self.refs.pop(data.draw(st.sampled_from(sorted(self.refs))))
        if half:
            self.commit(mark_deleted(ref, now_us=1))
        else:
            self.loop.run_until_complete(self.database.removal.delete(ref))

    @rule(search=TEXTS.filter(bool), few=st.sampled_from([0, 1, 2_000]))
    def searches_for_anything(self, search, few):
        self.searches(search, few)

    @precondition(lambda self: len(self.refs) > 1)
    @rule(data=st.data(), search=TEXTS.filter(bool), few=st.sampled_from([0, 1]))
    def changes_what_was_found(self, data, search, few):
        refs = data.draw(st.permutations(sorted(self.refs)))
        for number in refs[:2]:
            self.changes_to(self.refs[number], SessionChange(title=search))
        self.searches(search, few)
        self.changes_to(self.refs[refs[0]], SessionChange(title="x"))
        self.searches(search, few)

    def searches(self, search, few):
        everything = self.page(SessionFilter()).sessions
        expected = [row for row in everything if holds(row, search)]
        for status in (None, "active", "paused"):
            wanted = [row for row in expected if status in (None, row.status)]
            chosen = SessionFilter(search=search, status=status)
            for cached in (True, False):
                page = self.page(chosen, few=few, cached=cached)
                assert (page.sessions, page.total) == (wanted, len(wanted))
            assert self.page(chosen, few=few, page_size=0).total == len(wanted)  # this page does not say how many
            parts = [self.page(chosen, few=few, page=1 + at // 2, page_size=2) for at in range(0, len(wanted), 2)]
            assert [row for part in parts for row in part.sessions] == wanted
            assert {part.total for part in parts} <= {len(wanted)}

    def page(self, chosen, *, few=2_000, page=1, page_size=100, cached=True):
        cache = self.database.cache if cached else None
        lists = SessionLists(self.database.readers, cache=cache, few=few, stretch=3)
        return self.loop.run_until_complete(lists.page(chosen, page=page, page_size=page_size))

    @precondition(lambda self: self.refs)
    @rule(data=st.data(), few=st.sampled_from([0, 1, 2_000]))
    def searches_for_what_is_there(self, data, few):
        ref = self.refs[data.draw(st.sampled_from(sorted(self.refs)))]
        row = self.loop.run_until_complete(SessionRepository(self.database.readers).get(ref.session_id))
        text = data.draw(st.sampled_from([row.workflow_id, row.title or "-", *row.metadata, *row.metadata.values()]))
        first = data.draw(st.integers(0, len(text)))
        self.searches(text[first : first + 4] or "b-", few)

    @invariant()
    def no_gram_is_missing_or_left_over(self):
        def terms(connection):
            connection.execute("CREATE VIRTUAL TABLE temp.vocab USING fts5vocab('main', 'session_grams', 'row')")
            found = connection.execute("SELECT term, doc FROM temp.vocab").fetchall()
            connection.execute("DROP TABLE temp.vocab")
            return found

        def both(connection):
            found = terms(connection)
            connection.execute("BEGIN")
            rebuild_grams(connection)
            expected = terms(connection)
            connection.execute("ROLLBACK")
            return found, expected

        found, expected = self.loop.run_until_complete(self.database.writer.exclusive(both, changes=False))
        assert found == expected

    def teardown(self):
        self.loop.run_until_complete(self.database.__aexit__(None, None, None))
        self.loop.close()
        self.folder.cleanup()


def holds(row, search):
    """As the filter's description says it, without SQL."""
    in_json = orjson.dumps(search).decode()[1:-1]
    metadata = orjson.dumps(row.metadata).decode()
    plain = [] if "\0" in search else [row.session_id, row.workflow_id, row.title or ""]
    texts = [(metadata, in_json), *((text, search) for text in plain)]
    return any(lowered(piece) in lowered(text) for text, piece in texts)


def lowered(text):
    text = text.partition("\0")[0]  # where a text ends for SQLite
    return "".join(letter.lower() if letter.isascii() else letter for letter in text)


TestSearchedSessions = SearchedSessions.TestCase
TestSearchedSessions.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)
