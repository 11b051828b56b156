import asyncio
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from modular_agent.errors import AgentError, Kind
from modular_agent.events import CommittedRecord, Record, RecordType, SessionRef
from modular_agent.storage.database import Database
from modular_agent.storage.errors import (
    ConstraintViolated,
    SessionUnknown,
    StaleEpoch,
    StorageBusy,
    StorageClosed,
    StorageFull,
)
from modular_agent.storage.models import checkpoints, errors, idempotency_keys
from modular_agent.storage.repositories.run_steps import change_run
from modular_agent.storage.repositories.runs import RunChange
from modular_agent.storage.repositories.sessions import NewSession, create_session
from modular_agent.storage.unit_of_work import UNNUMBERED, Conflict, Counters, Fence, UnitOfWork, in_order


class Refused(AgentError):
    code = "refused_by_test"
    kind = Kind.CONFLICT


def message(text: str, **extra: object) -> Record:
    return Record(record_type=RecordType.MESSAGE, fields={"message_type": "user", "content": text, **extra})


def saying(session: SessionRef, *texts: str) -> UnitOfWork[None]:
    unit: UnitOfWork[None] = UnitOfWork()
    for text in texts:
        unit.record(session, message(text))
    return unit


def key_row(key: str, subject: str = "s") -> tuple[object, ...]:
    return ("t", key, "f", subject, 1)


async def test_records_are_numbered_in_the_order_of_submission(database, make_session):
    session = await make_session()
    futures = [database.writer.submit(saying(session, f"{n}a", f"{n}b")) for n in range(50)]
    done = [await future for future in futures]
    assert [record.seq for committed in done for record in committed.records] == list(range(1, 101))
    stored = await database.records.after(session, seq=0, limit=1000)
    assert [record._replace(fields=None) for committed in done for record in committed.records] == stored


async def test_what_one_turn_of_the_loop_submits_is_one_group(database, make_session):
    session = await make_session()
    before = database.writer.groups
    await asyncio.gather(*[database.writer.submit(saying(session, str(n))) for n in range(100)])
    assert database.writer.groups == before + 1


async def test_a_stale_unit_is_left_out_and_its_neighbours_stay(database, make_session, make_run):
    session = await make_session()
    run = await make_run(session)
    good, stale = saying(session, "good"), saying(session, "stale")
    good.fences.append(Fence(run.run_id, run.epoch))
    stale.fences.append(Fence(run.run_id, run.epoch + 1))
    results = await asyncio.gather(database.writer.submit(stale), database.writer.submit(good), return_exceptions=True)
    assert isinstance(results[0], StaleEpoch)
    assert [record.seq for record in results[1].records] == [1]
    assert await database.records.last_seq(session) == 1


async def test_a_fence_sees_the_epoch_that_an_earlier_unit_of_the_group_raised(database, make_session, make_run):
    session = await make_session()
    run = await make_run(session)
    old, new = saying(session, "old"), saying(session, "new")
    old.fences.append(Fence(run.run_id, 1))
    new.fences.append(Fence(run.run_id, 2))
    taking_over = UnitOfWork(then=change_run(run.run_id, RunChange(), raise_epoch=True))
    before, _, after, late = await asyncio.gather(
        database.writer.submit(saying(session, "zero")),
        database.writer.submit(taking_over),
        database.writer.submit(new),
        database.writer.submit(old),
        return_exceptions=True,
    )
    assert [r.records[0].seq for r in (before, after)] == [1, 2]
    assert isinstance(late, StaleEpoch)


async def test_an_unknown_session_refuses_its_unit_only(database, make_session):
    session = await make_session()
    results = await asyncio.gather(
        database.writer.submit(saying(SessionRef(999, "nobody"), "x")),
        database.writer.submit(saying(session, "x")),
        return_exceptions=True,
    )
    assert isinstance(results[0], SessionUnknown)
    assert results[1].records[0].seq == 1


async def test_a_duplicate_row_refuses_its_unit_only(database, make_session):
    session = await make_session()
    units = [saying(session, str(n)) for n in range(5)]
    for n, unit in enumerate(units):
        unit.insert(idempotency_keys, key_row("same" if n in (1, 3) else f"k{n}"))
    results = await asyncio.gather(*map(database.writer.submit, units), return_exceptions=True)
    assert isinstance(results[3], ConstraintViolated)
    assert [r.records[0].seq for n, r in enumerate(results) if n != 3] == [1, 2, 3, 4]
    lines = await database.records.after(session, seq=0, limit=10)
    assert [b'"content":"%d"' % n in line.line for n, line in zip((0, 1, 2, 4), lines, strict=True)] == [True] * 4


