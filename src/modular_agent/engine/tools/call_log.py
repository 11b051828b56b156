"""What asynchronous tools say through `logging`, given to the call that said it."""

import asyncio
import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Final, TypeAlias

__all__ = ["CallLog"]

_Sink: TypeAlias = tuple[Callable[[str, str], None], asyncio.AbstractEventLoop]
# Context variables belong at module level: a context keeps every variable that it ever held.
_SINK: Final[ContextVar[_Sink | None]] = ContextVar("modular_agent_call_log", default=None)


class CallLog(logging.Handler):
    """A handler on the root logger while entered. A record made during a call goes to that call's log too.

    What counts is the context: tasks and threads (`asyncio.to_thread`) that the call started are part of it.
    """

    def __enter__(self) -> "CallLog":
        logging.getLogger().addHandler(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logging.getLogger().removeHandler(self)

    @contextmanager
    def during(self, log: Callable[[str, str], None]) -> Generator[None]:
        """Sends what is logged within to `log(level, message)`, in the event loop's thread."""
        token = _SINK.set((log, asyncio.get_running_loop()))
        try:
            yield
        finally:
            _SINK.reset(token)

    def emit(self, record: logging.LogRecord) -> None:
        sink = _SINK.get()
        if sink is None:
            return
        log, loop = sink
        try:
            level, message = record.levelname.lower(), self.format(record)
            if _running_loop() is loop:
                log(level, message)
            elif not loop.is_closed():
                loop.call_soon_threadsafe(log, level, message)
        except Exception:  # noqa: BLE001  # a wrong format string, a log that fails: not the author's business
            self.handleError(record)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
