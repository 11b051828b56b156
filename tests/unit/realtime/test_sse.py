"""Frames of server-sent events, and the life of a stream."""

import asyncio

import orjson
import pytest

from modular_agent.errors import CursorInvalid
from modular_agent.events import RecordType, SessionRef
from modular_agent.kit.clock import SystemClock
from modular_agent.realtime import sse
from modular_agent.realtime.event import Event
from modular_agent.realtime.hub import Hub, HubLimits
from modular_agent.realtime.ports import Head
from modular_agent.realtime.subscription import Subscription
from unit.realtime.memory_log import MemoryLog, NoSuchSession, delta, envelope_of

CLOCK = SystemClock()
HEARTBEAT = 15.0


def fields(chunk: bytes) -> list[dict[str, str]]:
    """The frames of a chunk, parsed as a browser does; comments and `retry` left out."""
    frames = [frame for frame in chunk.decode().split("\n\n") if frame]
    parsed = [dict(line.split(": ", 1) for line in frame.split("\n") if not line.startswith(":")) for frame in frames]
    return [frame for frame in parsed if frame and "retry" not in frame]


async def test_a_record_is_framed_with_its_seq_type_and_envelope(hub: Hub, log: MemoryLog) -> None:
    session = log.session()
    record = log.append(session, RecordType.MESSAGE, content="两行\nof text")
    [frame] = fields(sse.frames([Event.of_record(record)]))
    assert (frame["id"], frame["event"]) == ("1", "message")
    assert orjson.loads(frame["data"]) == envelope_of(record, "message")


async def test_a_stream_replays_then_goes_on_live_with_several_events_in_a_chunk(hub: Hub, log: MemoryLog) -> None:
    session = log.session()
    hub.publish(log.append_many(session, 10))
    stream = sse.stream(hub.subscribe(session, after_seq=4), clock=CLOCK)
    first = await anext(stream)
    assert first.startswith(b"retry: 2000\n\n")
    assert [frame["id"] for frame in fields(first) if "id" in frame] == ["5", "6", "7", "8", "9", "10"]
    hub.publish(log.append_many(session, 1))
    hub.delta(delta(session, "Hi", 0))
    frames = fields(await anext(stream))
    assert [frame["event"] for frame in frames] == ["log", "message_delta"]
    assert "id" not in frames[1]
    await stream.aclose()
    assert hub._topics[session.n].subscribers == 0


async def test_events_that_follow_closely_share_a_chunk(hub: Hub, log: MemoryLog) -> None:
    session = log.session()
    stream = sse.stream(hub.subscribe(session, after_seq=0), clock=CLOCK, gather=0.1)
    await anext(stream)
    hub.publish(log.append_many(session, 1))
    assert [frame["id"] for frame in fields(await anext(stream))] == ["1"]
    waiting = asyncio.ensure_future(anext(stream))
    for _ in range(3):
        await asyncio.sleep(0)
        hub.publish(log.append_many(session, 1))
    assert [frame["id"] for frame in fields(await waiting)] == ["2", "3", "4"]
    await stream.aclose()


async def test_the_end_of_a_run_is_not_held_back(hub: Hub, log: MemoryLog) -> None:
    session = log.session()
    stream = sse.stream(hub.subscribe(session, after_seq=0), clock=CLOCK, run_id="run_1", gather=60.0)
    await anext(stream)
    hub.publish([log.append(session, RecordType.RUN, run_id="run_1", status="running")])
    await anext(stream)
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    hub.publish([log.append(session, RecordType.RUN, run_id="run_1", status="completed")])
    async with asyncio.timeout(5):
        assert [frame["event"] for frame in fields(await waiting)][-1] == "end"


async def test_silence_is_broken_by_comments(hub: Hub, log: MemoryLog) -> None:
    stream = sse.stream(hub.subscribe(log.session(), after_seq=0), clock=CLOCK, heartbeat=0.01)
    chunks = [await anext(stream) for _ in range(3)]
    assert chunks[1:] == [b": heartbeat\n\n"] * 2
    await stream.aclose()


@pytest.mark.parametrize("status", ["completed", "failed", "stopped", "paused"])
async def test_the_stream_of_one_run_ends_with_it(hub: Hub, log: MemoryLog, status: str) -> None:
    session = log.session()
    log.append(session, RecordType.RUN, run_id="run_1", status=status)
    stream = sse.stream(hub.subscribe(session, after_seq=1), clock=CLOCK, run_id="run_1")
    await anext(stream)
    hub.publish(
        [
            log.append(session, RecordType.RUN, run_id="run_1", status="running"),
            log.append(session, RecordType.LOG, run_id="run_0", message="of another run"),
            log.append(session, RecordType.RUN, run_id="run_0", status="completed"),
            log.append(session, RecordType.RUN, run_id="run_1", status=status),
            log.append(session, RecordType.LOG, message="afterwards"),
        ]
    )
    frames = fields(b"".join([chunk async for chunk in stream]))
    assert [frame.get("id") for frame in frames] == ["2", "5", None]
    assert frames[-1]["event"] == "end"
    assert orjson.loads(frames[-1]["data"])["data"] == {"run_id": "run_1", "status": status}


