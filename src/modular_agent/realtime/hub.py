"""The hub: takes committed records and deltas from the writer and the engine, and wakes those who read on.

Publishing never waits and never copies to a subscriber: a subscriber is a position in a session's log, woken when there
is more. It reads from the session's ring of recent events, or from the log when the ring does not reach back to it.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from itertools import groupby
from operator import attrgetter
from types import TracebackType
from typing import Final, Self

from modular_agent.errors import ServerStopping
from modular_agent.events import CommittedRecord, Delta, SessionRef
from modular_agent.kit.clock import Clock
from modular_agent.kit.dataclass import dataclass
from modular_agent.realtime.errors import LogUnavailable
from modular_agent.realtime.event import SESSION_DELETED, Event
from modular_agent.realtime.live import LiveFeeds, LiveSubscription
from modular_agent.realtime.partials import Partials, delta_event
from modular_agent.realtime.ports import Head, LogReader, Tenants
from modular_agent.realtime.subscription import SessionSubscription, reset_event
from modular_agent.realtime.topic import Ending, Ring, Topic

__all__ = ["Hub", "HubLimits"]


_session: Final[Callable[[CommittedRecord], SessionRef]] = attrgetter("session")
REMEMBERED: Final = 100_000  # sessions without a ring of which the last seq is still known


@dataclass(frozen=True, slots=True, kw_only=True)
class HubLimits:
    """Bounds of memory (counts, bytes, code points) and of waiting (seconds)."""

    ring_events: int = 512
    ring_bytes: int = 1 << 20
    total_bytes: int = 64 << 20  # all rings together
    idle_sessions: int = 4096  # sessions without subscribers whose rings are kept
    partial_messages: int = 256  # in progress at once, per session
    partial_chars: int = 2_000_000  # of a message in progress, per channel; the rest comes with the finished message
    delta_interval: float = 0.02  # a subscriber is woken for deltas no more often than this
    feed_events: int = 4096
    feed_bytes: int = 8 << 20
    parked_events: int = 4096  # that wait until their session's tenant is known
    log_readers: int = 8
    log_timeout: float = 10.0


class Hub:
    """Fans events out to subscribers; everything happens on one event loop.

    An async context manager; subscriptions that are open at its end get `ending` CLOSED.
    """

    def __init__(self, log: LogReader, *, tenants: Tenants, clock: Clock, limits: HubLimits | None = None) -> None:
        self.limits = limits or HubLimits()
        bounds = self.limits
        self.live = LiveFeeds(
            tenants=tenants,
            clock=clock,
            max_events=bounds.feed_events,
            max_bytes=bounds.feed_bytes,
            max_parked=bounds.parked_events,
        )
        self._log = log
        self._clock = clock
        self._topics: dict[int, Topic] = {}
        self._idle: OrderedDict[int, Topic] = OrderedDict()  # topics that may be forgotten, the oldest first
        self._bytes = 0  # of all rings in `_topics`
        self._forgotten: OrderedDict[int, int] = OrderedDict()  # last seq published, of sessions no more in `_topics`
        self._dirty: list[Topic] = []
        self._timer: asyncio.TimerHandle | None = None
        self._reading = asyncio.Semaphore(bounds.log_readers)
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends every subscription, after what its reader can still be given. May be called again."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for topic in list(self._topics.values()):
            topic.end(Ending.CLOSED, None)
        self._topics.clear()
        self._idle.clear()
        await self.live.aclose()

    def publish(self, records: Sequence[CommittedRecord]) -> None:
        """Takes records that have just been committed, of any sessions, ascending within each. Never waits."""
        if self._closed:
            return
        touched: dict[Topic, int] = {}  # and the bytes of its ring before
        live = self.live if self.live.active else None
        for session, of_session in groupby(records, _session):
            topic = self._topic(session)
            touched.setdefault(topic, topic.ring.size)
            known = topic.known
            fresh = [record for record in of_session if record.seq > known]
            if not fresh:
                continue
            events = [*map(Event.of_record, fresh)]
            topic.extend(events, fresh[0].seq, fresh[-1].seq)
            if live is not None:
                for event in events:
                    live.publish(session, event)
        for topic, before in touched.items():
            self._bytes += topic.ring.size - before
        for topic in touched:
            if topic.waiting:
                topic.wake()
            self._settle(topic)

    def delta(self, delta: Delta) -> None:
        """Takes a piece of a message in progress. Never waits; a subscriber gets what has gathered as one event."""
        if self._closed:
            return
        topic = self._topics.get(delta.session.n) or self._topic(delta.session)
        if topic.partials.add(delta):
            if delta.abandoned:
                self._settle(topic)
            elif self._idle:
                self._idle.pop(delta.session.n, None)
            if topic.waiting and not topic.dirty:
                self._wake_for_delta(topic)
            if self.live.takes_deltas:
                self.live.publish(delta.session, delta_event(delta, now_us=self._clock.now_us()))
        elif not topic.pinned:
            self._settle(topic)

    def subscribe(
        self,
        session: SessionRef,
        *,
        after_seq: int | None,
        types: Collection[str] | None = None,
        generation: int | None = None,
        head: Head | None = None,
        on_wake: Callable[[], None] | None = None,
    ) -> SessionSubscription:
        """A reader of a session from `after_seq` on (None: from now on; 0: everything).

        `types` are envelope types, None for all. `generation` is that of the log in which the cursor was made, if
        known. `head` is where the log stood a moment ago, from who has just read it: it is not asked again. Close the
        subscription, or use it with `async with`. Raises `ServerStopping`.
        """
        if self._closed:
            raise ServerStopping
        topic = self._topic(session)
        topic.subscribers += 1
        self._idle.pop(session.n, None)
        return SessionSubscription(
            topic,
            after_seq=after_seq,
            generation=generation,
            head=head,
            types=types,
            log=self,
            clock=self._clock,
            log_timeout=self.limits.log_timeout,
            on_wake=on_wake,
        )

    def watch(
        self,
        tenant: str,
        *,
        types: Collection[str] | None = None,
        on_wake: Callable[[], None] | None = None,
    ) -> LiveSubscription:
        """A reader of all sessions of a tenant from now on, without replay. Raises `ServerStopping`.

        `types` None means all but `message_delta` and `performance_metrics`, which must be named.
        """
        if self._closed:
            raise ServerStopping
        return self.live.subscribe(tenant, types=types, on_wake=on_wake)

    def end_run(self, session: SessionRef, run_id: str) -> None:
        """Forgets messages that a run left unfinished; its `run` record with a final status does so too."""
        topic = self._topics.get(session.n)
        if topic is not None and topic.partials.end_run(run_id):
            topic.wake()
            self._settle(topic)

    def session_deleted(self, session: SessionRef, *, tenant: str | None = None) -> None:
        """Ends the session's subscriptions with `session_deleted`, after what the ring still has.

        With `tenant`, those who watch the tenant are told for certain: it cannot be looked up any more.
        """
        farewell = Event.made(SESSION_DELETED, session_id=session.session_id, now_us=self._clock.now_us(), data={})
        self._drop(session, Ending.DELETED, farewell, tenant=tenant)
        self._forgotten.pop(session.n, None)
        self.live.forget(session)

    def log_reset(self, session: SessionRef, head: Head) -> None:
        """The session's log was taken back to `head`: ends its subscriptions with `log_reset`."""
        self._drop(session, Ending.RESET, reset_event(session, head, now_us=self._clock.now_us()))
        self._remember(session.n, head.last_seq)

    def figures(self) -> dict[str, int]:
        """How much the hub holds: sessions with recent events, their bytes, and readers."""
        return {
            "sessions": len(self._topics),
            "ring_bytes": self._bytes,
            "subscriptions": sum(topic.subscribers for topic in self._topics.values()),
        }

    async def read_log(self, session: SessionRef, seq: int, limit: int) -> Sequence[CommittedRecord]:
        """For subscriptions: `LogReader.read_after`, few at a time. Raises `LogUnavailable` after `log_timeout`."""
        try:
            async with asyncio.timeout(self.limits.log_timeout), self._reading:
                return await self._log.read_after(session, seq, limit)
        except TimeoutError:
            raise LogUnavailable(session_id=session.session_id) from None

    async def head(self, session: SessionRef) -> Head:
        """For subscriptions: `LogReader.head`. Raises `LogUnavailable` after `log_timeout`."""
        try:
            async with asyncio.timeout(self.limits.log_timeout), self._reading:
                return await self._log.head(session)
        except TimeoutError:
            raise LogUnavailable(session_id=session.session_id) from None

    def leave(self, topic: Topic) -> None:
        """For subscriptions: one reader less."""
        topic.subscribers -= 1
        self._settle(topic)

    def _topic(self, session: SessionRef) -> Topic:
        topic = self._topics.get(session.n)
        if topic is None:
            bounds = self.limits
            topic = self._topics[session.n] = Topic(
                session,
                ring=Ring(max_events=bounds.ring_events, max_bytes=bounds.ring_bytes),
                partials=Partials(max_messages=bounds.partial_messages, max_chars=bounds.partial_chars),
            )
            topic.known = self._forgotten.pop(session.n, 0)
        return topic

    def _remember(self, n: int, known: int) -> None:
        self._forgotten[n] = known
        if len(self._forgotten) > REMEMBERED:
            self._forgotten.popitem(last=False)

    def _settle(self, topic: Topic) -> None:
        """Keeps the account of idle topics, and memory within its bounds."""
        n = topic.session.n
        if self._topics.get(n) is not topic:
            return  # ended
        if topic.pinned:
            self._idle.pop(n, None)
        else:
            self._idle[n] = topic
            self._idle.move_to_end(n)
        while self._idle and (len(self._idle) > self.limits.idle_sessions or self._bytes > self.limits.total_bytes):
            old, forgotten = self._idle.popitem(last=False)
            del self._topics[old]
            self._bytes -= forgotten.ring.size
            self._remember(old, forgotten.known)
        while self._bytes > self.limits.total_bytes and len(topic.ring) > 1 and self._topics.get(n) is topic:
            before = topic.ring.size
            topic.ring.shed()
            self._bytes -= before - topic.ring.size

    def _wake_for_delta(self, topic: Topic) -> None:
        """Wakes at once if the last time is long enough ago, otherwise when the interval is over."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if now >= topic.delta_due:
            topic.delta_due = now + self.limits.delta_interval
            topic.wake()
        else:
            topic.dirty = True
            self._dirty.append(topic)
            if self._timer is None:
                self._timer = loop.call_later(self.limits.delta_interval, self._wake_dirty)

    def _wake_dirty(self) -> None:
        self._timer = None
        dirty, self._dirty = self._dirty, []
        due = asyncio.get_running_loop().time() + self.limits.delta_interval
        for topic in dirty:
            topic.dirty = False
            topic.delta_due = due
            topic.wake()

    def _drop(self, session: SessionRef, ending: Ending, farewell: Event, *, tenant: str | None = None) -> None:
        topic = self._topics.pop(session.n, None)
        self._idle.pop(session.n, None)
        if topic is not None:
            self._bytes -= topic.ring.size
            topic.end(ending, farewell)
        if self.live.active:
            self.live.publish(session, farewell, tenant=tenant)
