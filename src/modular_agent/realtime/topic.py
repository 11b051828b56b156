"""One session as the hub sees it: its recent events, its messages in progress, and who waits for more."""

from collections import deque
from collections.abc import Sequence
from enum import StrEnum
from itertools import islice
from typing import Final, Protocol

from modular_agent.events import SessionRef
from modular_agent.lifecycle import ENDED_RUN_STATUSES, RunStatus
from modular_agent.realtime.event import Event
from modular_agent.realtime.partials import Partials

__all__ = ["Ending", "Ring", "Topic", "Waiting"]

QUIET_STATUSES: Final = ENDED_RUN_STATUSES | {RunStatus.PAUSED}  # no model of such a run is writing


class Ending(StrEnum):
    """Why a subscription has no more events."""

    DELETED = "deleted"  # the session is gone
    RESET = "reset"  # the cursor is not one of this log's
    CLOSED = "closed"  # by its owner, or the hub is closing


class Waiting(Protocol):
    """Whoever wants to be told once that something may be there."""

    def wake(self) -> None: ...


class Ring:
    """The newest events of a session, without gaps, bounded by count and bytes; the newest always stays."""

    __slots__ = ("_events", "_max_bytes", "_max_events", "first", "size")

    def __init__(self, *, max_events: int, max_bytes: int) -> None:
        self._events: deque[Event] = deque()
        self._max_events = max_events
        self._max_bytes = max_bytes
        self.first = 0  # seq of the oldest; meaningless while empty
        self.size = 0  # bytes

    def __len__(self) -> int:
        return len(self._events)

    def extend(self, events: Sequence[Event], first: int, last: int) -> None:
        """Adds events from `first` to `last`, which follow what is there or start the ring anew."""
        if last - first + 1 != len(events):  # some are missing in between
            for event in events:
                self.extend((event,), event.seq or 0, event.seq or 0)
            return
        held = self._events
        if not held or first != self.first + len(held):
            self.clear()
            self.first = first
        held.extend(events)
        self.size += sum([event.size for event in events])
        while len(held) > self._max_events or (self.size > self._max_bytes and len(held) > 1):
            self.shed()

    def shed(self) -> None:
        """Forgets the oldest."""
        self.size -= self._events.popleft().size
        self.first += 1

    def clear(self) -> None:
        self._events.clear()
        self.size = 0

    def after(self, seq: int, limit: int, max_bytes: int) -> list[Event] | None:
        """The events that follow `seq`, at most `limit` and about `max_bytes` of them; None if not all are here."""
        events = self._events
        start = seq + 1 - self.first
        if start < 0 or start >= len(events):
            return None
        newest = len(events) - start
        if newest <= limit and self.size <= max_bytes:
            last = [*islice(reversed(events), newest)]  # where most readers are
            last.reverse()
            return last
        found: list[Event] = []
        for index in range(start, min(start + limit, len(events))):
            event = events[index]
            found.append(event)
            max_bytes -= event.size
            if max_bytes <= 0:
                break
        return found


class Topic:
    """The hub's view of one session. `known` is the last `seq` published."""

    __slots__ = (
        "delta_due",
        "dirty",
        "ending",
        "farewell",
        "known",
        "partials",
        "ring",
        "session",
        "subscribers",
        "waiting",
    )

    def __init__(self, session: SessionRef, *, ring: Ring, partials: Partials) -> None:
        self.session = session
        self.ring = ring
        self.partials = partials
        self.known = 0
        self.subscribers = 0
        self.waiting: dict[Waiting, None] = {}
        self.delta_due = 0.0  # loop time from which a delta wakes at once
        self.dirty = False  # its waiters are to be woken by the hub's timer
        self.ending: Ending | None = None
        self.farewell: Event | None = None  # the last event of every subscription

    @property
    def pinned(self) -> bool:
        """Whether forgetting it would lose something that cannot be had again."""
        return self.subscribers > 0 or bool(self.partials.by_id)

    def extend(self, events: Sequence[Event], first: int, last: int) -> None:
        """Takes committed events that were not published before, from `first` to `last`."""
        self.ring.extend(events, first, last)
        self.known = last
        for event in events:
            if event.type == "message" and event.record_id is not None:
                self.partials.finish(event.record_id)
            elif event.run_status is not None and event.run_status in QUIET_STATUSES and event.run_id is not None:
                self.partials.end_run(event.run_id)

    def wake(self) -> None:
        """Wakes whoever waits; they do not wait any more."""
        waiting = self.waiting
        if waiting:
            self.waiting = {}
            for waiter in waiting:
                waiter.wake()

    def end(self, ending: Ending, farewell: Event | None) -> None:
        """No more events: subscribers read what the ring still has, then `farewell`."""
        if self.ending is None:
            self.ending = ending
            self.farewell = farewell
        self.wake()
