"""Server-sent events, as bytes arrive: chunk boundaries may lie anywhere.

The format is the one of the HTML Standard, section 9.2.6 (https://html.spec.whatwg.org/multipage/server-sent-events.html):
lines end with LF, CRLF or CR, a blank line ends an event, several `data:` lines are joined with LF, a line that starts
with a colon is a comment. Only data is kept: providers repeat the event's name inside it. Different from the standard,
an event that the end of the stream cuts off before its blank line still counts (see `close`): some servers end so.
"""

from typing import Final

__all__ = ["EventTooLarge", "SSEParser"]

MAX_EVENT: Final = 32 * 1024 * 1024
_BOM: Final = b"\xef\xbb\xbf"


class EventTooLarge(ValueError):
    """An event is larger than the parser accepts."""


class SSEParser:
    """Turns chunks of bytes into the data of events. Raises `EventTooLarge` beyond `max_event` bytes without an end."""

    __slots__ = ("_after_cr", "_data", "_max_event", "_pending", "_size", "_started")

    def __init__(self, *, max_event: int = MAX_EVENT) -> None:
        self._pending: list[bytes] = []  # pieces of a line whose end has not come
        self._data: list[bytes] = []  # data lines of the event whose end has not come
        self._size = 0
        self._max_event = max_event
        self._after_cr = False
        self._started = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of every event that `chunk` completes, in order."""
        if self._after_cr or b"\r" in chunk:
            chunk = self._unify(chunk)
        self._size += len(chunk)
        if b"\n" not in chunk:
            if chunk:
                self._pending.append(chunk)
            self._check()
            return []
        if self._pending:
            self._pending.append(chunk)
            chunk = b"".join(self._pending)
            self._pending.clear()
        lines = chunk.split(b"\n")
        rest = lines.pop()
        if rest:
            self._pending.append(rest)
        events = self._take(lines)
        if events:
            self._size = len(rest) + sum(map(len, self._data))
        self._check()
        return events

    def close(self) -> list[bytes]:
        """The data of an event that the end of the stream cut off, if any."""
        return self.feed(b"\n\n") if self._pending or self._data else []

    def _take(self, lines: list[bytes]) -> list[bytes]:
        events: list[bytes] = []
        data = self._data
        if not self._started:
            self._started = True
            lines[0] = lines[0].removeprefix(_BOM)
        for line in lines:
            if not line:
                if data:
                    events.append(data[0] if len(data) == 1 else b"\n".join(data))
                    data.clear()
            elif line.startswith(b"data:"):
                data.append(line[6:] if line[5:6] == b" " else line[5:])
            elif line == b"data":
                data.append(b"")
        return events

    def _unify(self, chunk: bytes) -> bytes:
        """`chunk` with every line end as LF; a CRLF that was cut in two is one line end."""
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        if chunk.endswith(b"\r"):
            self._after_cr = True
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _check(self) -> None:
        if self._size > self._max_event:
            raise EventTooLarge(f"an event of more than {self._max_event} bytes")
