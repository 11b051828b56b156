"""Token deltas: joined for who comes late, in their place among the records, gone when the message is there."""

import asyncio

from modular_agent.events import RecordType
from modular_agent.kit.clock import SystemClock
from modular_agent.realtime.hub import Hub, HubLimits
from unit.realtime.memory_log import MemoryLog, data, delta


async def test_deltas_follow_one_another_by_offset(hub: Hub, log: MemoryLog) -> None:
    session = log.session()
    async with hub.subscribe(session, after_seq=0) as subscription:
        hub.delta(delta(session, "Hel", 0))
        [first] = await subscription.next_batch()
        hub.delta(delta(session, "lo", 3))
        [second] = await subscription.next_batch()
    assert (data(first)["text"], data(first)["offset"]) == ("Hel", 0)
    assert (data(second)["text"], data(second)["offset"]) == ("lo", 3)
    assert data(first).keys() == {"message_id", "run_id", "node", "text", "offset", "channel"}
    assert first.seq is None


async def test_who_joins_in_the_middle_gets_what_it_missed_as_one_delta(hub: Hub, log: MemoryLog) -> None:
    session = log.session()
    text = "".join(f"token {index} 你好 " for index in range(500))
    for offset in range(0, len(text), 7):
        hub.delta(delta(session, text[offset : offset + 7], offset))
    async with hub.subscribe(session, after_seq=None) as subscription:
        [event] = await subscription.next_batch()
        assert (data(event)["text"], data(event)["offset"]) == (text, 0)
        hub.delta(delta(session, "end", len(text)))
        [rest] = await subscription.next_batch()
        assert (data(rest)["text"], data(rest)["offset"]) == ("end", len(text))


async def test_channels_are_kept_apart(hub: Hub, log: MemoryLog) -> None:
    session = log.session()
    hub.delta(delta(session, "hm, ", 0, channel="reasoning"))
    hub.delta(delta(session, "Yes", 0))
    hub.delta(delta(session, "well", 4, channel="reasoning"))
    async with hub.subscribe(session, after_seq=0) as subscription:
        events = await subscription.next_batch()
    assert {data(event)["channel"]: data(event)["text"] for event in events} == {
        "reasoning": "hm, well",
        "content": "Yes",
    }


async def test_a_delta_waits_for_the_records_before_it(hub: Hub, log: MemoryLog) -> None:
    session = log.session()
    hub.publish(log.append_many(session, 100))
    hub.delta(delta(session, "Hi", 0))
    async with hub.subscribe(session, after_seq=0) as subscription:
        events = []
        while len(events) < 101:
            events += await subscription.next_batch(limit=10)
    assert [event.type for event in events] == ["log"] * 100 + ["message_delta"]


async def test_no_delta_comes_after_the_finished_message(hub: Hub, log: MemoryLog) -> None:
    session = log.session()
    async with hub.subscribe(session, after_seq=0) as subscription:
        hub.delta(delta(session, "Hello", 0))
        hub.publish([log.append(session, RecordType.MESSAGE, record_id="rec_m1", content="Hello")])
        hub.delta(delta(session, " late", 5))
        assert [event.type for event in await subscription.next_batch()] == ["message"]
        assert await subscription.next_batch(timeout=0.01) == []


async def test_no_delta_comes_after_a_message_that_was_read_from_the_log_before_it_was_published(
    hub: Hub, log: MemoryLog
) -> None:
    session = log.session()
    hub.delta(delta(session, "Hello", 0))
    record = log.append(session, RecordType.MESSAGE, record_id="rec_m1", content="Hello")
    async with hub.subscribe(session, after_seq=0) as subscription:
        assert [event.type for event in await subscription.next_batch()] == ["message"]
        assert await subscription.next_batch(timeout=0.01) == []
        hub.publish([record])
        assert await subscription.next_batch(timeout=0.01) == []


async def test_a_client_whose_cursor_is_ahead_of_what_was_published_gets_no_delta_of_what_it_has(
    hub: Hub, log: MemoryLog
) -> None:
    session = log.session()
    hub.delta(delta(session, "Hello", 0))
    record = log.append(session, RecordType.MESSAGE, record_id="rec_m1", content="Hello")
    async with hub.subscribe(session, after_seq=1) as subscription:
        assert await subscription.next_batch(timeout=0.01) == []
        hub.publish([record])
        assert await subscription.next_batch(timeout=0.01) == []
        hub.delta(delta(session, "Next", 0, message_id="rec_m2"))
        assert [data(event)["text"] for event in await subscription.next_batch()] == ["Next"]


async def test_an_abandoned_attempt_is_told_to_those_who_had_text_of_it_and_only_to_them(
    hub: Hub, log: MemoryLog
) -> None:
    session = log.session()
    async with hub.subscribe(session, after_seq=0) as witness, hub.subscribe(session, after_seq=0) as late:
        hub.delta(delta(session, "Wro", 0))
        await witness.next_batch()
        hub.delta(delta(session, "", 0, abandoned=True))
        hub.delta(delta(session, "Right", 0))
        seen = [data(event) for event in await witness.next_batch()]
        assert [(event["text"], event.get("abandoned")) for event in seen] == [("", True), ("Right", None)]
        assert [data(event)["text"] for event in await late.next_batch()] == ["Right"]


