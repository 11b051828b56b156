"""Every figure equals what a scan of the log gives, whatever happened and whatever range is asked for."""

import asyncio
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modular_agent.domain.analytics.period import Period
from modular_agent.domain.analytics.trends import METRICS, TIME_RANGES, Trend
from modular_agent.storage.database import Database
from modular_agent.storage.rollups import DAY, HOUR, bucket
from modular_agent.storage.statistics.durations import read_durations
from modular_agent.storage.statistics.histograms import counts_of
from modular_agent.storage.statistics.scope import Scope
from unit.domain.analytics.analytics_lab import (
    MovableClock,
    Scan,
    Store,
    call_facts,
    close,
    error_facts,
    microseconds,
    nearest_rank,
)

FOREVER = 2**62
session_places = st.integers(0, 3)
counts = st.integers(0, 5_000)
calls = st.tuples(
    st.just("call"),
    session_places,
    st.fixed_dictionaries(
        {
            "model": st.sampled_from(["small", "large", "模型"]),
            "node": st.sampled_from(["think", "act"]),
            "duration_us": st.integers(1_000, 90_000_000),
            "first_token_us": st.none() | st.integers(1_000, 1_000_000),
            "prompt_tokens": counts,
            "completion_tokens": counts,
            "cached_tokens": st.integers(0, 10),
            "cache_write_tokens": st.integers(0, 10),
            "reasoning_tokens": st.integers(0, 10),
            "cost_nano": st.none() | st.integers(0, 10_000_000),
            "error_kind": st.sampled_from([None, None, None, "timeout"]),
        }
    ),
)
errors = st.tuples(
    st.just("error"), session_places, st.sampled_from(["ToolError", "Timeout"]), st.sampled_from(["error", "warning"])
)
ends = st.tuples(
    st.just("end"),
    session_places,
    st.sampled_from(["completed", "failed", "stopped"]),
    st.integers(1_000, 9_000_000),
    st.booleans(),
)
waits = st.tuples(st.just("wait"), st.sampled_from([1, 60_000_000, HOUR // 3, HOUR, 5 * HOUR, 13 * HOUR, DAY, 3 * DAY]))
deletions = st.tuples(st.just("delete"), session_places)
stories = st.lists(st.one_of(calls, calls, calls, errors, ends, waits, waits, deletions), min_size=1, max_size=40)
edges = st.lists(st.integers(0, 10 * DAY), min_size=2, max_size=2).map(sorted)


async def tell(store: Store, story: list[Any]) -> None:
    """Lets the story happen; calls and errors in a row are committed in one group."""
    pending: list[Any] = []
    for number in range(4):
        await store.session("react" if number % 2 else "research")
    for kind, *what in story:
        if kind in ("call", "error"):
            if not store.sessions:
                continue
            session = store.sessions[what[0] % len(store.sessions)]
            run = await store.run(session)
            facts = (
                call_facts(store.workflows[session.n], run.run_id, what[1])
                if kind == "call"
                else error_facts(run.run_id, *what[1:])
            )
            pending.append(store.runs_store.commit(run, facts))
            continue
        await asyncio.gather(*pending)
        pending.clear()
        if kind == "wait":
            store.clock.now += what[0]
        elif store.sessions:
            session = store.sessions[what[0] % len(store.sessions)]
            if kind == "delete":
                await store.delete(session)
            else:
                await store.end(session, what[1], active_us=what[2], retry=what[3])
    await asyncio.gather(*pending)


def check_timing(found: dict[str, Any], calls: list[dict[str, Any]]) -> None:
    durations = [call["response_time"] for call in calls]
    firsts = [call["time_to_first_token"] for call in calls if call["time_to_first_token"] is not None]
    failed = sum(call["error"] is not None for call in calls)
    assert (found["request_count"], found["failed_requests"]) == (len(calls), failed)
    assert found["error_rate"] == (round(100 * failed / len(calls), 6) if calls else None)
    assert close(found["avg_response_time"], sum(durations) / len(calls) if calls else None)
    assert found["min_response_time"] == min(durations, default=None)
    assert found["max_response_time"] == max(durations, default=None)
    for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        assert close(found[name], nearest_rank(durations, share))
        if name in found["time_to_first_token"]:
            assert close(found["time_to_first_token"][name], nearest_rank(firsts, share))
    assert found["time_to_first_token"]["count"] == len(firsts)


async def check_range(store: Store, records: list[Any], period: Period, session_id: str | None) -> None:
    scan = Scan(records, period.start or 0, FOREVER if period.end is None else period.end, session_id)
    called = scan.calls()
    performance = await store.analytics.performance(period, session_id=session_id)
    check_timing(performance, called)
    assert "p99" in performance["time_to_first_token"]
    for key, name in (("by_model", "model"), ("by_node", "node")):
        groups = scan.by(lambda call, name=name: call[name])
        assert set(performance[key]) == set(groups)
        for group, members in groups.items():
            check_timing(performance[key][group], members)
    tokens = await store.analytics.tokens(period, session_id=session_id, top=100)
    cost = await store.analytics.cost(period, session_id=session_id, top=100)
    usage = scan.usage(called)
    assert {name: tokens[name] for name in usage} == usage
    assert cost["total_cost"] == scan.cost(called)
    assert cost["unpriced_tokens"] == usage["unpriced_tokens"]
    for in_tokens, in_cost, name in (
        ("by_model", "cost_by_model", "model"),
        ("by_workflow", "cost_by_workflow", "workflow_id"),
    ):
        groups = scan.by(lambda call, name=name: call[name])
        assert {key: each["total_tokens"] for key, each in tokens[in_tokens].items()} == {
            key: scan.usage(members)["total_tokens"] for key, members in groups.items()
        }
        assert {key: each["cost"] for key, each in cost[in_cost].items()} == {
            key: scan.cost(members) for key, members in groups.items()
        }
    check_sessions_and_days(scan, tokens, cost)
    await check_errors(store, scan, period, session_id)


def check_sessions_and_days(scan: Scan, tokens: dict[str, Any], cost: dict[str, Any]) -> None:
    if scan.session_id is None:
        sessions = scan.by(lambda call: call["session_id"])
        used = {key: scan.usage(members)["total_tokens"] for key, members in sessions.items()}
        assert {key: each["total_tokens"] for key, each in tokens["by_session"].items()} == {
            key: value for key, value in used.items() if value
        }
        assert list(tokens["by_session"]) == sorted(tokens["by_session"], key=lambda key: -used[key])
        paid = {key: scan.cost(members) for key, members in sessions.items()}
        assert {key: each["cost"] for key, each in cost["cost_by_session"].items()} == {
            key: value for key, value in paid.items() if value
        }
    days = scan.by(lambda call: call["timestamp"][:10])
    assert {day["date"]: day["total_tokens"] for day in tokens["by_day"] if day["request_count"]} == {
        date: scan.usage(members)["total_tokens"] for date, members in days.items()
    }
    assert {day["date"]: day["cost"] for day in cost["cost_trends"] if day["request_count"]} == {
        date: scan.cost(members) for date, members in days.items()
    }
    dates = [day["date"] for day in tokens["by_day"]]
    assert dates == sorted(set(dates))


async def check_errors(store: Store, scan: Scan, period: Period, session_id: str | None) -> None:
    found = await store.analytics.errors(period, session_id=session_id, top=100)
    logged = scan.of("error")
    assert found["error_count"] == len(logged)
    assert found["error_by_type"] == Counter(record["error_type"] for record in logged)
    assert found["error_by_severity"] == Counter(record["severity"] for record in logged)
    assert found["error_by_session"] == Counter(record["session_id"] for record in logged)
    assert sum(point["count"] for point in found["error_trends"]) == len(logged)


async def check_trend(store: Store, records: list[Any], trend: Trend, session_id: str | None) -> None:
    found = await store.analytics.trend(trend, session_id=session_id)
    buckets = TIME_RANGES[trend.time_range]
    points = found["points"]
    starts = [microseconds(point["timestamp"]) for point in points]
    assert starts == [starts[0] + n * buckets.unit for n in range(buckets.number)]
    assert starts[-1] <= store.clock.now < starts[-1] + buckets.unit
    for at, point in zip(starts, points, strict=True):
        check_value(Scan(records, at, at + buckets.unit, session_id), trend.metric, point)
    check_value(Scan(records, starts[0], FOREVER, session_id), trend.metric, found["total"])
    span = buckets.number * buckets.unit
    before = Scan(records, starts[0] - span, store.clock.now + 1 - span, session_id)
    point = {"value": found["change"]["previous"], "count": None}
    check_value(before, trend.metric, point)


def check_value(scan: Scan, metric: str, point: dict[str, Any]) -> None:
    called = scan.calls()
    if metric == "tokens":
        assert point["value"] == scan.usage(called)["total_tokens"]
    elif metric == "cost":
        assert point["value"] == scan.cost(called)
    elif metric == "errors":
        assert point["value"] == len(scan.of("error"))
    elif metric == "runs":
        assert point["value"] == len(scan.run_starts())
    elif metric == "response_time":
        assert close(point["value"], sum(call["response_time"] for call in called) / len(called) if called else None)
    elif metric == "error_rate":
        failed = sum(call["error"] is not None for call in called)
        assert point["value"] == (round(100 * failed / len(called), 6) if called else None)
    elif metric == "throughput" and point["count"] is not None:
        assert point["count"] == len(called)


async def check_statistics(store: Store, records: list[Any]) -> None:
    found = await store.analytics.all_sessions()
    scan = Scan(records, 0, FOREVER)
    ended = scan.run_ends()
    completed = sum(record["status"] == "completed" for record in ended)
    assert found["total_sessions"] == len(store.sessions)
    assert found["ended_runs"] == len(ended)
    assert found["total_runs"] == len(scan.run_starts())
    assert found["error_count"] == len(scan.of("error"))
    assert found["success_rate"] == (round(100 * completed / len(ended), 6) if ended else None)
    for session in store.sessions:
        one = await store.analytics.session(session)
        own = Scan(records, 0, FOREVER, session.session_id)
        ended = own.run_ends()
        completed = sum(record["status"] == "completed" for record in ended)
        assert one["total_errors"] == len(own.of("error"))
        assert one["tokens"] == own.usage(own.calls())["total_tokens"]
        assert one["cost"] == own.cost(own.calls())
        assert one["success_rate"] == (round(100 * completed / len(ended), 6) if ended else None)


async def check_story(folder: Path, story: list[Any], between: list[int]) -> None:
    clock = MovableClock()
    async with Database.open(folder, clock=clock) as database:
        store = Store(database, clock)
        began = clock.now
        await tell(store, story)
        records = await store.records()
        first, last = began + between[0] - DAY, began + between[1] - DAY
        ids = [None, *(session.session_id for session in store.sessions[:1])]
        for session_id in ids:
            for period in (Period(), Period(start=first, end=last), Period(start=first), Period(end=last)):
                await check_range(store, records, period, session_id)
        for metric in METRICS:
            for time_range in ("1h", "7d", "30d") if metric in ("tokens", "runs") else ("24h",):
                for session_id in ids:
                    await check_trend(store, records, Trend(metric, time_range), session_id)
        await check_statistics(store, records)
        sums = await store.sums()
        assert sums == await store.rebuilt()
    assert sorted(map(str, store.scan_files(folder))) == sorted(map(str, records))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(story=stories, between=edges)
def test_every_figure_equals_a_scan_of_the_log(story: list[Any], between: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(check_story(Path(folder), story, between))


async def test_a_histogram_has_the_days_of_its_range_and_no_others(tmp_path: Path) -> None:
    """Of weeks read whole the days that are not wanted are taken away again, at either end."""
    clock = MovableClock()
    numbers = {"node": "think", "first_token_us": None, "cost_nano": None, "error_kind": None}
    numbers |= dict.fromkeys(("prompt_tokens", "completion_tokens", "cached_tokens"), 1)
    numbers |= dict.fromkeys(("cache_write_tokens", "reasoning_tokens"), 0)
    async with Database.open(tmp_path, clock=clock) as database:
        store = Store(database, clock)
        session = await store.session("react")
        run = await store.run(session)
        durations = [1_000 * 2**day for day in range(20)]
        for us in durations:
            facts = call_facts("react", run.run_id, {"model": "small", "duration_us": us, **numbers})
            await store.runs_store.commit(run, facts)
            clock.now += DAY
        day = (clock.now - 20 * DAY) // DAY
        for first in range(20):
            for last in range(first + 1, 21):
                scope = Scope(start=(day + first) * DAY, end=(day + last) * DAY)
                read = partial(read_durations, scope=scope, wanted=[("response", "model")])
                found = (await database.readers.run(read))["response", "model", "small"]
                assert counts_of(found) == {bucket(us): 1 for us in durations[first:last]}, (first, last)
