"""What the hub costs per event: `uv run python benchmarks/hub.py [--quick]`.

Times are of the CPU, so that a busy machine does not distort them. Prints publishing alone (what the writer and the
engine pay) and delivery (until every subscriber has the encoded event), for one subscriber of each of 100 sessions and
for 1000 subscribers of one session, records and token deltas apart. A delta counts as delivered when its text has
arrived, gathered with others.
"""

import argparse
import asyncio
import time
from collections.abc import Callable, Sequence

from modular_agent.events import CommittedRecord, Delta, Record, RecordType, SessionRef
from modular_agent.kit.clock import SystemClock
from modular_agent.realtime.hub import Hub, HubLimits
from modular_agent.realtime.ports import Head
from modular_agent.realtime.subscription import SessionSubscription


class EmptyLog:
    """A log that nobody needs to read: the rings are large enough."""

    async def read_after(self, session: SessionRef, seq: int, limit: int) -> Sequence[CommittedRecord]:
        raise AssertionError(f"{session.session_id} was read after {seq}")

    async def head(self, session: SessionRef) -> Head:
        return Head(0, 0)

    async def tenant_of(self, session: SessionRef) -> str | None:
        return "bench"


def make_records(session: SessionRef, count: int) -> list[CommittedRecord]:
    made: list[CommittedRecord] = []
    for seq in range(1, count + 1):
        record = Record(record_type=RecordType.MESSAGE, fields={"message_type": "assistant", "content": "x" * 400})
        line = CommittedRecord.make_line(seq, 1_760_000_000_000_000 + seq, record.encode(session.session_id))
        made.append(CommittedRecord(session, seq, 1, record.record_type, record.record_id, "run_1", "think", line))
    return made


async def follow(subscription: SessionSubscription, until: int, bytes_got: list[int]) -> None:
    """Reads, encodes and throws away, up to `until` records or code points of deltas."""
    done = 0
    while done < until:
        for event in await subscription.next_batch():
            bytes_got[0] += len(event.envelope)
            done = event.seq if event.seq is not None else done_after(event.envelope)


def done_after(envelope: bytes) -> int:
    """The position that a delta reaches."""
    import orjson

    data = orjson.loads(envelope)["data"]
    return data["offset"] + len(data["text"])


async def measure(
    name: str,
    *,
    sessions: int,
    per_session: int,
    events: int,
    publish: Callable[[Hub, SessionRef, int], None],
    until: int,
) -> None:
    limits = HubLimits(ring_events=events + 1, ring_bytes=1 << 30, total_bytes=1 << 30)
    async with Hub(EmptyLog(), tenants=EmptyLog(), clock=SystemClock(), limits=limits) as hub:
        refs = [SessionRef(n, f"react-251022-174800-{n:06x}") for n in range(1, sessions + 1)]
        got = [0]
        tasks: list[asyncio.Task[None]] = []
        for ref in refs:
            for _ in range(per_session):
                subscription = hub.subscribe(ref, after_seq=0)
                await subscription.start()
                tasks.append(asyncio.ensure_future(follow(subscription, until, got)))
        await asyncio.sleep(0)
        publishing = 0.0
        began = time.process_time()
        for index in range(events):
            for ref in refs:
                at = time.process_time()
                publish(hub, ref, index)
                publishing += time.process_time() - at
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        took = time.process_time() - began
    total = events * sessions
    print(
        f"{name:<44} publish {publishing / total * 1e6:7.2f} us/event"
        f"   {total / took:>10,.0f} events/s   {total * per_session / took:>12,.0f} deliveries/s"
        f"   {got[0] / 1e6:8.1f} MB"
    )


async def main(quick: bool) -> None:
    scale = 1 if quick else 10
    records: dict[int, list[CommittedRecord]] = {}

    def record(hub: Hub, ref: SessionRef, index: int) -> None:
        hub.publish(records[ref.n][index : index + 1])

    def piece(hub: Hub, ref: SessionRef, index: int) -> None:
        hub.delta(Delta(session=ref, run_id="run_1", node="think", message_id="rec_1", text="token ", offset=index * 6))

    def prepare(sessions: int, count: int) -> None:
        records.clear()
        for n in range(1, sessions + 1):
            records[n] = make_records(SessionRef(n, f"react-251022-174800-{n:06x}"), count)

    for name, sessions, each, events in [
        ("records, no subscriber, 100 sessions", 100, 0, 100 * scale),
        ("records, 100 sessions, one subscriber each", 100, 1, 100 * scale),
        ("records, one session, 1000 subscribers", 1, 1000, 20 * scale),
    ]:
        prepare(sessions, events)
        await measure(name, sessions=sessions, per_session=each, events=events, publish=record, until=events)
    for name, sessions, each, events in [
        ("deltas, no subscriber, 100 sessions", 100, 0, 200 * scale),
        ("deltas, 100 sessions, one subscriber each", 100, 1, 200 * scale),
        ("deltas, one session, 1000 subscribers", 1, 1000, 200 * scale),
    ]:
        await measure(name, sessions=sessions, per_session=each, events=events, publish=piece, until=events * 6)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the events")
    asyncio.run(main(parser.parse_args().quick))
