"""Feeds of a whole tenant: every session's events as they happen, without replay, and what belongs to no session.

A feed is one bounded sequence per tenant, shared by its subscribers; each is a position in it. One who falls behind
gets a `lagged` event that says how many events it lost and up to which `seq` of which sessions: it can read those from
their logs. A feed exists only while somebody watches.
"""

import asyncio
import logging
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Collection
from dataclasses import field
from typing import Final

from modular_agent.events import SessionRef
from modular_agent.kit.clock import Clock
from modular_agent.kit.dataclass import dataclass
from modular_agent.realtime.event import DELTA, LAGGED, METRICS, Event
from modular_agent.realtime.ports import Tenants
from modular_agent.realtime.subscription import BATCH, Subscription
from modular_agent.realtime.topic import Ending, Waiting

__all__ = ["EXPLICIT", "Feed", "LiveFeeds", "LiveSubscription"]

EXPLICIT: Final = frozenset({DELTA, METRICS})  # too many, or not of a session: only for those who name them
LISTED: Final = 1_000  # sessions that a `lagged` event names at most, the last ones to lose something first
TENANTS_KNOWN: Final = 50_000
LOOKUP_TIMEOUT: Final = 10.0  # seconds

_log: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class Gap:
    """Events that were lost before they could enter a feed."""

    session_id: str
    lost: Counter[str] = field(default_factory=Counter[str])  # by type
    last_seq: int = 0
    size: int = 0

    def count(self, event: Event) -> None:
        self.lost[event.type] += 1
        self.last_seq = max(self.last_seq, event.seq or 0)


class Feed:
    """The recent events of one tenant, bounded by count and bytes, and an account of those that fell out."""

    def __init__(self, *, max_events: int, max_bytes: int) -> None:
        self.entries: deque[Event | Gap] = deque()
        self.first = 0  # position of the oldest entry
        self.lost: Counter[str] = Counter()  # by type, of all that fell out
        self.lost_sessions: OrderedDict[str, tuple[int, int]] = OrderedDict()  # last position and seq lost
        self.waiting: dict[Waiting, None] = {}
        self.subscriptions: dict[LiveSubscription, None] = {}
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._size = 0

    @property
    def end(self) -> int:
        return self.first + len(self.entries)

    def append(self, entry: Event | Gap) -> None:
        self.entries.append(entry)
        self._size += entry.size
        while len(self.entries) > self._max_events or (self._size > self._max_bytes and len(self.entries) > 1):
            self._evict()
        waiting = self.waiting
        if waiting:
            self.waiting = {}
            for waiter in waiting:
                waiter.wake()

    def wanted(self, kind: str) -> bool:
        return any(subscription.takes(kind) for subscription in self.subscriptions)

    def _evict(self) -> None:
        entry = self.entries.popleft()
        self._size -= entry.size
        if isinstance(entry, Gap):
            self.lost.update(entry.lost)
            seq = entry.last_seq
        else:
            self.lost[entry.type] += 1
            seq = entry.seq or 0
        if entry.session_id is not None and seq:
            self.lost_sessions[entry.session_id] = (self.first, seq)
            self.lost_sessions.move_to_end(entry.session_id)
            if len(self.lost_sessions) > LISTED:
                self.lost_sessions.popitem(last=False)
        self.first += 1


class LiveSubscription(Subscription):
    """A position in a tenant's feed. `types` None means every type but `message_delta` and `performance_metrics`."""

    def __init__(
        self,
        feed: Feed,
        *,
        types: Collection[str] | None,
        clock: Clock,
        on_wake: Callable[[], None] | None,
        on_close: Callable[["LiveSubscription"], None],
    ) -> None:
        super().__init__(types=types, on_wake=on_wake)
        self._feed = feed
        self._clock = clock
        self._on_close = on_close
        self._position = feed.end
        # By type, what came before the position: with the feed's account of what fell out it tells what was lost.
        self._before = feed.lost + Counter(entry.type for entry in feed.entries if isinstance(entry, Event))
        for entry in feed.entries:
            if isinstance(entry, Gap):
                self._before.update(entry.lost)
        feed.subscriptions[self] = None

    def takes(self, kind: str) -> bool:
        """Whether events of this type are delivered."""
        if self.types is None:
            return kind not in EXPLICIT
        return kind in self.types

    async def read(self, limit: int = BATCH) -> list[Event]:
        return self.read_now(limit)

    def read_now(self, limit: int = BATCH) -> list[Event]:
        batch: list[Event] = []
        if self.ending is not None:
            return batch
        feed = self._feed
        if self._position < feed.first and (event := self._lagged()) is not None:
            batch.append(event)
        while self._position < feed.end and len(batch) < limit:
            entry = feed.entries[self._position - feed.first]
            self._position += 1
            if isinstance(entry, Gap):
                self._before.update(entry.lost)
                lost = sum(count for kind, count in entry.lost.items() if self.takes(kind))
                if lost:
                    batch.append(self._marker(lost, {entry.session_id: entry.last_seq}))
            else:
                self._before[entry.type] += 1
                if self.takes(entry.type):
                    batch.append(entry)
        if not batch:
            feed.waiting[self] = None
        return batch

    def close(self, ending: Ending = Ending.CLOSED) -> None:
        if not self._closed:
            self._closed = True
            self.ending = ending
            self._feed.waiting.pop(self, None)
            self._feed.subscriptions.pop(self, None)
            self._on_close(self)
            self.wake()

    def _lagged(self) -> Event | None:
        feed = self._feed
        lost = sum(count - self._before[kind] for kind, count in feed.lost.items() if self.takes(kind))
        sessions: dict[str, int] = {}
        for session_id, (position, seq) in reversed(feed.lost_sessions.items()):
            if position < self._position:
                break
            sessions[session_id] = seq
        self._position = feed.first
        self._before = feed.lost.copy()
        return self._marker(lost, sessions) if lost else None

    def _marker(self, lost: int, last_seq: dict[str, int]) -> Event:
        data = {"lost": lost, "last_seq": last_seq}
        return Event.made(LAGGED, session_id=None, now_us=self._clock.now_us(), data=data)


