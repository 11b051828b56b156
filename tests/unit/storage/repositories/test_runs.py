import asyncio

import pytest

from modular_agent.errors import IllegalTransition
from modular_agent.events import Record, RecordType, SessionRef
from modular_agent.lifecycle import RunStatus
from modular_agent.storage.errors import RunAlreadyActive, RunUnknown, SessionUnknown, StaleEpoch
from modular_agent.storage.models import ACTIVE_STATUSES_SQL
from modular_agent.storage.repositories.run_steps import change_run, create_run, transition_run
from modular_agent.storage.repositories.runs import (
    NewRun,
    RunChange,
    RunRepository,
    add_to_inbox,
    take_inbox,
)
from modular_agent.storage.repositories.sessions import SessionRepository
from modular_agent.storage.unit_of_work import UnitOfWork


@pytest.fixture
def runs(database):
    return RunRepository(database.readers)


@pytest.fixture
def do(database):
    async def commit(step):
        return (await database.writer.commit(UnitOfWork(then=step))).result

    return commit


@pytest.fixture
async def session(make_session):
    return await make_session()


async def session_row(database, ref):
    return await SessionRepository(database.readers).get(ref.session_id)


async def test_a_run_is_read_as_it_was_made(database, runs, session, do, clock):
    unit: UnitOfWork[None] = UnitOfWork()
    unit.record(session, Record(record_type=RecordType.LOG, fields={}))
    await database.log.append(unit)
    made = await do(
        create_run(
            NewRun(run_id="r", session=session, now_us=5, input={"message": "你好"}, limits={"max_cost_usd": 0.5})
        )
    )
    assert made == await runs.get("r") == await runs.active(session)
    assert (made.input, made.limits, made.spent) == ({"message": "你好"}, {"max_cost_usd": 0.5}, {})
    assert (made.status, made.epoch, made.first_seq, made.session_n) == (RunStatus.QUEUED, 1, 1, session.n)
    row = await session_row(database, session)
    assert (row.status, row.current_run_id) == ("active", "r")


async def test_of_runs_created_at_once_one_becomes_active(session, do, runs):
    new = [create_run(NewRun(run_id=f"r{n}", session=session, now_us=1)) for n in range(20)]
    results = await asyncio.gather(*map(do, new), return_exceptions=True)
    refused = [result for result in results if isinstance(result, RunAlreadyActive)]
    assert len(refused) == 19
    assert {(error.run_id, error.status) for error in refused} == {("r0", "queued")}
    assert (await runs.page(session, limit=10)).total == 1


async def test_a_run_of_an_unknown_session_is_refused(do, database):
    with pytest.raises(SessionUnknown):
        await do(create_run(NewRun(run_id="r", session=SessionRef(99, "none"), now_us=1)))


async def test_a_status_changes_by_the_table_and_the_session_follows(database, session, do):
    await do(create_run(NewRun(run_id="r", session=session, now_us=1)))
    seen = []
    for now, target in enumerate(["running", "pausing", "paused", "running", "failed", "running", "completed"], 10):
        run = await do(
            transition_run(
                "r", RunStatus(target), now_us=now, raise_epoch=target == "running", change=RunChange(active_us=100)
            )
        )
        row = await session_row(database, session)
        seen.append((target, run.epoch, run.started_at, run.ended_at, row.status, row.current_run_id))
    assert run.active_us == 700
    assert seen == [
        ("running", 2, 10, None, "active", "r"),
        ("pausing", 2, 10, None, "active", "r"),
        ("paused", 2, 10, None, "paused", "r"),
        ("running", 3, 10, None, "active", "r"),
        ("failed", 3, 10, 14, "error", None),
        ("running", 4, 10, None, "active", "r"),
        ("completed", 4, 10, 16, "completed", None),
    ]
    with pytest.raises(IllegalTransition):
        await do(transition_run("r", RunStatus.RUNNING, now_us=1))


