"""What one connection is subscribed to, which of it has something to send, and what would be sent twice."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from modular_agent.events import SessionRef
from modular_agent.realtime.errors import NotSubscribed, TooManySubscriptions
from modular_agent.realtime.event import Event
from modular_agent.realtime.hub import Hub
from modular_agent.realtime.live import LiveSubscription
from modular_agent.realtime.ports import Head
from modular_agent.realtime.protocol import WILDCARD, Subscribe
from modular_agent.realtime.subscription import SessionSubscription, Subscription

__all__ = ["Interest", "Interests"]

FLOORS: Final = 1_000  # unsubscribed sessions of which the last seq delivered is remembered


@dataclass(slots=True, eq=False)
class Interest:
    """One subscription under its key: a session id, `"*"`, or None for types alone."""

    key: str | None
    subscription: Subscription
    ready: bool = True  # it is in line to be read
    fetch: asyncio.Task[list[Event]] | None = None  # reads from the log, out of line
    delivered: int = 0  # the last seq that went out, or after which it began


class Interests:
    """The subscriptions of one connection. `on_ready` is called when one may have something."""

    def __init__(self, hub: Hub, *, limit: int, on_ready: Callable[[], None]) -> None:
        self._hub = hub
        self._limit = limit
        self._on_ready = on_ready
        self._by_key: dict[str | None, Interest] = {}
        self._line: deque[Interest] = deque()
        self._floors: dict[str, int] = {}
        self._fetches: set[asyncio.Task[list[Event]]] = set()

    def __len__(self) -> int:
        return len(self._by_key)

    @property
    def fetching(self) -> bool:
        """Whether something is on its way from the log."""
        return bool(self._fetches)

    async def of_session(self, message: Subscribe, session: SessionRef) -> tuple[Interest, Head]:
        """Subscribes to one session, in place of what there was. It is not read before `begin`.

        Raises `TooManySubscriptions`, and what `SessionSubscription.start` raises.
        """
        self._check_room(session.session_id)
        interest: Interest | None = None

        def on_wake() -> None:
            if interest is not None:
                self._line_up(interest)

        subscription = self._hub.subscribe(
            session,
            after_seq=message.after_seq,
            types=message.types,
            generation=message.generation,
            on_wake=on_wake,
        )
        try:
            head = await subscription.start()
        except BaseException:
            subscription.close()
            raise
        interest = Interest(session.session_id, subscription, delivered=subscription.cursor)
        return interest, head

    def of_tenant(self, message: Subscribe, tenant: str) -> Interest:
        """Subscribes to a whole tenant: by types alone, or to everything. Raises `TooManySubscriptions`."""
        self._check_room(message.session_id)
        interest: Interest | None = None

        def on_wake() -> None:
            if interest is not None:
                self._line_up(interest)

        interest = Interest(message.session_id, self._hub.watch(tenant, types=message.types, on_wake=on_wake))
        return interest

    def begin(self, interest: Interest) -> None:
        """Lets a subscription be read; the one it replaces ends here."""
        self._remove(interest.key)
        self._by_key[interest.key] = interest
        if interest.key is not None:
            self._floors.pop(interest.key, None)
        interest.ready = True
        self._line.append(interest)
        self._on_ready()

    def end(self, key: str | None) -> None:
        """Unsubscribes. Raises `NotSubscribed`."""
        if not self._remove(key):
            raise NotSubscribed(target=key or "types")

    def drop(self, interest: Interest) -> None:
        """Takes out a subscription that has ended or failed, unless another has its place by now."""
        interest.subscription.close()
        if self._by_key.get(interest.key) is interest:
            self._remove(interest.key)

    def next_ready(self) -> Interest | None:
        """The next that may have something; it is out of the line until it wakes or is put back."""
        while self._line:
            interest = self._line.popleft()
            interest.ready = False
            if self._by_key.get(interest.key) is interest:
                return interest
        return None

    def read(self, interest: Interest) -> list[Event] | None:
        """What a subscription has now; None: it reads from the log, and gets in line when that is done.

        So a slow log holds up neither answers nor other subscriptions. Raises what `Subscription.read` raises.
        """
        if interest.fetch is not None:
            if not interest.fetch.done():
                return None
            fetch, interest.fetch = interest.fetch, None
            if batch := fetch.result():
                return batch
        batch = interest.subscription.read_now()
        if batch is None:
            fetch = interest.fetch = asyncio.get_running_loop().create_task(interest.subscription.read())
            self._fetches.add(fetch)
            fetch.add_done_callback(lambda done: self._fetched(interest, done))
        return batch

    def put_back(self, interest: Interest) -> None:
        """It may have more: its turn comes again after the others'."""
        self._line_up(interest)

    def once(self, interest: Interest, batch: list[Event]) -> list[Event]:
        """Of a batch that goes out now, what no other subscription of this connection delivers."""
        interest.delivered = next((event.seq for event in reversed(batch) if event.seq), interest.delivered)
        if isinstance(interest.subscription, LiveSubscription) and (len(self._by_key) > 1 or self._floors):
            return [event for event in batch if not self._covered(interest, event)]
        return batch

    async def aclose(self) -> None:
        for interest in list(self._by_key.values()):
            interest.subscription.close()
        self._by_key.clear()
        self._line.clear()
        for fetch in self._fetches:
            fetch.cancel()
        await asyncio.gather(*self._fetches, return_exceptions=True)

    def _fetched(self, interest: Interest, fetch: "asyncio.Task[list[Event]]") -> None:
        self._fetches.discard(fetch)
        if not fetch.cancelled():
            fetch.exception()  # whoever reads the interest gets it; nobody may, after unsubscribe
            self._line_up(interest)

    def _check_room(self, key: str | None) -> None:
        if key not in self._by_key and len(self._by_key) >= self._limit:
            raise TooManySubscriptions(limit=self._limit)

    def _line_up(self, interest: Interest) -> None:
        if not interest.ready:
            interest.ready = True
            self._line.append(interest)
            self._on_ready()

    def _remove(self, key: str | None) -> bool:
        interest = self._by_key.pop(key, None)
        if interest is None:
            return False
        interest.subscription.close()
        if interest.fetch is not None:
            interest.fetch.cancel()
        if isinstance(interest.subscription, SessionSubscription) and key is not None and WILDCARD in self._by_key:
            self._floors[key] = interest.delivered
            if len(self._floors) > FLOORS:
                del self._floors[next(iter(self._floors))]
        elif key == WILDCARD:
            self._floors.clear()
        return True

    def _covered(self, interest: Interest, event: Event) -> bool:
        if event.session_id is not None:
            own = self._by_key.get(event.session_id)
            if own is not None and isinstance(own.subscription, SessionSubscription):
                if own.subscription.delivers(event):
                    return True
            elif event.seq is not None and event.seq <= self._floors.get(event.session_id, 0):
                return True
        if interest.key is None and (everything := self._by_key.get(WILDCARD)) is not None:
            subscription = everything.subscription
            return isinstance(subscription, LiveSubscription) and subscription.takes(event.type)
        return False
