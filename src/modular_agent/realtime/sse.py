"""Server-sent events: the frames of a subscription (https://html.spec.whatwg.org/multipage/server-sent-events.html).

`id` is the event's `seq`, `event` its type, `data` the envelope, the same as on a WebSocket. What is not in the log
(deltas, notices) has no id. A log whose generation is not 0 adds it: `id: 12.1`; a browser sends it back as it is.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from functools import lru_cache
from typing import Final, NamedTuple

import orjson

from modular_agent.errors import AgentError, CursorInvalid
from modular_agent.kit.clock import Clock
from modular_agent.lifecycle import ENDED_RUN_STATUSES, RunStatus
from modular_agent.realtime.event import LOG_RESET, Event
from modular_agent.realtime.protocol import error_answer
from modular_agent.realtime.subscription import SessionSubscription, Subscription

__all__ = ["HEADERS", "MEDIA_TYPE", "Batches", "Cursor", "Last", "frames", "parse_last_event_id", "stream"]

MEDIA_TYPE: Final = "text/event-stream"
HEADERS: Final[Mapping[str, str]] = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",
}
ID: Final = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,9}))?")
BEAT: Final = b": heartbeat\n\n"
GATHER: Final = 0.02  # seconds between two chunks of a stream, but for its end: each is a trip through the server
GATHERED: Final = 256  # events of a chunk
LATE_FACTOR: Final = 5.0  # a stream that is woken late, because the process is busy, gathers so many times as long more
MOST_GATHER: Final = 0.1  # seconds
FINAL_STATUSES: Final = ENDED_RUN_STATUSES | {RunStatus.PAUSED}


class Last(bytes):
    """The chunk that a stream ends with: sent together with the end of the response."""


class Cursor(NamedTuple):
    """Where a client has got to."""

    after_seq: int
    generation: int


def parse_last_event_id(text: str) -> Cursor:
    """The cursor in a `Last-Event-ID`: `12`, or `12.1` with the generation. Raises `CursorInvalid`."""
    found = ID.fullmatch(text.strip())
    if found is None:
        raise CursorInvalid
    return Cursor(int(found[1]), int(found[2] or 0))


def frames(events: Iterable[Event], *, generation: int = 0) -> bytes:
    """The events, each as a frame."""
    parts: list[bytes] = []
    for event in events:
        if event.seq is not None:
            parts.append(b"id: %d.%d\n" % (event.seq, generation) if generation else b"id: %d\n" % event.seq)
        elif event.type == LOG_RESET:  # a browser that reconnects by itself must not come back with the same cursor
            begun = orjson.loads(event.envelope)["data"]["generation"]
            parts.append(b"id: 0.%d\n" % begun if begun else b"id: 0\n")
        parts += (_named(event.type), event.envelope, b"\n\n")
    return b"".join(parts)


@lru_cache(maxsize=64)  # there are a dozen
def _named(kind: str) -> bytes:
    return b"event: %b\ndata: " % kind.encode()


async def stream(
    subscription: SessionSubscription,
    *,
    clock: Clock,
    run_id: str | None = None,
    heartbeat: float = 15.0,
    retry: float = 2.0,
    gather: float = GATHER,
) -> AsyncGenerator[bytes]:
    """The body of a response: chunks of whole frames; closes the subscription at its end.

    What comes within `gather` seconds of the last chunk goes into one (up to 0.1 seconds while the process is so busy
    that it wakes streams late); the end of a run waits for nothing.
    With `run_id`, only that run's events, until it has ended or paused: then a last event `end` whose data are
    `{run_id, status}`. `heartbeat` is the seconds of silence after which a comment keeps the connection open, `retry`
    the seconds a browser is asked to wait before it reconnects. A client that gets no `end`, `log_reset` or
    `session_deleted` is to reconnect with its last id. Raises what `subscription.start` raises, before the first chunk.
    """
    generation = await _start(subscription)
    try:
        chunk = b"retry: %d\n\n" % round(retry * 1000)
        batches = Batches(subscription, run_id, gather, now=asyncio.get_running_loop().time)
        while chunk or subscription.ending is None:
            try:  # the first chunk goes with what is there already, and waits for nothing
                wanted, status = await batches.next(0.0 if chunk else heartbeat)
            except AgentError as error:
                yield chunk + _failure(error, subscription.session.session_id, now_us=clock.now_us())
                return
            if not chunk and batches.silent and subscription.ending is None:
                chunk = BEAT
            chunk += frames(wanted, generation=generation)
            if run_id is not None and status is not None:
                chunk += _end(subscription.session.session_id, run_id, status, now_us=clock.now_us())
            if status is not None:
                yield Last(chunk)
                return
            if chunk:
                yield chunk
            chunk = b""
    finally:
        subscription.close()


async def _start(subscription: SessionSubscription) -> int:
    try:
        return (await subscription.start()).generation
    except BaseException:
        subscription.close()
        raise


class Batches:
    """What a stream sends together: events of one run, or of all. `silent` says that nothing at all has come."""

    def __init__(
        self, subscription: Subscription, run_id: str | None, gather: float, *, now: Callable[[], float]
    ) -> None:
        self.silent = False
        self._subscription = subscription
        self._run_id = run_id
        self._gather = gather
        self._now = now
        self._not_before = 0.0

    async def next(self, heartbeat: float) -> tuple[list[Event], str | None]:
        """The next events after at most `heartbeat` seconds, and the status of the run that ended with them."""
        batch = await self._subscription.next_batch(timeout=heartbeat)
        self.silent = not batch
        wanted, status = self._wanted(batch)
        waited = False
        while status is None and self._subscription.ending is None and len(wanted) < GATHERED:
            left = self._not_before - self._now()
            if left <= 0 or self.silent:
                break
            waited = True
            try:
                more, status = self._wanted(await self._subscription.next_batch(timeout=left))
            except AgentError:  # the next call says so, after what has been gathered
                break
            wanted += more
        if wanted:
            now = self._now()
            late = max(now - self._not_before, 0.0) if waited else 0.0
            self._not_before = now + max(self._gather, min(self._gather + LATE_FACTOR * late, MOST_GATHER))
        return wanted, status

    def _wanted(self, batch: list[Event]) -> tuple[list[Event], str | None]:
        return (batch, None) if self._run_id is None else _of_run(batch, self._run_id)


def _of_run(batch: list[Event], run_id: str) -> tuple[list[Event], str | None]:
    """The events of one run up to its last, and the status it then has; None while it goes on."""
    found: list[Event] = []
    for event in batch:
        if event.run_id == run_id or event.run_id is None:
            found.append(event)
            if event.run_id == run_id and event.run_status in FINAL_STATUSES:
                return found, event.run_status
    return found, None


def _end(session_id: str, run_id: str, status: str, *, now_us: int) -> bytes:
    data = {"run_id": run_id, "status": status}
    return frames([Event.made("end", session_id=session_id, now_us=now_us, data=data, run_id=run_id)])


def _failure(error: AgentError, session_id: str, *, now_us: int) -> bytes:
    envelope = error_answer(error, message_id=None, now_us=now_us, session_id=session_id)
    return frames([Event("error", session_id=session_id, seq=None, envelope=envelope)])
