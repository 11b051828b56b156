import asyncio
import sqlite3
import sys
from pathlib import Path

from modular_agent.events import SessionRef
from modular_agent.storage.database import Database
from modular_agent.storage.migrations import create, migrate
from modular_agent.storage.models import llm_calls
from modular_agent.storage.repositories.sessions import mark_deleted, set_workflow_version
from modular_agent.storage.rollup_changes import forget_facts
from modular_agent.storage.sql import InsertTexts
from modular_agent.storage.unit_of_work import UnitOfWork
from unit.domain.analytics.analytics_lab import MovableClock, Store, call_facts, error_facts

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "benchmarks"))
import store as large_store

NUMBERS = {
    "model": "m",
    "node": "think",
    "duration_us": 5_000,
    "first_token_us": 7,
    "prompt_tokens": 3,
    "completion_tokens": 2,
    "cached_tokens": 0,
    "cache_write_tokens": 0,
    "reasoning_tokens": 0,
    "cost_nano": 9,
}


async def fill(store: Store, count: int) -> None:
    session = await store.session("react")
    run = await store.run(session)
    facts = [call_facts("react", run.run_id, {**NUMBERS, "duration_us": 5_000 + n}) for n in range(count)]
    await asyncio.gather(*[store.runs_store.commit(run, each) for each in facts])
    await store.runs_store.commit(run, error_facts(run.run_id, "ToolError", "error"))
    await store.end(session, "completed", active_us=70)


async def test_a_deletion_that_is_cut_off_leaves_true_sums_and_is_ended_at_the_next_start(tmp_path: Path) -> None:
    clock = MovableClock()
    async with Database.open(tmp_path, clock=clock) as database:
        store = Store(database, clock)
        await fill(store, 40)
        kept = await store.sums()
        await fill(store, 700)
        session = store.sessions[1]
        begun = mark_deleted(session, now_us=clock.now)
        await database.writer.commit(UnitOfWork(then=begun, forgets={session.n}))
        texts = InsertTexts()
        piece = UnitOfWork(then=lambda c: forget_facts(c, llm_calls, session.n, limit=500, inserts=texts))
        assert (await database.writer.commit(piece)).result == 500
        half = await store.sums()
        assert half == await store.rebuilt()
        assert half != kept
    async with Database.open(tmp_path, clock=clock) as database:  # opening ends the deletion
        store = Store(database, clock)
        assert await store.sums() == kept == await store.rebuilt()


async def test_runs_count_for_the_workflow_that_their_session_is_bound_to(tmp_path: Path) -> None:
    clock = MovableClock()
    async with Database.open(tmp_path, clock=clock) as database:
        store = Store(database, clock)
        await fill(store, 1)
        step = set_workflow_version(store.sessions[0], workflow_id="other", version="h", config_path="p", now_us=1)
        await database.writer.commit(UnitOfWork(then=step))
        assert {row[2] for row in (await store.sums())["run_hour"]} == {"other"}
        assert await store.sums() == await store.rebuilt()


async def test_a_fact_that_is_told_twice_counts_once(tmp_path: Path) -> None:
    clock = MovableClock()
    async with Database.open(tmp_path, clock=clock) as database:
        store = Store(database, clock)
        run = await store.run(await store.session("react"))
        facts = [call_facts("react", run.run_id, NUMBERS) for _ in range(3)]
        await store.runs_store.commit(run, facts[0])
        await asyncio.gather(*[store.runs_store.commit(run, each) for each in (*facts, facts[1])])
        ((calls, _),) = {(row[5], row[6]) for row in (await store.sums())["usage_day"]}
        assert calls == 3
        assert await store.sums() == await store.rebuilt()


def test_a_database_of_before_gets_its_sums(tmp_path: Path) -> None:
    old = sqlite3.connect(":memory:", isolation_level=None)
    migrate(old, None, target="0001")
    session = ("s", "default", "react", "h", "p", "completed", "[]", "{}", "{}", "{}", 5, 5)
    columns = "session_id, tenant, workflow_id, workflow_version, workflow_config_path, status, tags, agent_config"
    zeros = "generation, last_seq, last_ts, messages, tool_calls, errors, prompt_tokens, completion_tokens"
    rest = "cached_tokens, reasoning_tokens, unpriced_tokens, cost_nano"
    old.execute(
        f"INSERT INTO sessions ({columns}, metadata, initial_state, created_at, updated_at, {zeros}, {rest})"
        f" VALUES ({', '.join('?' * len(session))}{', 0' * 12})",
        session,
    )
    call = ("c", 1, "r", 7_200_000_000, "react", "think", "openai", "m", 100, None, 10, 5, 0, 0, 0, None, None, None)
    old.execute(f"INSERT INTO llm_calls VALUES ({', '.join('?' * len(call))})", call)
    migrate(old, "0001")
    assert old.execute("SELECT hour, model, calls, unpriced_tokens FROM usage_hour").fetchall() == [(2, "m", 1, 15)]
    assert old.execute("SELECT served_by FROM llm_calls").fetchall() == [(None,)]
    old.close()


async def test_the_store_of_the_benchmarks_is_what_the_product_writes(tmp_path: Path) -> None:
    large_store.LONG = 200
    clock = MovableClock()
    large_store.build(tmp_path, 40, now_us=clock.now)
    made = sqlite3.connect(":memory:", isolation_level=None)
    create(made)
    wanted = made.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()
    made.close()
    async with Database.open(tmp_path, clock=clock) as database:
        query = database.readers.query
        assert await query("SELECT type, name, sql FROM sqlite_master ORDER BY name") == wanted
        assert await query("SELECT count(*) FROM sessions") == [(40,)]
        differing = await query(
            "SELECT s.n FROM sessions s LEFT JOIN (SELECT session_n, sum(cost_nano) c, sum(prompt_tokens) p"
            " FROM llm_calls GROUP BY 1) u ON u.session_n = s.n"
            " WHERE s.cost_nano != coalesce(u.c, 0) OR s.prompt_tokens != u.p"
            " OR s.last_seq != (SELECT count(*) FROM records r WHERE r.session_n = s.n)"
            " OR s.last_ts != (SELECT max(ts) FROM records r WHERE r.session_n = s.n)"
            " OR (SELECT sum(length) FROM log_files f WHERE f.session_n = s.n)"
            " != (SELECT sum(length(line)) FROM records r WHERE r.session_n = s.n)"
        )
        assert differing == []
        store = Store(database, clock)
        ((n, session_id),) = await query("SELECT n, session_id FROM sessions WHERE status = 'completed' LIMIT 1")
        sums = await store.sums()
        assert sums == await store.rebuilt()
        await database.removal.delete(SessionRef(n, session_id))  # sums follow, as those that the product made itself
        assert await store.sums() != sums
        assert await store.sums() == await store.rebuilt()