async def test_a_value_that_sqlite_does_not_take_refuses_its_unit_only(database, make_session):
    session = await make_session()
    bad = saying(session, "bad")
    bad.insert(idempotency_keys, ("t", "k", "f", object(), 1))
    results = await asyncio.gather(
        database.writer.submit(bad), database.writer.submit(saying(session, "good")), return_exceptions=True
    )
    assert isinstance(results[0], Exception)
    assert results[1].records[0].seq == 1


async def test_a_row_of_the_wrong_width_is_refused_at_once(database):
    unit: UnitOfWork[None] = UnitOfWork()
    unit.insert(idempotency_keys, ("t", "k"))
    with pytest.raises(ValueError, match="idempotency_keys has 5 values"):
        database.writer.submit(unit)


async def test_a_domain_error_in_a_step_undoes_its_unit_only(database, make_session):
    session = await make_session()

    def refuse(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE sessions SET title = 'changed'")
        raise Refused

    for place in ("first", "then"):
        unit = saying(session, "undone")
        unit.insert(idempotency_keys, key_row(place))
        unit.count(session, Counters(messages=1))
        setattr(unit, place, refuse)
        results = await asyncio.gather(
            database.writer.submit(saying(session, "a")),
            database.writer.submit(unit),
            database.writer.submit(saying(session, "b")),
            return_exceptions=True,
        )
        assert isinstance(results[1], Refused)
    assert [r.seq for r in await database.records.after(session, seq=0, limit=10)] == [1, 2, 3, 4]
    assert await database.readers.query("SELECT title, messages FROM sessions") == [(None, 0)]
    assert await database.readers.query("SELECT count(*) FROM idempotency_keys") == [(0,)]


async def test_a_session_and_its_first_records_are_made_in_one_unit(database):
    new = NewSession(session_id="new", workflow_id="w", workflow_version="h", workflow_config_path="p", now_us=1)
    unit = saying(SessionRef(UNNUMBERED, "new"), "one", "two")
    unit.count(SessionRef(UNNUMBERED, "new"), Counters(messages=2))
    unit.first = create_session(new)
    done = await database.log.append(unit)
    assert await database.readers.query("SELECT messages FROM sessions") == [(2,)]
    assert [r.seq for r in done.records] == [1, 2]
    assert done.records[0].session.n > 0
    assert await database.log.read_after(done.records[0].session, seq=1, limit=5) == [
        done.records[1]._replace(fields=None)
    ]


async def test_a_session_whose_unit_failed_leaves_no_trace_in_the_numbering(database):
    def new(session_id: str) -> NewSession:
        return NewSession(
            session_id=session_id, workflow_id="w", workflow_version="h", workflow_config_path="p", now_us=1
        )

    def refuse(_: sqlite3.Connection) -> None:
        raise Refused

    failing = saying(SessionRef(UNNUMBERED, "first"), "x", "y")
    failing.first, failing.then = create_session(new("first")), refuse
    following = saying(SessionRef(UNNUMBERED, "second"), "z")
    following.first = create_session(new("second"))
    results = await asyncio.gather(
        database.writer.submit(failing), database.writer.submit(following), return_exceptions=True
    )
    assert isinstance(results[0], Refused)
    assert [r.seq for r in results[1].records] == [1]


async def test_steps_see_all_that_was_submitted_before(database, make_session):
    session = await make_session()
    first = saying(session, "a", "b")
    first.count(session, Counters(messages=2))
    read = "SELECT last_seq, messages, (SELECT count(*) FROM records) FROM sessions"
    second: UnitOfWork[object] = UnitOfWork(
        then=in_order(lambda c: c.execute(read).fetchone(), lambda c: c.execute("SELECT 7").fetchone())
    )
    _, seen = await asyncio.gather(database.writer.submit(first), database.writer.submit(second))
    assert seen.result == ((2, 2, 2), (7,))


async def test_an_awaited_commit_is_seen_by_every_reader(database, make_session):
    session = await make_session()
    for n in range(1, 40):
        await database.writer.commit(saying(session, "x"))
        seen = await asyncio.gather(*[database.records.last_seq(session) for _ in range(4)])
        assert seen == [n] * 4


async def test_counters_are_added_to_the_session(database, make_session):
    session = await make_session()
    units = []
    for _ in range(10):
        unit = saying(session, "x")
        unit.count(session, Counters(messages=1, prompt_tokens=10, cost_nano=5))
        unit.count(session, Counters(errors=2))
        units.append(unit)
    await asyncio.gather(*map(database.writer.submit, units))
    rows = await database.readers.query("SELECT messages, prompt_tokens, cost_nano, errors, last_seq FROM sessions")
    assert rows == [(10, 100, 50, 20, 10)]


async def test_replacing_a_row_keeps_what_refers_to_it(database, make_session):
    session = await make_session()
    await database.writer.commit(saying(session, "x"))
    row = (await database.readers.query("SELECT * FROM sessions"))[0]
    from modular_agent.storage.models import sessions

    unit: UnitOfWork[None] = UnitOfWork()
    unit.insert(sessions, row, conflict=Conflict.REPLACE)
    await database.writer.commit(unit)
    assert await database.records.count(session) == 1


async def test_more_rows_than_one_statement_takes_are_stored(database, make_session):
    session = await make_session()
    unit = saying(session, *[str(n) for n in range(3_000)])
    for n in range(7_001):
        unit.insert(errors, (f"e{n}", session.n, None, None, n, "T", "m", "error", "f"))
        unit.insert(idempotency_keys, key_row(str(n % 100)), conflict=Conflict.IGNORE)
    await database.writer.commit(unit)
    assert await database.readers.query("SELECT count(*), min(ts), max(ts) FROM errors") == [(7_001, 0, 7_000)]
    assert await database.readers.query("SELECT count(*) FROM idempotency_keys") == [(100,)]
    assert await database.records.last_seq(session) == 3_000


async def test_listeners_hear_of_records_in_log_order_before_their_writers(database, make_session):
    session = await make_session()
    heard: list[int] = []
    known: list[tuple[int, int]] = []

    def listen(records: Sequence[CommittedRecord]) -> None:
        heard.extend(record.seq for record in records)

    stop = database.log.listen(listen)
    for n in range(30):
        database.writer.submit(saying(session, "x")).add_done_callback(
            lambda future: known.append((future.result().records[0].seq, len(heard)))
        )
        if n % 7 == 0:
            await asyncio.sleep(0.001)
    await database.writer.commit(saying(session, "last"))
    assert heard == list(range(1, 32))
    assert all(count >= seq for seq, count in known)
    stop()
    await database.writer.commit(saying(session, "unheard"))
    assert heard[-1] == 31


async def test_nothing_is_published_for_a_refused_unit(database, make_session, make_run):
    session = await make_session()
    heard: list[CommittedRecord] = []
    database.log.listen(heard.extend)
    unit = saying(session, "x")
    unit.fences.append(Fence("run_missing", 1))
    with pytest.raises(StaleEpoch):
        await database.log.append(unit)
    assert heard == []


async def test_a_failing_listener_fails_no_writer(database, make_session):
    session = await make_session()
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))

    def fail(_: Sequence[CommittedRecord]) -> None:
        raise Refused

    database.log.listen(fail)
    done = await database.log.append(saying(session, "x"))
    assert done.records[0].seq == 1
    assert isinstance(reported[0], Refused)


