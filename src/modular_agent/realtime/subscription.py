"""A subscriber: a position in a session's log, read out of the hub's ring or, if that is too short, the log."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from types import TracebackType
from typing import Final, Protocol, Self

from modular_agent.events import CommittedRecord, SessionRef
from modular_agent.kit.clock import Clock
from modular_agent.realtime.errors import LogUnavailable
from modular_agent.realtime.event import DELTA, LOG_RESET, NOTICES, Event
from modular_agent.realtime.partials import Partial
from modular_agent.realtime.ports import Head
from modular_agent.realtime.topic import Ending, Topic

__all__ = ["BATCH", "LogAccess", "SessionSubscription", "Subscription", "reset_event"]

BATCH: Final = 64  # events
BATCH_BYTES: Final = 256 * 1024
RETRY: Final = 0.05  # seconds until a log that does not show a published record yet is asked again


class Subscription(ABC):
    """A stream of events for one reader. Not for two tasks at once.

    Use it as an async iterator, or call `next_batch`; a loop that serves many calls `read` and is told by the
    `on_wake` callback when there may be more. `ending` says why it has ended, None before.
    """

    def __init__(self, *, types: Collection[str] | None, on_wake: Callable[[], None] | None) -> None:
        self.types = None if types is None else frozenset(types)
        self.ending: Ending | None = None
        self._on_wake = on_wake
        self._signal: asyncio.Future[bool] | None = None
        self._closed = False

    @abstractmethod
    async def read(self, limit: int = BATCH) -> list[Event]:
        """What is there now, perhaps after a look into the log. Empty: nothing now; `on_wake` comes once there is.

        Raises `LogUnavailable` when the log does not answer in time.
        """

    @abstractmethod
    def read_now(self, limit: int = BATCH) -> list[Event] | None:
        """The same without waiting: None when it takes a look into the log, that is a call of `read`."""

    @abstractmethod
    def close(self) -> None:
        """Ends the subscription; what was not read is not delivered. May be called again."""

    async def next_batch(self, limit: int = BATCH, *, timeout: float | None = None) -> list[Event]:  # noqa: ASYNC109
        """The next events, at least one. Empty when the subscription has ended or `timeout` (seconds) has passed."""
        while True:
            batch = self.read_now(limit)
            if batch is None:
                batch = await self.read(limit)
            if batch or self.ending is not None:
                return batch
            if not await self._woken(timeout):
                return []

    def wake(self) -> None:
        """Called by the hub: something may be there."""
        if self._on_wake is not None:
            self._on_wake()
        elif self._signal is not None:
            _settle(self._signal, True)

    async def _woken(self, timeout: float | None) -> bool:  # noqa: ASYNC109
        """Waits for `wake`. Nothing awaits between arming and this, so none is missed."""
        loop = asyncio.get_running_loop()
        signal = self._signal = loop.create_future()
        # A timer of our own: a fraction of the price of asyncio.timeout, and a stream waits once per batch.
        timer = None if timeout is None else loop.call_later(timeout, _settle, signal, False)
        try:
            return await signal
        finally:
            self._signal = None
            if timer is not None:
                timer.cancel()

    async def __aiter__(self) -> AsyncIterator[Event]:
        while batch := await self.next_batch():
            for event in batch:
                yield event

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _settle(signal: "asyncio.Future[bool]", woken: bool) -> None:
    if not signal.done():
        signal.set_result(woken)


class LogAccess(Protocol):
    """The hub's side of a subscription: bounded access to the log, and the way out."""

    async def read_log(self, session: SessionRef, seq: int, limit: int) -> Sequence[CommittedRecord]: ...

    async def head(self, session: SessionRef) -> Head: ...

    def leave(self, topic: Topic) -> None: ...


