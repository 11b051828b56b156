"""The hub towards its subscribers: order, completeness, laggards, endings, bounds."""

import asyncio

import orjson
import pytest

from modular_agent.errors import ServerStopping
from modular_agent.events import RecordType, SessionRef
from modular_agent.kit.clock import SystemClock
from modular_agent.realtime.errors import LogUnavailable
from modular_agent.realtime.event import Event
from modular_agent.realtime.hub import Hub, HubLimits
from modular_agent.realtime.ports import Head
from modular_agent.realtime.subscription import SessionSubscription
from modular_agent.realtime.topic import Ending
from unit.realtime.memory_log import MemoryLog, NoSuchSession, data


async def collect(subscription: SessionSubscription, upto: int) -> list[Event]:
    events: list[Event] = []
    async with asyncio.timeout(5):
        while not events or (events[-1].seq or 0) < upto:
            events += await subscription.next_batch()
    return events


async def test_a_subscriber_gets_what_was_before_and_what_comes_once_and_in_order(hub: Hub, log: MemoryLog) -> None:
    session = log.session()
    hub.publish(log.append_many(session, 5))
    async with hub.subscribe(session, after_seq=2) as subscription:
        hub.publish(log.append_many(session, 3))
        events = await collect(subscription, 8)
    assert [event.seq for event in events] == [3, 4, 5, 6, 7, 8]


async def test_records_that_are_missing_in_what_is_published_together_come_out_of_the_log(
    hub: Hub, log: MemoryLog
) -> None:
    session = log.session()
    async with hub.subscribe(session, after_seq=0) as subscription:
        records = log.append_many(session, 6)
        hub.publish([*records[:2], *records[4:]])
        events = await collect(subscription, 6)
    assert [event.seq for event in events] == [1, 2, 3, 4, 5, 6]


async def test_the_envelope_holds_the_stored_line_and_is_the_same_object_for_all(hub: Hub, log: MemoryLog) -> None:
    session = log.session()
    async with hub.subscribe(session, after_seq=0) as one, hub.subscribe(session, after_seq=0) as two:
        [record] = log.append_many(session, 1)
        hub.publish([record])
        [first], [second] = await one.next_batch(), await two.next_batch()
    assert first.envelope is second.envelope
    envelope = orjson.loads(first.envelope)
    assert (envelope["type"], envelope["seq"], envelope["session_id"]) == ("log", 1, session.session_id)
    assert record.line.rstrip() in first.envelope


async def test_who_falls_behind_the_ring_is_caught_up_from_the_log(hub: Hub, log: MemoryLog) -> None:
    session = log.session()
    async with hub.subscribe(session, after_seq=0) as subscription:
        for _ in range(10):
            hub.publish(log.append_many(session, 30))
        events = await collect(subscription, 300)
    assert [event.seq for event in events] == list(range(1, 301))
    assert log.reads > 0


async def test_records_published_while_the_log_is_read_are_neither_lost_nor_repeated(hub: Hub, log: MemoryLog) -> None:
    session = log.session()
    hub.publish(log.append_many(session, 100))
    log.delay = 0.002
    async with hub.subscribe(session, after_seq=0) as subscription:
        reader = asyncio.ensure_future(collect(subscription, 400))
        for _ in range(300):
            hub.publish(log.append_many(session, 1))
            await asyncio.sleep(0.0003)
        events = await reader
    assert [event.seq for event in events] == list(range(1, 401))


async def test_a_record_read_from_the_log_before_it_is_published_comes_once(hub: Hub, log: MemoryLog) -> None:
    session = log.session()
    records = log.append_many(session, 4)
    hub.publish(records[:2])
    async with hub.subscribe(session, after_seq=0) as subscription:
        first = await collect(subscription, 4)
        hub.publish(records[2:])
        hub.publish(log.append_many(session, 1))
        rest = await collect(subscription, 5)
    assert [event.seq for event in first + rest] == [1, 2, 3, 4, 5]


async def test_records_published_twice_come_once(hub: Hub, log: MemoryLog) -> None:
    session = log.session()
    records = log.append_many(session, 3)
    async with hub.subscribe(session, after_seq=0) as subscription:
        hub.publish(records)
        hub.publish(records)
        hub.publish(log.append_many(session, 1))
        assert [event.seq for event in await collect(subscription, 4)] == [1, 2, 3, 4]