async def test_time_never_goes_back_within_a_session(database, make_session, clock):
    session = await make_session()
    start = clock.now
    stamps = []
    for moved in (0, 5, -3_600_000_000, -1, 10):
        clock.now = start + moved
        stamps.append((await database.log.append(saying(session, "x"))).records[0].ts - start)
    assert stamps == [0, 5, 5, 5, 10]


async def test_a_new_month_starts_a_new_file_even_when_the_clock_wavers(database, make_session, clock):
    session = await make_session()
    clock.now = 1_793_491_199_999_999  # the last microsecond of 2026-10
    first = (await database.log.append(saying(session, "a"))).records[0]
    clock.now += 1
    second = (await database.log.append(saying(session, "b"))).records[0]
    clock.now -= 10
    third = (await database.log.append(saying(session, "c"))).records[0]
    rows = await database.readers.query("SELECT seq, month, offset, length FROM records ORDER BY seq")
    size = len(second.line)
    assert rows == [(1, 202610, 0, len(first.line)), (2, 202611, 0, size), (3, 202611, size, len(third.line))]
    files = await database.readers.query("SELECT month, length FROM log_files ORDER BY month")
    assert files == [(202610, len(first.line)), (202611, size + len(third.line))]


async def test_the_log_goes_on_where_it_stood_after_reopening(tmp_path: Path, clock):
    new = NewSession(session_id="s", workflow_id="w", workflow_version="h", workflow_config_path="p", now_us=1)
    async with Database.open(tmp_path, clock=clock) as database:
        session = (await database.writer.commit(UnitOfWork(then=create_session(new)))).result
        await database.log.append(saying(session, "a", "b"))
    clock.now -= 1_000_000
    async with Database.open(tmp_path, clock=clock) as database:
        record = (await database.log.append(saying(session, "c"))).records[0]
        assert (record.seq, record.ts) == (3, clock.now + 1_000_000)
        assert [r.seq for r in await database.log.read_after(session, seq=0, limit=9)] == [1, 2, 3]


