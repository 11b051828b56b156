"""What comes through the cache is what is there: after every write, whatever was asked before or at the same time."""

import asyncio
import dataclasses
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modular_agent.domain.analytics.period import Period
from modular_agent.domain.analytics.service import MOMENT, AnalyticsService
from modular_agent.domain.analytics.trends import METRICS, Trend
from modular_agent.kit.clock import MICROSECONDS
from modular_agent.storage.cache import MemoryCache
from modular_agent.storage.database import Database
from modular_agent.storage.rollups import DAY, HOUR
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
changes = st.sampled_from(["call", "call", "error", "end", "delete", "session"])
waits = st.sampled_from([0, int(MOMENT * MICROSECONDS), 90 * MICROSECONDS, HOUR, 13 * HOUR, 3 * DAY])
periods = st.sampled_from([Period(), Period(start=START - DAY), Period(start=START - HOUR, end=START + 2 * DAY)])
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


async def change(store: Store, what: str) -> None:
    session = store.sessions[0] if store.sessions else await store.session("react")
    if what == "session":
        await store.session("react")
    elif what == "delete":
        await store.delete(session)
    elif what == "end":
        await store.end(session, "completed", active_us=7)
    else:
        run = await store.run(session)
        facts = call_facts("react", run.run_id, NUMBERS) if what == "call" else error_facts(run.run_id, "E", "error")
        await store.runs_store.commit(run, facts)


@given(
    st.lists(st.tuples(changes, st.booleans(), waits, questions), min_size=1, max_size=8),
    st.booleans(),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_figure_is_older_than_the_last_write(story: list[Any], of_session: bool) -> None:
    async def run(data_path: Path) -> None:
        clock = MovableClock()
        async with Database.open(data_path, clock=clock) as database:
            store = Store(database, clock)
            uncached: Any = Uncached(database.readers, MemoryCache(clock=clock, ttl=0, max_size=0))
            plain = AnalyticsService(uncached, clock=clock)
            kept = await store.session("react")
            for what, at_once, wait, asked in story:
                if len(store.sessions) < 2 and what == "delete":
                    continue
                store.sessions.sort(key=lambda ref: ref.n == kept.n)  # the one that is asked about is deleted last
                session_id = kept.session_id if of_session else None
                before = [ask(store.analytics, question, session_id) for question in asked]
                if at_once:
                    await asyncio.gather(*before, change(store, what))
                else:
                    await asyncio.gather(*before)
                    await change(store, what)
                for moment in (0, wait):
                    clock.now += moment
                    for question in asked:
                        found = await ask(store.analytics, question, session_id)
                        assert found == await ask(plain, question, session_id)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))


async def test_every_question_comes_through_the_cache(tmp_path: Path) -> None:
    clock = MovableClock()
    async with Database.open(tmp_path, clock=clock) as database:
        store = Store(database, clock)
        await change(store, "call")
        for name in ("performance", "tokens", "cost", "errors", "all_sessions", "trend"):
            question = (name, Trend("tokens", "7d") if name == "trend" else Period())
            first = await ask(store.analytics, question, None)
            hits = database.cache.figures().hits
            assert await ask(store.analytics, question, None) == first
            assert database.cache.figures().hits == hits + 1, name