async def test_a_hole_in_what_is_published_is_filled_from_the_log(hub: Hub, log: MemoryLog) -> None:
    session = log.session()
    records = log.append_many(session, 9)
    async with hub.subscribe(session, after_seq=0) as subscription:
        hub.publish(records[:3])
        hub.publish(records[7:])
        assert [event.seq for event in await collect(subscription, 9)] == list(range(1, 10))


async def test_without_a_cursor_a_subscription_begins_now(hub: Hub, log: MemoryLog) -> None:
    session = log.session()
    log.append_many(session, 7)
    subscription = hub.subscribe(session, after_seq=None)
    assert await subscription.start() == Head(7, 0)
    hub.publish(log.append_many(session, 1))
    assert [event.seq for event in await subscription.next_batch()] == [8]
    subscription.close()


async def test_types_filter_what_is_delivered_and_not_where_it_stands(hub: Hub, log: MemoryLog) -> None:
    session = log.session()
    log.append_many(session, 100)
    log.append(session, RecordType.ERROR, error_id="e1")
    log.append_many(session, 100)
    async with hub.subscribe(session, after_seq=0, types=["error_event"]) as subscription:
        assert [event.seq for event in await subscription.next_batch()] == [101]
        hub.publish([*log.append_many(session, 1), log.append(session, RecordType.ERROR, error_id="e2")])
        assert [event.seq for event in await subscription.next_batch()] == [203]


async def test_a_cursor_beyond_the_log_gets_log_reset_and_the_end(hub: Hub, log: MemoryLog) -> None:
    session = log.session()
    log.append_many(session, 3)
    log.generations[session.n] = 1
    async with hub.subscribe(session, after_seq=9) as subscription:
        [event] = await subscription.next_batch()
        assert event.type == "log_reset"
        assert data(event) == {"last_seq": 3, "generation": 1}
        assert await subscription.next_batch() == []
        assert subscription.ending is Ending.RESET


async def test_a_cursor_of_an_older_generation_gets_log_reset_even_if_the_log_is_longer(
    hub: Hub, log: MemoryLog
) -> None:
    session = log.session()
    hub.publish(log.append_many(session, 30))
    log.generations[session.n] = 2
    async with hub.subscribe(session, after_seq=3, generation=1) as subscription:
        assert [event.type for event in await subscription.next_batch()] == ["log_reset"]
    async with hub.subscribe(session, after_seq=3, generation=2) as subscription:
        assert [event.seq for event in await collect(subscription, 30)] == list(range(4, 31))


async def test_a_log_taken_back_ends_subscriptions_and_starts_anew(hub: Hub, log: MemoryLog) -> None:
    session = log.session()
    hub.publish(log.append_many(session, 10))
    async with hub.subscribe(session, after_seq=0) as old:
        await collect(old, 10)
        del log.records[session.n][4:]
        log.generations[session.n] = 1
        hub.log_reset(session, Head(4, 1))
        assert [event.type for event in await old.next_batch()] == ["log_reset"]
    hub.publish(log.append_many(session, 1))
    async with hub.subscribe(session, after_seq=4, generation=1) as fresh:
        assert [event.seq for event in await fresh.next_batch()] == [5]


async def test_a_reset_while_the_log_is_read_delivers_nothing_of_the_new_generation(hub: Hub, log: MemoryLog) -> None:
    session = log.session()
    log.append_many(session, 50)
    async with hub.subscribe(session, after_seq=0) as subscription:
        log.gate.clear()
        reader = asyncio.ensure_future(subscription.next_batch())
        await asyncio.sleep(0.01)
        hub.log_reset(session, Head(4, 1))
        log.gate.set()
        assert [event.type for event in await reader] == ["log_reset"]


async def test_a_deleted_session_ends_its_subscriptions(hub: Hub, log: MemoryLog) -> None:
    session = log.session()
    hub.publish(log.append_many(session, 2))
    async with hub.subscribe(session, after_seq=0) as subscription:
        del log.records[session.n]
        hub.session_deleted(session)
        assert [event.type for event in await subscription.next_batch()] == ["log", "log", "session_deleted"]
        assert subscription.ending is Ending.DELETED