async def test_a_full_database_refuses_the_group_and_the_writer_lives_on(database, make_session):
    session = await make_session()
    await database.log.append(saying(session, "before"))

    def limit(connection: sqlite3.Connection) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages + 2}")

    await database.writer.exclusive(limit)
    results = await asyncio.gather(
        *[database.writer.submit(saying(session, "x" * 50_000)) for _ in range(3)], return_exceptions=True
    )
    assert [type(result) for result in results] == [StorageFull] * 3
    await database.writer.exclusive(lambda connection: connection.execute("PRAGMA max_page_count=1000000").fetchone())
    assert (await database.log.append(saying(session, "after"))).records[0].seq == 2


async def test_a_full_queue_refuses_a_submission_and_lets_a_commit_wait(tmp_path: Path, clock):
    new = NewSession(session_id="s", workflow_id="w", workflow_version="h", workflow_config_path="p", now_us=1)
    async with Database.open(tmp_path, clock=clock, queue_limit=4) as database:
        session = (await database.writer.commit(UnitOfWork(then=create_session(new)))).result
        assert session is not None
        futures = [database.writer.submit(saying(session, "x")) for _ in range(4)]
        with pytest.raises(StorageBusy):
            database.writer.submit(saying(session, "too many"))
        waiting = [asyncio.create_task(database.writer.commit(saying(session, "y"))) for _ in range(20)]
        done = await asyncio.gather(*futures, *waiting)
        assert sorted(r.records[0].seq for r in done) == list(range(1, 25))


async def test_closing_commits_what_was_submitted_and_refuses_more(tmp_path: Path, clock):
    new = NewSession(session_id="s", workflow_id="w", workflow_version="h", workflow_config_path="p", now_us=1)
    async with Database.open(tmp_path, clock=clock) as database:
        session = (await database.writer.commit(UnitOfWork(then=create_session(new)))).result
        futures = [database.writer.submit(saying(session, "x")) for _ in range(700)]
    assert [future.result().records[0].seq for future in futures] == list(range(1, 701))
    with pytest.raises(StorageClosed):
        database.writer.submit(saying(session, "late"))
    with pytest.raises(StorageClosed):
        await database.records.last_seq(session)


async def test_a_cancelled_waiter_does_not_take_its_unit_back(database, make_session):
    session = await make_session()
    task = asyncio.create_task(database.writer.commit(saying(session, "kept")))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (await database.log.append(saying(session, "next"))).records[0].seq == 2


@pytest.fixture
def greedy_threads() -> Iterator[None]:
    """A thread that has the GIL keeps it: what a busy event loop may do to the writer at any time, made certain."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5)
    yield
    sys.setswitchinterval(before)


async def test_a_busy_event_loop_does_not_starve_the_writer(database, make_session, greedy_threads):
    session = await make_session()
    loop = asyncio.get_running_loop()
    running = True

    def burn() -> None:
        end = time.perf_counter() + 0.0003
        while time.perf_counter() < end:
            pass
        if running:
            loop.call_soon(burn)

    for _ in range(4):
        loop.call_soon(burn)
    taken = []
    for _ in range(12):
        start = time.perf_counter()
        await database.log.append(saying(session, "x"))
        taken.append(time.perf_counter() - start)
    running = False
    assert max(taken) < 1.0  # without the handover: several seconds


async def test_two_hundred_writers_at_once_never_meet_a_lock(database, make_session):
    sessions = [await make_session(f"s-{n}") for n in range(20)]

    async def write(number: int) -> None:
        session = sessions[number % 20]
        for n in range(5):
            unit = saying(session, f"{number}.{n}")
            unit.insert(
                checkpoints,
                (session.n, "", f"{number:03}.{n}", None, None, None, n, "loop", 1, None, "m", b"c", b"{}"),
            )
            await database.log.append(unit)
            assert await database.records.last_seq(session) > 0

    await asyncio.gather(*[write(number) for number in range(200)])
    for session in sessions:
        found = await database.records.after(session, seq=0, limit=100)
        assert [record.seq for record in found] == list(range(1, 51))
    assert await database.readers.query("SELECT count(*) FROM checkpoints") == [(1_000,)]


async def test_the_wal_stays_small_while_much_is_written(database, make_session):
    session = await make_session()
    for _ in range(60):
        await database.log.append(saying(session, *["x" * 20_000] * 50))
    wal = database.location.database.with_name("modular_agent.db-wal")
    assert wal.stat().st_size < 24 * 1024 * 1024
