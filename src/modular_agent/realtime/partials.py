"""Messages in progress: the text that a model has written so far, for clients who join or lag in the middle."""

from bisect import bisect_right
from typing import Any, Final

from modular_agent.events import Delta
from modular_agent.realtime.event import DELTA, Event

__all__ = ["Partial", "Partials", "Text", "delta_event"]

COMPACT: Final = 128  # pieces joined into one beyond this, so that memory stays near the text's own size
REMEMBERED: Final = 64  # finished messages whose late deltas are still recognised


class Text:
    """The text of one channel from `start` on; positions count code points from the message's beginning."""

    __slots__ = ("_offsets", "_pieces", "_shared", "end", "start")

    def __init__(self, start: int) -> None:
        self.start = start
        self.end = start
        self._pieces: list[str] = []
        self._offsets: list[int] = []
        self._shared: tuple[int, int, Event] | None = None

    def add(self, text: str, offset: int) -> bool:
        """Takes what is new of `text`; a gap before it makes the text start there. Says whether anything was new."""
        if offset > self.end:
            self._pieces.clear()
            self._offsets.clear()
            self.start = self.end = offset
        fresh = text[self.end - offset :] if offset < self.end else text
        if not fresh:
            return False
        self._pieces.append(fresh)
        self._offsets.append(self.end)
        self.end += len(fresh)
        if len(self._pieces) > COMPACT:
            self._pieces = ["".join(self._pieces)]
            self._offsets = [self.start]
        return True

    def since(self, offset: int) -> str:
        """What stands from `offset` (at least `start`) to the end."""
        first = bisect_right(self._offsets, offset) - 1
        head = self._pieces[first][offset - self._offsets[first] :]
        return head if first == len(self._pieces) - 1 else head + "".join(self._pieces[first + 1 :])

    def shared(self, offset: int) -> Event | None:
        """The delta from `offset` to the end, when a subscriber at the same place has had it made."""
        made = self._shared
        return made[2] if made is not None and made[0] == offset and made[1] == self.end else None

    def share(self, offset: int, event: Event) -> None:
        self._shared = (offset, self.end, event)


class Partial:
    """One attempt at a message; a second one may have the same `message_id`."""

    __slots__ = ("attempt", "channels", "message_id", "node", "run_id", "session")

    def __init__(self, delta: Delta, *, attempt: int) -> None:
        self.attempt = attempt
        self.session = delta.session
        self.message_id = delta.message_id
        self.run_id = delta.run_id
        self.node = delta.node
        self.channels: dict[str, Text] = {}

    def event_since(self, channel: str, offset: int, *, now_us: int) -> Event | None:
        """One delta with all text after `offset`, or None when there is none; encoded once for all at that place."""
        text = self.channels[channel]
        offset = max(offset, text.start)
        if offset >= text.end:
            return None
        event = text.shared(offset)
        if event is None:
            event = self._event(channel, text.since(offset), offset, now_us)
            text.share(offset, event)
        return event

    def abandoned(self, *, now_us: int) -> Event:
        """What a client is told who had text of this attempt."""
        return self._event("content", "", 0, now_us, abandoned=True)

    def _event(self, channel: str, text: str, offset: int, now_us: int, *, abandoned: bool = False) -> Event:
        return delta_event(
            Delta(
                session=self.session,
                run_id=self.run_id,
                node=self.node,
                message_id=self.message_id,
                text=text,
                offset=offset,
                channel=channel,
                abandoned=abandoned,
            ),
            now_us=now_us,
        )


def delta_event(delta: Delta, *, now_us: int) -> Event:
    """The `message_delta` event of a delta."""
    data: dict[str, Any] = {
        "message_id": delta.message_id,
        "run_id": delta.run_id,
        "node": delta.node,
        "text": delta.text,
        "offset": delta.offset,
        "channel": delta.channel,
    }
    if delta.abandoned:
        data["abandoned"] = True
    return Event.made(DELTA, session_id=delta.session.session_id, now_us=now_us, data=data, run_id=delta.run_id)


class Partials:
    """The messages in progress of one session; `version` rises with every change."""

    __slots__ = ("_attempts", "_finished", "_max_chars", "_max_messages", "by_id", "version")

    def __init__(self, *, max_messages: int, max_chars: int) -> None:
        self.by_id: dict[str, Partial] = {}
        self.version = 0
        self._attempts = 0
        self._finished: dict[str, int] = {}  # the attempt that became the message; 0 if no delta of it was seen
        self._max_messages = max_messages
        self._max_chars = max_chars

    def add(self, delta: Delta) -> bool:
        """Takes a delta; says whether there is anything new to tell."""
        partial = self.by_id.get(delta.message_id)
        if delta.abandoned:
            return partial is not None and self._drop(delta.message_id)
        if partial is None:
            if delta.message_id in self._finished:
                return False  # a late one: the message is in the log
            partial = self._begin(delta)
        text = partial.channels.get(delta.channel)
        if text is None:
            text = partial.channels[delta.channel] = Text(delta.offset)
        if text.end >= self._max_chars or not text.add(delta.text, delta.offset):
            return False
        self.version += 1
        return True

    def finish(self, message_id: str) -> None:
        """The message is in the log: what is left of its deltas is not worth sending."""
        partial = self.by_id.pop(message_id, None)
        if partial is not None:
            self.version += 1
        self._finished[message_id] = 0 if partial is None else partial.attempt
        if len(self._finished) > REMEMBERED:
            del self._finished[next(iter(self._finished))]

    def superseded(self, partial: Partial) -> bool:
        """Whether another attempt than this one is, or became, the message."""
        current = self.by_id.get(partial.message_id)
        if current is not None:
            return current is not partial
        return self._finished.get(partial.message_id) != partial.attempt

    def end_run(self, run_id: str) -> bool:
        """Abandons what a run left unfinished; says whether there was any."""
        left = [key for key, partial in self.by_id.items() if partial.run_id == run_id]
        for key in left:
            self._drop(key)
        return bool(left)

    def _begin(self, delta: Delta) -> Partial:
        if len(self.by_id) >= self._max_messages:
            self._drop(next(iter(self.by_id)))
        self._attempts += 1
        partial = self.by_id[delta.message_id] = Partial(delta, attempt=self._attempts)
        return partial

    def _drop(self, message_id: str) -> bool:
        del self.by_id[message_id]
        self.version += 1
        return True
