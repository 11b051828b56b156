"""Whatever happens in whatever order: every record after the cursor, once, in order, and deltas that add up."""

import asyncio
from dataclasses import dataclass, field

import orjson
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from modular_agent.events import CommittedRecord, RecordType
from modular_agent.kit.clock import SystemClock
from modular_agent.realtime.event import Event
from modular_agent.realtime.hub import Hub, HubLimits
from modular_agent.realtime.subscription import SessionSubscription
from unit.realtime.memory_log import MemoryLog, data, delta, envelope_of

PIECES = ["a", "bc", "def", "你好", " ", "x" * 40]


@dataclass
class Client:
    """A reader who checks what it gets."""

    subscription: SessionSubscription
    last_seq: int
    texts: dict[str, str] = field(default_factory=dict[str, str])
    finished: set[str] = field(default_factory=set[str])
    reading: "asyncio.Task[None] | None" = None


class Fanout(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.log = MemoryLog()
        self.session = self.log.session()
        limits = HubLimits(ring_events=4, ring_bytes=4_000, idle_sessions=1, delta_interval=0.0)
        self.hub = Hub(self.log, tenants=self.log, clock=SystemClock(), limits=limits)
        self.clients: list[Client] = []
        self.unpublished: list[CommittedRecord] = []
        self.texts: dict[str, str] = {}  # what each message in progress says
        self.begun: dict[str, int] = {}  # the last seq published before its first delta
        self.finals: dict[str, str] = {}
        self.messages = 0
        self.published = 0

    def run(self, steps: int = 3) -> None:
        async def spin() -> None:
            for _ in range(steps):
                await asyncio.sleep(0)

        self.loop.run_until_complete(spin())

    def subscribe(self, after_seq: int, client: Client | None = None) -> None:
        async def make() -> SessionSubscription:
            subscription = self.hub.subscribe(self.session, after_seq=after_seq)
            await subscription.start()
            return subscription

        subscription = self.loop.run_until_complete(make())
        if client is None:
            self.clients.append(Client(subscription, after_seq))
        else:
            client.subscription, client.last_seq = subscription, after_seq
            client.texts.clear()

    # What the writer and the engine do

    @rule(count=st.integers(1, 9), publish=st.booleans())
    def commit(self, count: int, publish: bool) -> None:
        self.unpublished += self.log.append_many(self.session, count)
        if publish:
            self.publish()

    @rule()
    def publish(self) -> None:
        self.hub_call(lambda: self.hub.publish(self.unpublished))
        self.unpublished = []
        self.published = len(self.log.records[1])

    @rule()
    def begin_message(self) -> None:
        if len(self.texts) < 3:
            self.messages += 1
            self.texts[f"rec_{self.messages}"] = ""

    @precondition(lambda self: self.texts)
    @rule(which=st.integers(0, 2), piece=st.sampled_from(PIECES), count=st.integers(1, 5))
    def write(self, which: int, piece: str, count: int) -> None:
        message_id = sorted(self.texts)[which % len(self.texts)]
        for _ in range(count):
            text = self.texts[message_id]
            self.begun.setdefault(message_id, self.published)
            self.hub_call(
                lambda text=text: self.hub.delta(delta(self.session, piece, len(text), message_id=message_id))
            )
            self.texts[message_id] = text + piece

    @precondition(lambda self: self.texts)
    @rule(which=st.integers(0, 2))
    def abandon(self, which: int) -> None:
        message_id = sorted(self.texts)[which % len(self.texts)]
        self.hub_call(lambda: self.hub.delta(delta(self.session, "", 0, message_id=message_id, abandoned=True)))
        self.texts[message_id] = ""
        self.begun.pop(message_id, None)

    @precondition(lambda self: self.texts)
    @rule(which=st.integers(0, 2), publish=st.booleans())
    def finish(self, which: int, publish: bool) -> None:
        message_id = sorted(self.texts)[which % len(self.texts)]
        text = self.finals[message_id] = self.texts.pop(message_id)
        self.unpublished.append(self.log.append(self.session, RecordType.MESSAGE, record_id=message_id, content=text))
        if publish:
            self.publish()

    @rule(count=st.integers(1, 3))
    def other_sessions_push_it_out(self, count: int) -> None:
        for n in range(2, 2 + count):
            other = self.log.session(n)
            self.hub_call(lambda other=other: self.hub.publish(self.log.append_many(other, 2)))

    def hub_call(self, call) -> None:
        async def within() -> None:
            call()

        self.loop.run_until_complete(within())

    # What clients do

    @rule(cursor=st.integers(0, 60))
    def join(self, cursor: int) -> None:
        if len(self.clients) < 4:
            self.subscribe(min(cursor, len(self.log.records[1])))

    @precondition(lambda self: self.clients)
    @rule(which=st.integers(0, 3), limit=st.integers(1, 8))
    def read(self, which: int, limit: int) -> None:
        client = self.clients[which % len(self.clients)]
        if client.reading is None:
            client.reading = self.loop.create_task(self.read_and_check(client, limit))
        self.run()
        self.collect(client)

    @precondition(lambda self: self.clients)
    @rule(which=st.integers(0, 3))
    def reconnect(self, which: int) -> None:
        client = self.clients[which % len(self.clients)]
        self.stop_reading(client)
        client.subscription.close()
        self.subscribe(client.last_seq, client)

    @rule(held=st.booleans())
    def hold_the_log(self, held: bool) -> None:
        (self.log.gate.clear if held else self.log.gate.set)()

    def collect(self, client: Client) -> None:
        if client.reading is not None and client.reading.done():
            client.reading.result()
            client.reading = None

    async def read_and_check(self, client: Client, limit: int) -> None:
        for event in await client.subscription.next_batch(limit):
            self.check(client, event)

    def stop_reading(self, client: Client) -> None:
        self.run()
        self.collect(client)
        if client.reading is not None:
            client.reading.cancel()
            self.run()
            assert client.reading.cancelled()
            client.reading = None

    def check(self, client: Client, event: Event) -> None:
        if event.seq is not None:
            assert event.seq == client.last_seq + 1
            client.last_seq = event.seq
            assert orjson.loads(event.envelope) == envelope_of(self.log.records[1][event.seq - 1], event.type)
            if event.type == "message":
                assert event.record_id is not None
                client.finished.add(event.record_id)
                assert self.finals[event.record_id].startswith(client.texts.pop(event.record_id, ""))
            return
        assert event.type == "message_delta"
        said = data(event)
        message_id = said["message_id"]
        assert message_id not in client.finished
        if said.get("abandoned"):
            assert client.texts.pop(message_id)
            return
        assert said["offset"] == len(client.texts.get(message_id, ""))
        client.texts[message_id] = client.texts.get(message_id, "") + said["text"]
        assert client.last_seq >= self.begun[message_id]

    def teardown(self) -> None:
        self.log.gate.set()
        self.publish()
        for client in self.clients:
            self.stop_reading(client)
            for _ in range(400):
                batch = self.loop.run_until_complete(client.subscription.next_batch(64, timeout=0))
                if not batch:
                    break
                for event in batch:
                    self.check(client, event)
            assert client.last_seq == len(self.log.records[1])
            assert client.texts == {key: text for key, text in self.texts.items() if text}
            client.subscription.close()
        self.loop.run_until_complete(self.hub.__aexit__(None, None, None))
        self.loop.close()


TestFanout = Fanout.TestCase
TestFanout.settings = settings(max_examples=80, stateful_step_count=60, deadline=None)
