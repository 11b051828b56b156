"""Lines of standard input and Ctrl-C, read without ever blocking the event loop."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

__all__ = ["Keyboard"]

CHUNK: Final = 65_536  # bytes


class Keyboard:
    """Standard input by lines, and interrupts; an async context manager.

    `on_interrupt` is called on the event loop for every Ctrl-C (and SIGTERM) while no line is awaited.
    """

    def __init__(self, on_interrupt: Callable[[], None]) -> None:
        self._on_interrupt = on_interrupt
        self._buffer = b""
        self._ended = False
        self._cut = False
        self._line: asyncio.Future[str | None] | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._interrupted)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

    @property
    def echoes(self) -> bool:
        """Whether what is typed, its end of line included, is seen: not for a pipe, and not when Ctrl-C was pressed."""
        return sys.stdin.isatty() and not self._cut

    @property
    def is_watched(self) -> bool:
        """Whether a person may sit at it."""
        return sys.stdin.isatty()

    @property
    def was_interrupted(self) -> bool:
        """Whether Ctrl-C ended the last line that was awaited."""
        return self._cut

    async def line(self) -> str | None:
        """The next line without its end; None at the end of input and after Ctrl-C."""
        self._cut = False
        ready = self._take()
        if ready is not None or self._ended:
            return ready
        loop = asyncio.get_running_loop()
        self._line = loop.create_future()
        number = sys.stdin.fileno()
        try:
            loop.add_reader(number, self._read, number)
        except PermissionError:  # a plain file: there all of it can be read at once
            while not self._ended and not self._line.done():
                self._read(number)
            return await self._line
        try:
            return await self._line
        finally:
            loop.remove_reader(number)
            self._line = None

    def _read(self, number: int) -> None:
        chunk = os.read(number, CHUNK)
        self._ended = self._ended or not chunk
        self._buffer += chunk
        ready = self._take()
        if self._line is not None and not self._line.done() and (ready is not None or self._ended):
            self._line.set_result(ready)

    def _take(self) -> str | None:
        """A whole line of what was read; at the end of input, the rest."""
        line, newline, rest = self._buffer.partition(b"\n")
        if not newline and not (self._ended and line):
            return None
        self._buffer = rest
        return line.decode(errors="replace").rstrip("\r")

    def _interrupted(self) -> None:
        if self._line is not None and not self._line.done():
            self._cut = True
            self._line.set_result(None)
        else:
            self._on_interrupt()