class SessionSubscription(Subscription):
    """Every record of one session after a cursor, once, in order, and the deltas of messages in progress."""

    def __init__(
        self,
        topic: Topic,
        *,
        after_seq: int | None,
        generation: int | None,
        head: Head | None = None,
        types: Collection[str] | None,
        log: LogAccess,
        clock: Clock,
        log_timeout: float,
        on_wake: Callable[[], None] | None,
    ) -> None:
        super().__init__(types=types, on_wake=on_wake)
        self.session = topic.session
        self.cursor = after_seq if after_seq is not None else 0
        self._begun_after = self.cursor
        self._topic = topic
        self._from_now = after_seq is None
        self._generation = generation
        self._known_head = head
        self._log = log
        self._clock = clock
        self._log_timeout = log_timeout
        self._head: Head | None = None
        self._farewell: Event | None = None  # the log_reset of this subscription alone
        self._wants_deltas = self.types is None or DELTA in self.types
        self._seen = -1  # version of the topic's partials at the last look
        self._sent: dict[str, tuple[Partial, dict[str, int]]] = {}

    async def start(self) -> Head:
        """Compares the cursor with the log; where the log stands. A cursor that is not this log's ends in `log_reset`.

        Raises what `LogReader.head` raises for an unknown session, and `LogUnavailable`. `read` calls it if need be.
        """
        if self._head is None:
            head = self._known_head or await self._log.head(self.session)
            head = Head(max(head.last_seq, self._topic.known), head.generation)
            self._head = head
            if self._from_now:
                self.cursor = head.last_seq
            self._begun_after = self.cursor
            stale = self._generation is not None and self._generation != head.generation
            if stale or self.cursor > head.last_seq:
                self._farewell = reset_event(self.session, head, now_us=self._clock.now_us())
        return self._head

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            self.close()
            raise
        return self

    async def read(self, limit: int = BATCH) -> list[Event]:
        if self._head is None:
            await self.start()
        give_up: float | None = None
        while self.ending is None:
            batch = self._read_ring(limit)
            if batch is not None:
                return batch
            records = await self._log.read_log(self.session, self.cursor, limit)
            if self._closed or self._topic.ending is Ending.RESET:
                continue  # what was read may be of another generation
            if records:
                give_up = None
                if batch := self._take_records(records):
                    return batch
                continue
            now = asyncio.get_running_loop().time()
            give_up = give_up or now + self._log_timeout
            if now > give_up:
                raise LogUnavailable(session_id=self.session.session_id)
            await asyncio.sleep(RETRY)
        return []

    def read_now(self, limit: int = BATCH) -> list[Event] | None:
        if self.ending is not None:
            return []
        return None if self._head is None else self._read_ring(limit)

    def delivers(self, event: Event) -> bool:
        """Whether an event of this session, seen elsewhere, is one that this subscription delivers."""
        if self.types is not None and event.type not in self.types and event.type not in NOTICES:
            return False
        return event.seq is None or event.seq > self._begun_after

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.ending = self.ending or Ending.CLOSED
            self._topic.waiting.pop(self, None)
            self._sent.clear()
            self._log.leave(self._topic)
            self.wake()

    def _read_ring(self, limit: int) -> list[Event] | None:
        """What the hub has in memory; None when the log must be asked first."""
        topic = self._topic
        if self._farewell is not None or topic.ending is Ending.RESET:
            return self._end([])
        batch: list[Event] = []
        while self.cursor < topic.known and not batch:
            found = topic.ring.after(self.cursor, limit, BATCH_BYTES)
            if found is None:
                return None if topic.ending is None else self._end([])
            self.cursor = found[-1].seq or self.cursor
            batch = self._accepted(found)
        if self.cursor < topic.known:
            return batch
        if topic.ending is not None:
            return self._end(batch)
        if self._head is None or self.cursor < self._head.last_seq:
            return batch or None
        # Who has read beyond what was published waits for it: a message in progress may be in the log already.
        if self._wants_deltas and self.cursor <= topic.known and topic.partials.version != self._seen:
            self._add_deltas(batch)
        if not batch:
            topic.waiting[self] = None
        return batch

    def _take_records(self, records: Sequence[CommittedRecord]) -> list[Event]:
        """Events of records from the log."""
        found: list[Event] = []
        for record in records:
            if record.seq > self.cursor:
                event = Event.of_record(record)
                self.cursor = record.seq
                found.append(event)
        return self._accepted(found)

    def _accepted(self, found: list[Event]) -> list[Event]:
        if self._sent:
            found = self._without_sent(found)
        if self.types is None:
            return found
        return [event for event in found if event.type in self.types]

    def _without_sent(self, found: list[Event]) -> list[Event]:
        """The same events; of a message in progress that is among them, nothing more is to be said."""
        events: list[Event] = []
        for event in found:
            partial, ends = self._sent.pop(event.record_id or "", (None, None))
            if partial is not None and ends and self._topic.partials.superseded(partial):
                events.append(partial.abandoned(now_us=self._clock.now_us()))
            events.append(event)
        return events

    def _add_deltas(self, batch: list[Event]) -> None:
        """What this subscriber has not had of the messages in progress, and what it is to forget."""
        partials = self._topic.partials
        self._seen = partials.version
        now_us = self._clock.now_us()
        for message_id, (partial, ends) in list(self._sent.items()):
            if partials.by_id.get(message_id) is not partial:
                del self._sent[message_id]
                if ends:
                    batch.append(partial.abandoned(now_us=now_us))
        for message_id, partial in partials.by_id.items():
            _, ends = self._sent.setdefault(message_id, (partial, {}))
            for channel, text in partial.channels.items():
                event = partial.event_since(channel, ends.get(channel, 0), now_us=now_us)
                if event is not None:
                    ends[channel] = text.end
                    batch.append(event)

    def _end(self, batch: list[Event]) -> list[Event]:
        farewell = self._farewell or self._topic.farewell
        if farewell is not None:
            batch.append(farewell)
        self.ending = self._topic.ending or Ending.RESET
        return batch


def reset_event(session: SessionRef, head: Head, *, now_us: int) -> Event:
    """The `log_reset` of a cursor that does not belong to the log as it is now."""
    data = {"last_seq": head.last_seq, "generation": head.generation}
    return Event.made(LOG_RESET, session_id=session.session_id, now_us=now_us, data=data)