async def test_an_unknown_session_is_refused_and_leaves_nothing_behind(hub: Hub, log: MemoryLog) -> None:
    with pytest.raises(NoSuchSession):
        async with hub.subscribe(SessionRef(99, "react-none"), after_seq=0):
            pass
    assert not any(topic.subscribers for topic in hub._topics.values())


async def test_closing_the_hub_ends_waiting_readers(log: MemoryLog) -> None:
    session = log.session()
    async with Hub(log, tenants=log, clock=SystemClock()) as hub:
        subscription, live = hub.subscribe(session, after_seq=0), hub.watch("acme")
        readers = [asyncio.ensure_future(each.next_batch()) for each in (subscription, live)]
        await asyncio.sleep(0.01)
    assert await asyncio.gather(*readers) == [[], []]
    assert subscription.ending is Ending.CLOSED
    with pytest.raises(ServerStopping):
        hub.subscribe(session, after_seq=0)


async def test_a_log_that_does_not_answer_is_reported_in_time(log: MemoryLog) -> None:
    session = log.session()
    log.append_many(session, 3)
    async with (
        Hub(log, tenants=log, clock=SystemClock(), limits=HubLimits(log_timeout=0.05)) as hub,
        hub.subscribe(session, after_seq=0) as subscription,
    ):
        log.gate.clear()
        with pytest.raises(LogUnavailable):
            await subscription.next_batch()
        log.gate.set()
        assert [event.seq for event in await collect(subscription, 3)] == [1, 2, 3]


async def test_a_timeout_answers_empty_and_a_later_event_is_not_lost(hub: Hub, log: MemoryLog) -> None:
    session = log.session()
    async with hub.subscribe(session, after_seq=0) as subscription:
        assert await subscription.next_batch(timeout=0.01) == []
        assert subscription.ending is None
        hub.publish(log.append_many(session, 1))
        assert [event.seq for event in await subscription.next_batch(timeout=1)] == [1]


async def test_a_cancelled_reader_loses_nothing(hub: Hub, log: MemoryLog) -> None:
    session = log.session()
    async with hub.subscribe(session, after_seq=0) as subscription:
        reader = asyncio.ensure_future(subscription.next_batch())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        hub.publish(log.append_many(session, 2))
        assert [event.seq for event in await subscription.next_batch()] == [1, 2]


async def test_memory_stays_within_its_bounds_and_nobody_loses_an_event(log: MemoryLog) -> None:
    limits = HubLimits(total_bytes=100_000, idle_sessions=50)
    async with Hub(log, tenants=log, clock=SystemClock(), limits=limits) as hub:
        watched = [log.session(n) for n in range(1, 11)]
        subscriptions = [hub.subscribe(session, after_seq=0) for session in watched]
        for n in range(100, 300):
            hub.publish(log.append_many(log.session(n), 5))
        for _ in range(50):
            for session in watched:
                hub.publish(log.append_many(session, 4))
        held = sum(topic.ring.size for topic in hub._topics.values())
        assert held == hub._bytes
        assert held < 110_000
        assert len(hub._topics) <= 60
        for subscription in subscriptions:
            assert [event.seq for event in await collect(subscription, 200)] == list(range(1, 201))
            subscription.close()


async def test_subscribing_and_leaving_while_events_are_published_disturbs_nobody(hub: Hub, log: MemoryLog) -> None:
    session = log.session()

    async def come_and_go(index: int) -> None:
        for _ in range(10):
            async with hub.subscribe(session, after_seq=None) as subscription:
                await subscription.next_batch(timeout=0.001 * (index % 5))

    async with hub.subscribe(session, after_seq=0) as faithful:
        guests = [asyncio.ensure_future(come_and_go(index)) for index in range(30)]
        for _ in range(200):
            hub.publish(log.append_many(session, 1))
            await asyncio.sleep(0)
        await asyncio.gather(*guests)
        assert [event.seq for event in await collect(faithful, 200)] == list(range(1, 201))
    assert hub._topics[session.n].subscribers == 0
    assert not hub._topics[session.n].waiting
