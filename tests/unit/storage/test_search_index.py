"""Search compared with reading everything, on real files."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from modular_agent.events import Record, RecordType, SessionRef
from modular_agent.storage.database import Database
from modular_agent.storage.grams import fold
from modular_agent.storage.repositories.sessions import NewSession, create_session
from modular_agent.storage.search_files import month_files, read_position
from modular_agent.storage.search_index import IndexReader
from modular_agent.storage.search_query import Place, SearchFilter, Searching
from modular_agent.storage.searchable import texts_of
from modular_agent.storage.unit_of_work import UnitOfWork

START = 1_792_000_000_000_000  # 2026-10-14
MONTH = 31 * 86_400 * 1_000_000


def message(text: Any) -> Record:
    return Record(record_type=RecordType.MESSAGE, fields={"message_type": "user", "content": text})


def call(name: str, given: Any, output: Any) -> Record:
    fields = {"tool_name": name, "tool_input": given, "tool_output": output, "phase": "result"}
    return Record(record_type=RecordType.TOOL_CALL, fields=fields)


def error(text: str) -> Record:
    fields = {"error_type": "Boom", "error_message": text, "stack_trace": "secret place"}
    return Record(record_type=RecordType.ERROR, fields=fields)


async def say(database: Database, session: SessionRef, *records: Record) -> None:
    unit: UnitOfWork[None] = UnitOfWork()
    for record in records:
        unit.record(session, record)
    await database.log.append(unit)


async def found(database: Database, query: str, *, limit: int = 20, **chosen: Any) -> list[str]:
    """The record ids of all hits, page after page."""
    hits: list[str] = []
    after: Place | None = None
    while True:
        page = await database.search.search(query, SearchFilter(**chosen), limit=limit, after=after)
        hits += [orjson.loads(hit.line)["record_id"] for hit in page.hits]
        assert len(page.hits) <= limit
        if page.after is None:
            return hits
        after = page.after


async def scanned(database: Database, query: str) -> list[str]:
    """The same by reading every record."""
    rows = await database.readers.query("SELECT line FROM records ORDER BY month DESC, id DESC")
    records = [orjson.loads(line) for (line,) in rows]
    wanted = fold(query)
    return [r["record_id"] for r in records if any(wanted in fold(text) for _, text in texts_of(r))]


async def both_ways(database: Database, query: str, **chosen: Any) -> list[str]:
    """The hits of the unindexed tail, which must be those of the index."""
    before = await found(database, query, **chosen)
    await database.search.wait_until_indexed()
    assert await found(database, query, **chosen) == before
    return before


def entries(database: Database) -> int:
    count = 0
    for path in month_files(database.location.index).values():
        connection = sqlite3.connect(path)
        rows = connection.execute('SELECT rowid FROM grams WHERE grams MATCH \'"¶tmessage" OR "¶ttoolcall"\'')
        count += len(rows.fetchall())
        connection.close()
    return count


async def test_what_was_said_called_and_went_wrong_is_found(database, make_session):
    session = await make_session()
    said, called, wrong = message("The weather in Hangzhou"), call("get", {"city": "Suzhou"}, "雨"), error("refused")
    log = Record(record_type=RecordType.LOG, fields={"message": "Hangzhou"})
    await say(database, session, said, log, called, wrong)
    assert await both_ways(database, "hangZHOU") == [said.record_id]
    assert await both_ways(database, "city: suzhou") == [called.record_id]
    assert await both_ways(database, "雨") == [called.record_id]
    assert await both_ways(database, "REFUSED") == [wrong.record_id]
    assert await both_ways(database, "secret place") == []
    assert await both_ways(database, "zhou") == [called.record_id, said.record_id]


@pytest.mark.parametrize(
    "query", ["天气", "天", "气怎", "天气怎么样", "明", "(天气", "ＡＢＣ", "abc", "b", "bc", "c。"]
)
async def test_chinese_words_of_any_length_and_full_width_letters_are_found(database, make_session, query):
    wanted, other = message("今天(天气怎么样？明天呢?ABC。"), message("别的话")
    await say(database, await make_session(), wanted, other)
    assert await both_ways(database, query) == [wanted.record_id]


@pytest.mark.parametrize(
    "query",
    ['"', '"quoted"', "AND", "a OR b", "NEAR(", "col:", "*", "^x", "-", "(", "%", "_", "'", "; --", "¶s1", "\x00"],
)
async def test_operators_and_quotes_are_text(database, make_session, query):
    wanted, other = message(f"before{query}after"), message("nothing")
    await say(database, await make_session(), wanted, other)
    assert await both_ways(database, query) == [wanted.record_id]


async def test_filters_hold_in_the_tail_and_in_the_index(database, make_session, clock):
    one = await make_session("one")
    two = await make_session("two", workflow_id="other", tenant="else")
    first, second, third = message("word one"), error("word two"), message("word three")
    await say(database, one, first)
    clock.now += 3 * 86_400 * 1_000_000
    await say(database, two, second)
    clock.now += MONTH
    await say(database, one, third)
    for _ in range(2):  # unindexed, indexed
        assert await found(database, "word", session_n=one.n) == [third.record_id, first.record_id]
        assert await found(database, "word", types=("error",)) == [second.record_id]
        assert await found(database, "word", workflow_id="other") == [second.record_id]
        assert await found(database, "word", workflow_id="none") == []
        assert await found(database, "word", tenant="else") == [second.record_id]
        day = 86_400 * 1_000_000
        assert await found(database, "word", start=START + day) == [third.record_id, second.record_id]
        assert await found(database, "word", end=START + day) == [first.record_id]
        assert await found(database, "word", start=START + day, end=START + 4 * day) == [second.record_id]
        assert await found(database, "word", start=START, end=START) == []
        await database.search.wait_until_indexed()
    assert sorted(month_files(database.location.index)) == [202610, 202611]


async def test_pages_follow_one_another_without_loss(database, make_session, clock):
    session = await make_session()
    for n in range(60):
        clock.now += MONTH // 30
        await say(database, session, message(f"common {n}"), message("else"))
    assert await both_ways(database, "common", limit=7) == await scanned(database, "common")


async def test_a_search_that_would_take_too_long_ends_with_a_cursor(database, make_session):
    session = await make_session()
    rare = message("xyz at the beginning")
    await say(database, session, rare, *(message("abc bcd") for _ in range(300)))  # the grams of abcd, not abcd
    await database.search.wait_until_indexed()
    connection = sqlite3.connect(database.location.database)
    searching = Searching(
        connection, database.location.index, position=lambda: database.search.state.indexed_id, budget=50
    )
    page = searching.search("abcd", SearchFilter(), limit=5)
    assert (page.hits, page.exhausted) == ([], True)
    rounds = 0
    while page.after is not None:
        page = searching.search("abcd", SearchFilter(), limit=5, after=page.after)
        rounds += 1
    assert (page.hits, page.exhausted) == ([], False)
    assert 1 < rounds < 10
    searching.close()
    connection.close()


async def test_a_deleted_session_leaves_no_entry(database, make_session):
    kept, doomed = await make_session("kept"), await make_session("doomed")
    stays = message("shared words")
    await say(database, kept, stays)
    await say(database, doomed, *(message(f"shared words {n}") for n in range(450)))
    await database.search.wait_until_indexed()
    assert entries(database) == 451
    await say(database, doomed, message("shared words, not indexed yet"))
    await database.removal.delete(doomed)
    await database.search.wait_until_indexed()
    assert entries(database) == 1
    assert await found(database, "shared") == [stays.record_id]
    assert await scanned(database, "shared") == [stays.record_id]


async def test_taking_out_a_session_again_after_a_crash_does_no_harm(database, make_session):
    doomed, kept = await make_session("doomed"), await make_session("kept")
    await say(database, doomed, message("first words"))
    await database.search.wait_until_indexed()
    await database.search.forget(doomed)
    await database.search.forget(doomed)
    stays = message("first words of another")
    await say(database, kept, stays)
    await database.search.wait_until_indexed()
    assert entries(database) == 1
    for path in month_files(database.location.index).values():
        connection = sqlite3.connect(path)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()


async def test_a_restart_goes_on_where_the_index_ended(tmp_path, clock):
    async with Database.open(tmp_path, clock=clock) as database:
        session = (await database.writer.commit(UnitOfWork(then=create_session(new("one"))))).result
        assert session is not None
        first = message("some words")
        await say(database, session, first)
        await database.search.wait_until_indexed()
        position = database.search.state.indexed_id
    assert read_position(tmp_path / "index").record_id == position
    async with Database.open(tmp_path, clock=clock) as database:
        assert database.search.state.indexed_id == position
        second = message("more words")
        await say(database, session, second)
        assert await found(database, "words") == [second.record_id, first.record_id]
        reader = IndexReader(database.location.database, database.location.index)
        async with reader:  # as the command line does beside a server
            page = await reader.search("words", SearchFilter(), limit=10)
            assert len(page.hits) == 2


def new(session_id: str) -> NewSession:
    return NewSession(
        session_id=session_id, workflow_id="w", workflow_version="v", workflow_config_path="p", now_us=START
    )


@pytest.mark.parametrize("harm", ["all gone", "month gone", "month damaged", "position gone", "another database"])
async def test_a_harmed_index_is_made_anew(tmp_path: Path, clock: Any, harm: str):
    async with Database.open(tmp_path, clock=clock) as database:
        session = (await database.writer.commit(UnitOfWork(then=create_session(new("one"))))).result
        assert session is not None
        said = message("some words")
        await say(database, session, said)
        await database.search.wait_until_indexed()
    index = tmp_path / "index"
    (month,) = index.glob("*.db")
    if harm == "all gone":
        for path in index.iterdir():
            path.unlink()
    elif harm == "month gone":
        month.unlink()
    elif harm == "month damaged":
        month.write_bytes(b"garbage" * 1000)
    elif harm == "position gone":
        (index / "position.json").unlink()
    else:
        stored = orjson.loads((index / "position.json").read_bytes())
        (index / "position.json").write_bytes(orjson.dumps({**stored, "anchor": "rec_of_another"}))
    async with Database.open(tmp_path, clock=clock) as database:
        assert await found(database, "words") == [said.record_id]
        await database.search.wait_until_indexed()
        assert await found(database, "words") == [said.record_id]
        assert entries(database) == 1


async def test_rebuilding_brings_the_same_index(database, make_session):
    session = await make_session()
    await say(database, session, *(message(f"word {n}") for n in range(120)))
    await database.search.wait_until_indexed()
    before = await found(database, "word 1")
    heard: list[int] = []
    assert await database.search.rebuild(heard.append) == 120
    assert heard[-1] == 120
    assert entries(database) == 120
    assert await found(database, "word 1") == before == await scanned(database, "word 1")


ALPHABET = st.sampled_from(
    [*"abcAB 1-\"*'\n", *"天气明的。？", *"ａＢ①ﬁßİ", "e\u0301", "é", "ｶﾞ", "ガ", "😀", "한", "각"]
)
TEXTS = st.lists(ALPHABET, max_size=12).map("".join)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(TEXTS, max_size=12),
    queries=st.lists(TEXTS.filter(str.strip), min_size=1, max_size=4),
    cut=st.integers(0, 12),
)
@example(texts=["ﬁne", "İ", "e\u0301a"], queries=["i", "fi", "é"], cut=1)
async def test_a_search_finds_what_a_full_scan_finds(
    tmp_path_factory: pytest.TempPathFactory, texts: Sequence[str], queries: Sequence[str], cut: int
):
    async with Database.open(tmp_path_factory.mktemp("search")) as database:
        session = (await database.writer.commit(UnitOfWork(then=create_session(new("one"))))).result
        assert session is not None
        await say(database, session, *(message(text) for text in texts[:cut]))
        await database.search.wait_until_indexed()
        await say(database, session, *(call("t", {"k": text}, text) for text in texts[cut:]))
        pieces = [text[i : i + 3] for text in texts for i in (0, 2) if text[i : i + 3].strip()][:6]
        for query in [*queries, *pieces]:
            expected = await scanned(database, query)
            assert await found(database, query, limit=3) == expected
        await database.search.wait_until_indexed()
        for query in [*queries, *pieces]:
            assert await found(database, query, limit=3) == await scanned(database, query)
