"""Feeds of a tenant: everything live, bounded, and only the tenant's own."""

import asyncio
from collections.abc import Mapping
from typing import Any

from modular_agent.events import RecordType
from modular_agent.kit.clock import SystemClock
from modular_agent.realtime.hub import Hub, HubLimits
from modular_agent.realtime.metrics import MetricsPublisher
from unit.realtime.memory_log import MemoryLog, data, delta


async def test_a_watcher_sees_all_sessions_of_its_tenant_and_of_no_other(hub: Hub, log: MemoryLog) -> None:
    mine, other, also = log.session(1), log.session(2, tenant="globex"), log.session(3)
    hub.publish(log.append_many(mine, 1))
    async with hub.watch("acme") as watcher:
        for session in (mine, other, also):
            hub.publish(log.append_many(session, 2))
        seen = []
        while len(seen) < 4:
            seen += await watcher.next_batch(timeout=1)
        assert await watcher.next_batch(timeout=0.02) == []
    places = [(event.session_id, event.seq) for event in seen]
    assert places == [(mine.session_id, 2), (mine.session_id, 3), (also.session_id, 1), (also.session_id, 2)]


async def test_events_keep_their_order_while_the_tenant_is_looked_up(hub: Hub, log: MemoryLog) -> None:
    session = log.session()
    log.delay = 0.01
    async with hub.watch("acme") as watcher:
        for _ in range(40):
            hub.publish(log.append_many(session, 1))
            await asyncio.sleep(0.0005)
        seen = []
        while len(seen) < 40:
            seen += await watcher.next_batch(timeout=1)
    assert [event.seq for event in seen] == list(range(1, 41))


async def test_types_alone_choose_across_sessions(hub: Hub, log: MemoryLog) -> None:
    one, two = log.session(1), log.session(2)
    async with hub.watch("acme", types=["error_event"]) as watcher:
        hub.publish([*log.append_many(one, 3), log.append(one, RecordType.ERROR, error_id="e1")])
        hub.publish([*log.append_many(two, 3), log.append(two, RecordType.ERROR, error_id="e2")])
        seen = []
        while len(seen) < 2:
            seen += await watcher.next_batch(timeout=1)
    assert [data(event)["error_id"] for event in seen] == ["e1", "e2"]


async def test_deltas_come_only_to_those_who_name_them(hub: Hub, log: MemoryLog) -> None:
    session = log.session()
    async with hub.watch("acme") as plain, hub.watch("acme", types=["message_delta"]) as keen:
        hub.delta(delta(session, "Hi", 0))
        hub.publish(log.append_many(session, 1))
        assert [data(event)["text"] for event in await keen.next_batch(timeout=1)] == ["Hi"]
        assert [event.type for event in await plain.next_batch(timeout=1)] == ["log"]


async def test_a_laggard_is_told_what_it_lost_and_goes_on(log: MemoryLog) -> None:
    one, two = log.session(1), log.session(2)
    limits = HubLimits(feed_events=10)
    async with (
        Hub(log, tenants=log, clock=SystemClock(), limits=limits) as hub,
        hub.watch("acme", types=["error_event", "log"]) as watcher,
        hub.watch("acme", types=["log"]) as other,
    ):
        hub.publish([*log.append_many(one, 5), *log.append_many(two, 1)])
        await asyncio.sleep(0.01)
        assert len(await watcher.next_batch(timeout=1)) == 6
        hub.publish([log.append(one, RecordType.ERROR, error_id="e1"), *log.append_many(one, 14)])
        [marker, *rest] = await watcher.next_batch(timeout=1)
        assert marker.type == "lagged"
        assert data(marker) == {"lost": 5, "last_seq": {one.session_id: 10}}
        assert [event.seq for event in rest] == list(range(11, 21))
        [marker, *rest] = await other.next_batch(timeout=1)
        assert data(marker)["lost"] == 10  # 6 and 4: not the error, which it did not ask for
        assert data(marker)["last_seq"] == {one.session_id: 10, two.session_id: 1}


async def test_events_beyond_what_may_wait_for_a_tenant_are_counted_as_lost(log: MemoryLog) -> None:
    session = log.session()
    async with (
        Hub(log, tenants=log, clock=SystemClock(), limits=HubLimits(parked_events=5)) as hub,
        hub.watch("acme") as watcher,
    ):
        log.gate.clear()
        hub.publish(log.append_many(session, 12))
        await asyncio.sleep(0.01)
        log.gate.set()
        seen = await watcher.next_batch(timeout=1)
        assert [event.seq for event in seen] == [1, 2, 3, 4, 5, None]
        assert data(seen[-1]) == {"lost": 7, "last_seq": {session.session_id: 12}}


async def test_a_deleted_session_is_told_to_watchers(hub: Hub, log: MemoryLog) -> None:
    session = log.session()
    async with hub.watch("acme") as watcher:
        del log.tenants[session.n]
        hub.session_deleted(session, tenant="acme")
        assert [event.type for event in await watcher.next_batch(timeout=1)] == ["session_deleted"]


async def test_nothing_is_kept_when_nobody_watches(hub: Hub, log: MemoryLog) -> None:
    async with hub.watch("acme"):
        assert hub.live.active
    assert not hub.live.active
    assert hub.live.wanting("log") == []


class CountingSource:
    def __init__(self) -> None:
        self.samples: list[str] = []
        self.fail = False

    async def sample(self, tenant: str) -> Mapping[str, Any]:
        self.samples.append(tenant)
        if self.fail:
            raise OSError("no figures")
        return {"request_count": len(self.samples)}


async def test_metrics_are_sampled_only_while_somebody_is_subscribed_to_them(hub: Hub) -> None:
    source = CountingSource()
    async with MetricsPublisher(hub.live, source, clock=SystemClock(), interval=0.03):
        async with hub.watch("acme"):
            await asyncio.sleep(0.08)
        assert source.samples == []
        async with hub.watch("acme", types=["performance_metrics"]) as watcher:
            first = await watcher.next_batch(timeout=1)
            second = await watcher.next_batch(timeout=1)
        assert data(first[0]) == {"request_count": 1}
        assert first[0].session_id is None
        assert data(second[0]) == {"request_count": 2}
        await asyncio.sleep(0.05)
        count = len(source.samples)
        await asyncio.sleep(0.08)
        assert len(source.samples) == count


async def test_a_failed_sample_does_not_end_the_metrics(hub: Hub) -> None:
    source = CountingSource()
    source.fail = True
    async with (
        MetricsPublisher(hub.live, source, clock=SystemClock(), interval=0.02),
        hub.watch("acme", types=["performance_metrics"]) as watcher,
    ):
        assert await watcher.next_batch(timeout=0.05) == []
        source.fail = False
        assert [event.type for event in await watcher.next_batch(timeout=1)] == ["performance_metrics"]