async def test_a_transition_of_another_epoch_or_run_is_refused(session, do, make_run, runs):
    run = await make_run(session)
    with pytest.raises(StaleEpoch):
        await do(transition_run(run.run_id, RunStatus.PAUSED, now_us=1, expected_epoch=7))
    with pytest.raises(RunUnknown):
        await do(transition_run("none", RunStatus.PAUSED, now_us=1))
    assert await runs.get(run.run_id) == run


async def test_a_retry_waits_for_the_active_run(session, do):
    for run_id in ("first", "second"):
        await do(create_run(NewRun(run_id=run_id, session=session, now_us=1, status=RunStatus.RUNNING)))
        if run_id == "first":
            await do(transition_run("first", RunStatus.FAILED, now_us=1))
    with pytest.raises(RunAlreadyActive) as refused:
        await do(transition_run("first", RunStatus.RUNNING, now_us=1))
    assert refused.value.run_id == "second"


async def test_a_change_touches_only_what_it_names(session, do, make_run):
    run = await make_run(session)
    changed = await do(
        change_run(
            run.run_id,
            RunChange(
                spent={"cost_nano": 5},
                pending={"answers": [None, 1]},
                result="done",
                error={"code": "x"},
                current_node="think",
                steps=2,
            ),
            raise_epoch=True,
        )
    )
    assert (changed.spent, changed.pending, changed.result) == ({"cost_nano": 5}, {"answers": [None, 1]}, "done")
    assert (changed.error, changed.current_node, changed.steps, changed.epoch) == ({"code": "x"}, "think", 2, 2)
    again = await do(change_run(run.run_id, RunChange(error=None, pending=None, steps=1), expected_epoch=2))
    assert (again.error, again.pending, again.steps, again.result, again.epoch) == (None, None, 3, "done", 2)


async def test_runs_come_newest_first_and_active_ones_of_all_sessions_oldest_first(make_session, do, runs, database):
    refs = [await make_session(f"s-{n}") for n in range(3)]
    for n in range(5):
        await do(create_run(NewRun(run_id=f"old-{n}", session=refs[0], now_us=n, status=RunStatus.RUNNING)))
        await do(transition_run(f"old-{n}", RunStatus.COMPLETED, now_us=n))
    for n, ref in enumerate(refs):
        await do(create_run(NewRun(run_id=f"now-{n}", session=ref, now_us=100 - n)))
    page = await runs.page(refs[0], limit=2, offset=1)
    assert ([run.run_id for run in page.runs], page.total) == (["old-4", "old-3"], 6)
    behind = await runs.page(refs[0], limit=3, after=page.after)
    assert ([run.run_id for run in behind.runs], behind.total, behind.after) == (["old-2", "old-1", "old-0"], 6, None)
    assert [(ref.session_id, run.run_id) for ref, run in await runs.all_active()] == [
        ("s-2", "now-2"),
        ("s-1", "now-1"),
        ("s-0", "now-0"),
    ]


async def test_active_runs_are_found_by_the_partial_index(database):
    for condition in (f"session_n = 1 AND {ACTIVE_STATUSES_SQL}", ACTIVE_STATUSES_SQL):
        plan = await database.readers.query(f"EXPLAIN QUERY PLAN SELECT run_id FROM runs WHERE {condition}")
        assert "active" in str(plan)
        assert "SCAN runs USING" in str(plan) or "SEARCH runs USING INDEX" in str(plan)


async def test_the_inbox_keeps_its_order_and_is_taken_once(session, do, runs):
    added = [await do(add_to_inbox(session, {"n": n}, run_id=None, now_us=1)) for n in range(5)]
    assert [row.message["n"] for row in await runs.inbox(session)] == [0, 1, 2, 3, 4]
    taken = await do(take_inbox(session, inbox_ids=[added[3].inbox_id, added[1].inbox_id]))
    assert [row.message["n"] for row in taken] == [1, 3]
    both = await asyncio.gather(do(take_inbox(session)), do(take_inbox(session)))
    assert [[row.message["n"] for row in rows] for rows in both] == [[0, 2, 4], []]
    assert await runs.inbox(session) == []