@dataclass(slots=True)
class Parked:
    """Events of a session whose tenant is being looked up; `gap` counts those beyond the bound."""

    session: SessionRef
    events: list[Event] = field(default_factory=list[Event])
    gap: Gap | None = None


class LiveFeeds:
    """All tenants' feeds. `changed` is set when somebody begins to watch."""

    def __init__(self, *, tenants: Tenants, clock: Clock, max_events: int, max_bytes: int, max_parked: int) -> None:
        self.changed = asyncio.Event()
        self.active = False  # whether anybody watches
        self.takes_deltas = False  # whether anybody who watches wants deltas
        self._tenants = tenants
        self._clock = clock
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._max_parked = max_parked
        self._feeds: dict[str, Feed] = {}
        self._tenant_of: dict[int, str] = {}
        self._parked: dict[int, Parked] = {}
        self._parked_events = 0
        self._resolver: asyncio.Task[None] | None = None

    def subscribe(
        self, tenant: str, *, types: Collection[str] | None, on_wake: Callable[[], None] | None
    ) -> LiveSubscription:
        feed = self._feeds.get(tenant)
        if feed is None:
            feed = self._feeds[tenant] = Feed(max_events=self._max_events, max_bytes=self._max_bytes)

        def on_close(_: LiveSubscription) -> None:
            if not feed.subscriptions:
                self._feeds.pop(tenant, None)
            self._review()

        subscription = LiveSubscription(feed, types=types, clock=self._clock, on_wake=on_wake, on_close=on_close)
        self._review()
        self.changed.set()
        return subscription

    def wanting(self, kind: str) -> list[str]:
        """The tenants of whom somebody takes events of this type."""
        return [tenant for tenant, feed in self._feeds.items() if feed.wanted(kind)]

    def emit(self, tenant: str, event: Event) -> None:
        """Gives an event of no session to those who watch a tenant."""
        feed = self._feeds.get(tenant)
        if feed is not None:
            feed.append(event)

    def publish(self, session: SessionRef, event: Event, *, tenant: str | None = None) -> None:
        """Gives a session's event to those who watch its tenant. Call it only while `active`."""
        tenant = tenant or self._tenant_of.get(session.n)
        if tenant is None:
            self._park(session, event)
        else:
            self.emit(tenant, event)

    def forget(self, session: SessionRef) -> None:
        """The session is gone."""
        self._tenant_of.pop(session.n, None)

    async def aclose(self) -> None:
        for feed in list(self._feeds.values()):
            for subscription in list(feed.subscriptions):
                subscription.close()
        if self._resolver is not None:
            self._resolver.cancel()
            await asyncio.gather(self._resolver, return_exceptions=True)

    def _review(self) -> None:
        self.active = bool(self._feeds)
        self.takes_deltas = any(feed.wanted(DELTA) for feed in self._feeds.values())

    def _park(self, session: SessionRef, event: Event) -> None:
        parked = self._parked.get(session.n)
        if parked is None:
            parked = self._parked[session.n] = Parked(session)
        if self._parked_events < self._max_parked and parked.gap is None:
            parked.events.append(event)
            self._parked_events += 1
        else:
            parked.gap = parked.gap or Gap(session.session_id)
            parked.gap.count(event)
        if self._resolver is None or self._resolver.done():
            self._resolver = asyncio.get_running_loop().create_task(self._resolve())

    async def _resolve(self) -> None:
        """Looks up the tenants of parked events, one after the other, until none is left."""
        while self._parked:
            n, parked = next(iter(self._parked.items()))
            tenant: str | None = None
            try:
                async with asyncio.timeout(LOOKUP_TIMEOUT):
                    tenant = await self._tenants.tenant_of(parked.session)
            except Exception:  # noqa: BLE001 - whatever it is, live watchers must not stop for good
                _log.exception("The tenant of session %s could not be looked up.", parked.session.session_id)
            del self._parked[n]
            self._parked_events -= len(parked.events)
            if tenant is not None:
                self._know(n, tenant)
                for event in parked.events:
                    self.emit(tenant, event)
                if parked.gap is not None and (feed := self._feeds.get(tenant)) is not None:
                    feed.append(parked.gap)

    def _know(self, n: int, tenant: str) -> None:
        self._tenant_of[n] = tenant
        if len(self._tenant_of) > TENANTS_KNOWN:
            del self._tenant_of[next(iter(self._tenant_of))]