async def test_an_abandonment_is_told_before_the_message_that_a_second_attempt_finished(
    hub: Hub, log: MemoryLog
) -> None:
    session = log.session()
    async with hub.subscribe(session, after_seq=0) as subscription:
        hub.delta(delta(session, "Wro", 0))
        await subscription.next_batch()
        hub.delta(delta(session, "", 0, abandoned=True))
        hub.delta(delta(session, "Right", 0))
        hub.publish([log.append(session, RecordType.MESSAGE, record_id="rec_m1", content="Right")])
        events = await subscription.next_batch()
        assert [event.type for event in events] == ["message_delta", "message"]
        assert data(events[0])["abandoned"] is True
        assert await subscription.next_batch(timeout=0.01) == []


async def test_the_end_of_a_run_forgets_its_messages_in_progress_and_not_those_of_others(
    hub: Hub, log: MemoryLog
) -> None:
    session = log.session()
    async with hub.subscribe(session, after_seq=0) as subscription:
        hub.delta(delta(session, "cut of", 0))
        hub.delta(delta(session, "goes on", 0, run_id="run_2", message_id="rec_m2"))
        await subscription.next_batch()
        hub.publish([log.append(session, RecordType.RUN, run_id="run_1", status="stopped")])
        events = await subscription.next_batch()
        assert [event.type for event in events] == ["session_update", "message_delta"]
        assert data(events[1])["abandoned"] is True
        assert data(events[1])["message_id"] == "rec_m1"
    async with hub.subscribe(session, after_seq=1) as joiner:
        assert [data(event)["text"] for event in await joiner.next_batch()] == ["goes on"]


async def test_a_running_status_keeps_the_message_in_progress(hub: Hub, log: MemoryLog) -> None:
    session = log.session()
    hub.delta(delta(session, "Hi", 0))
    hub.publish([log.append(session, RecordType.RUN, run_id="run_1", status="pausing")])
    async with hub.subscribe(session, after_seq=1) as subscription:
        assert [data(event)["text"] for event in await subscription.next_batch()] == ["Hi"]


async def test_types_choose_deltas_or_leave_them_out(hub: Hub, log: MemoryLog) -> None:
    session = log.session()
    hub.delta(delta(session, "Hi", 0))
    async with (
        hub.subscribe(session, after_seq=0, types=["message"]) as without,
        hub.subscribe(session, after_seq=0, types=["message_delta"]) as only,
    ):
        assert await without.next_batch(timeout=0.01) == []
        assert [event.type for event in await only.next_batch()] == ["message_delta"]


async def test_repeated_and_overlapping_deltas_are_joined_by_offset(hub: Hub, log: MemoryLog) -> None:
    session = log.session()
    for text, offset in [("Hello", 0), ("Hello", 0), ("lo wor", 3), ("ld", 9)]:
        hub.delta(delta(session, text, offset))
    async with hub.subscribe(session, after_seq=0) as subscription:
        [event] = await subscription.next_batch()
    assert data(event)["text"] == "Hello world"


async def test_a_hole_between_deltas_shows_in_the_offset(hub: Hub, log: MemoryLog) -> None:
    session = log.session()
    async with hub.subscribe(session, after_seq=0) as subscription:
        hub.delta(delta(session, "Hel", 0))
        await subscription.next_batch()
        hub.delta(delta(session, "world", 6))
        [event] = await subscription.next_batch()
    assert (data(event)["text"], data(event)["offset"]) == ("world", 6)


async def test_deltas_that_come_quickly_are_gathered_but_the_first_is_not_held_back(log: MemoryLog) -> None:
    session = log.session()
    async with (
        Hub(log, tenants=log, clock=SystemClock(), limits=HubLimits(delta_interval=0.5)) as hub,
        hub.subscribe(session, after_seq=0) as subscription,
    ):
        reader = asyncio.ensure_future(subscription.next_batch())
        await asyncio.sleep(0.01)
        hub.delta(delta(session, "a", 0))
        [first] = await asyncio.wait_for(reader, 0.4)
        assert data(first)["text"] == "a"
        reader = asyncio.ensure_future(subscription.next_batch())
        await asyncio.sleep(0.001)
        for offset in range(1, 20):
            hub.delta(delta(session, "b", offset))
            await asyncio.sleep(0.001)
        [second] = await asyncio.wait_for(reader, 5)
        assert len(data(second)["text"]) > 5
        reader = asyncio.ensure_future(subscription.next_batch())
        hub.publish(log.append_many(session, 1))  # a record is never held back
        assert "log" in [event.type for event in await asyncio.wait_for(reader, 0.4)]


async def test_subscribers_at_the_same_place_share_one_encoded_delta(hub: Hub, log: MemoryLog) -> None:
    session = log.session()
    async with hub.subscribe(session, after_seq=0) as one, hub.subscribe(session, after_seq=0) as two:
        hub.delta(delta(session, "Hi", 0))
        assert (await one.next_batch())[0] is (await two.next_batch())[0]


async def test_messages_in_progress_are_bounded(log: MemoryLog) -> None:
    session = log.session()
    limits = HubLimits(partial_messages=3, partial_chars=100)
    async with Hub(log, tenants=log, clock=SystemClock(), limits=limits) as hub:
        for index in range(10):
            for offset in range(0, 1000, 50):
                hub.delta(delta(session, "x" * 50, offset, message_id=f"rec_{index}"))
        async with hub.subscribe(session, after_seq=0) as subscription:
            events = await subscription.next_batch()
        assert [data(event)["message_id"] for event in events] == ["rec_7", "rec_8", "rec_9"]
        assert all(len(data(event)["text"]) == 100 for event in events)