async def test_a_browser_with_a_stale_cursor_is_reset_and_comes_back_from_the_start(hub: Hub, log: MemoryLog) -> None:
    session = log.session()
    log.append_many(session, 3)
    log.generations[session.n] = 1
    cursor = sse.parse_last_event_id("3")
    stream = sse.stream(hub.subscribe(session, after_seq=cursor.after_seq, generation=cursor.generation), clock=CLOCK)
    frames = fields(b"".join([chunk async for chunk in stream]))
    assert [(frame["event"], frame["id"]) for frame in frames] == [("log_reset", "0.1")]
    cursor = sse.parse_last_event_id(frames[0]["id"])
    stream = sse.stream(hub.subscribe(session, after_seq=cursor.after_seq, generation=cursor.generation), clock=CLOCK)
    assert [frame["id"] for frame in fields(await anext(stream)) if "id" in frame] == ["1.1", "2.1", "3.1"]
    await stream.aclose()


async def test_a_stream_whose_log_is_taken_back_ends_with_log_reset_of_the_new_generation(
    hub: Hub, log: MemoryLog
) -> None:
    session = log.session()
    stream = sse.stream(hub.subscribe(session, after_seq=0), clock=CLOCK)
    await anext(stream)
    hub.log_reset(session, Head(0, 4))
    [frame] = fields(b"".join([chunk async for chunk in stream]))
    assert (frame["event"], frame["id"]) == ("log_reset", "0.4")


async def test_an_unknown_session_raises_before_the_first_chunk(hub: Hub) -> None:
    stream = sse.stream(hub.subscribe(SessionRef(5, "react-none"), after_seq=0), clock=CLOCK)
    with pytest.raises(NoSuchSession):
        await anext(stream)


async def test_a_log_that_does_not_answer_ends_the_stream_with_an_error(log: MemoryLog) -> None:
    session = log.session()
    log.append_many(session, 3)
    async with Hub(log, tenants=log, clock=CLOCK, limits=HubLimits(log_timeout=0.02)) as hub:
        stream = sse.stream(hub.subscribe(session, after_seq=0, head=Head(3, 0)), clock=CLOCK)
        log.gate.clear()
        [*_, frame] = fields(b"".join([chunk async for chunk in stream]))
    assert frame["event"] == "error"
    assert orjson.loads(frame["data"])["data"]["code"] == "log_unavailable"


async def test_closing_the_hub_ends_the_stream(log: MemoryLog) -> None:
    async with Hub(log, tenants=log, clock=CLOCK) as hub:
        stream = sse.stream(hub.subscribe(log.session(), after_seq=0), clock=CLOCK)
        await anext(stream)
        rest = asyncio.ensure_future(anext(stream, b"end"))
        await asyncio.sleep(0.01)
    assert await rest == b"end"


@pytest.mark.parametrize(("text", "cursor"), [("12", (12, 0)), (" 0 ", (0, 0)), ("7.3", (7, 3))])
def test_last_event_ids_are_understood(text: str, cursor: tuple[int, int]) -> None:
    assert sse.parse_last_event_id(text) == cursor


@pytest.mark.parametrize("text", ["", "x", "-1", "1.", "1.x", "1.2.3", "٣", "1" * 60])
def test_what_is_no_id_of_ours_is_refused(text: str) -> None:
    with pytest.raises(CursorInvalid):
        sse.parse_last_event_id(text)


class _Late(Subscription):
    """Has an event whenever it is asked for the next chunk, none while one is gathered; those waits end late."""

    def __init__(self, late: float) -> None:
        super().__init__(types=None, on_wake=None)
        self.now = 1.0
        self.gathered: list[float] = []
        self._late = late

    async def next_batch(self, limit: int = 64, *, timeout: float | None = None) -> list[Event]:
        if timeout == HEARTBEAT:
            return [Event("note", session_id="s", seq=None, envelope=b"{}")]
        assert timeout is not None
        self.gathered.append(timeout)
        self.now += timeout + self._late
        return []

    async def read(self, limit: int = 64) -> list[Event]:
        raise NotImplementedError

    def read_now(self, limit: int = 64) -> list[Event] | None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


@pytest.mark.parametrize(("late", "seconds"), [(0.0, 0.02), (0.004, 0.04), (5.0, 0.1)])
async def test_a_stream_that_is_woken_late_gathers_longer(late: float, seconds: float) -> None:
    subscription = _Late(late)
    batches = sse.Batches(subscription, None, 0.02, now=lambda: subscription.now)
    for _ in range(3):  # the first is not gathered, the second for as long as is usual
        assert len((await batches.next(HEARTBEAT))[0]) == 1
    assert subscription.gathered == pytest.approx([0.02, seconds])
