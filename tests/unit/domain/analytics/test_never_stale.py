"""What comes through the cache is what is there: after every write, whatever was asked before or at the same time."""

import asyncio
import dataclasses
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from modular_agent.domain.analytics.period import Period
from modular_agent.domain.analytics.service import MOMENT, AnalyticsService
from modular_agent.domain.analytics.trends import METRICS, Trend
from modular_agent.engine.store import RunKey
from modular_agent.kit.clock import MICROSECONDS
from modular_agent.storage.cache import MemoryCache
from modular_agent.storage.database import Database
from modular_agent.storage.repositories.call_costs import NewCost, set_costs
from modular_agent.storage.rollups import DAY, HOUR
from modular_agent.storage.sql import InsertTexts
from modular_agent.storage.unit_of_work import UnitOfWork
from unit.domain.analytics.analytics_lab import START, MovableClock, Store, call_facts, error_facts

NUMBERS = {
    "model": "small",
    "node": "think",
    "duration_us": 1_000_000,
    "first_token_us": 1_000,
    "prompt_tokens": 10,
    "completion_tokens": 1,
    "cached_tokens": 0,
    "cache_write_tokens": 0,
    "reasoning_tokens": 0,
    "cost_nano": 5,
    "error_kind": None,
}
changes = st.sampled_from(["call", "call", "late call", "error", "end", "delete", "session", "reprice"])
waits = st.sampled_from([0, int(MOMENT * MICROSECONDS), 90 * MICROSECONDS, HOUR, 13 * HOUR, 3 * DAY])
periods = st.sampled_from(
    [
        Period(),
        Period(start=START - DAY),
        Period(start=START - HOUR, end=START + 2 * DAY),
        Period(start=START - 4 * DAY, end=START + HOUR // 3),
    ]
)
ALL_TIMES = ("performance", Period())
questions = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["performance", "tokens", "cost", "errors"]), periods),
        st.tuples(st.just("trend"), st.builds(Trend, st.sampled_from(sorted(METRICS)), st.sampled_from(["1h", "7d"]))),
        st.tuples(st.just("all_sessions"), st.none()),
    ),
    min_size=1,
    max_size=3,
)


@dataclasses.dataclass
class Uncached:
    """The same database, seen without its cache."""

    readers: Any
    cache: Any


async def ask(analytics: AnalyticsService, question: tuple[str, Any], session_id: str | None) -> dict[str, Any]:
    name, about = question
    if name == "all_sessions":
        return await analytics.all_sessions()
    found = await getattr(analytics, name)(about, session_id=session_id)
    found.pop("resource_usage", None)
    return found


async def change(store: Store, what: str, *, late: RunKey) -> None:
    """`late` is a run whose log has no record since the start: its calls may come at any time since."""
    if what == "late call":
        now, store.clock.now = store.clock.now, START + (store.clock.now - START) // 2
        await call(store, late)
        store.clock.now = now
    elif what == "reprice":
        rows = await store.database.readers.query("SELECT call_id, cost_nano FROM llm_calls")
        costs = {call_id: NewCost((cost or 0) + 1, "override") for call_id, cost in rows}
        await store.database.writer.commit(UnitOfWork(then=set_costs(costs, inserts=InsertTexts())))
    elif what == "session" or not store.sessions:
        await store.session("react")
    elif what == "delete":
        await store.delete(store.sessions[0])
    elif what == "end":
        await store.end(store.sessions[0], "completed", active_us=7)
    elif what == "call":
        await call(store, await store.run(store.sessions[0]))
    else:
        run = await store.run(store.sessions[0])
        await store.runs_store.commit(run, error_facts(run.run_id, "E", "error"))


async def call(store: Store, run: RunKey) -> None:
    await store.runs_store.commit(run, call_facts("react", run.run_id, NUMBERS))


@given(
    st.lists(st.tuples(changes, st.booleans(), waits, questions), min_size=1, max_size=8),
    st.booleans(),
)
@example([("call", False, 3 * DAY, [ALL_TIMES]), ("late call", True, 0, [ALL_TIMES])], False)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_figure_is_older_than_the_last_write(story: list[Any], of_session: bool) -> None:
    async def run(data_path: Path) -> None:
        clock = MovableClock()
        async with Database.open(data_path, clock=clock) as database:
            store = Store(database, clock)
            uncached: Any = Uncached(database.readers, MemoryCache(clock=clock, ttl=0, max_size=0))
            plain = AnalyticsService(uncached, clock=clock)
            late = await store.run(await store.session("react"))
            store.sessions.clear()  # that one is not deleted
            kept = await store.session("react")
            for what, at_once, wait, asked in story:
                if len(store.sessions) < 2 and what == "delete":
                    continue
                store.sessions.sort(key=lambda ref: ref.n == kept.n)  # the one that is asked about is deleted last
                session_id = kept.session_id if of_session else None
                before = [ask(store.analytics, question, session_id) for question in asked]
                if at_once:
                    await asyncio.gather(*before, change(store, what, late=late))
                else:
                    await asyncio.gather(*before)
                    await change(store, what, late=late)
                for moment in (0, wait):
                    clock.now += moment
                    for question in asked:
                        found = await ask(store.analytics, question, session_id)
                        assert found == await ask(plain, question, session_id)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))


async def test_a_call_takes_away_the_part_of_its_time_and_no_other(tmp_path: Path) -> None:
    clock = MovableClock()
    async with Database.open(tmp_path, clock=clock) as database:
        store = Store(database, clock)
        runs = [await store.run(await store.session("react")) for _ in range(2)]
        now = clock.now + 3 * DAY
        question = ("performance", Period(start=START - HOUR, end=now - HOUR))

        async def misses() -> int:
            clock.now = now
            before = database.cache.figures().misses
            await ask(store.analytics, question, None)
            return database.cache.figures().misses - before

        assert await misses() > 20  # the answer, the days between, and the hours of those that are cut
        await call(store, runs[0])
        assert await misses() == 1
        for late in (START + HOUR, START + DAY):  # an hour of the first day, and one of the days between
            clock.now = late
            await call(store, runs[1])
            assert await misses() == 2


async def test_every_question_comes_through_the_cache(tmp_path: Path) -> None:
    clock = MovableClock()
    async with Database.open(tmp_path, clock=clock) as database:
        store = Store(database, clock)
        await call(store, await store.run(await store.session("react")))
        for name in ("performance", "tokens", "cost", "errors", "all_sessions", "trend"):
            question = (name, Trend("tokens", "7d") if name == "trend" else Period())
            first = await ask(store.analytics, question, None)
            hits = database.cache.figures().hits
            assert await ask(store.analytics, question, None) == first
            assert database.cache.figures().hits == hits + 1, name
