"""The server's own failures as errors: what was logged with an exception becomes a row like those of runs.

Every unexpected exception, of a request, a background task or a library, is logged with its trace, so the log is the
one place to take them from. When a row cannot be stored, that is a warning in the log without an exception: it is not
taken up again.
"""

import asyncio
import contextlib
import logging
import traceback
from collections import OrderedDict
from types import TracebackType
from typing import Any, Final, Self, cast

import structlog

from modular_agent.engine.failures import fingerprint
from modular_agent.errors import AgentError
from modular_agent.kit.clock import Clock
from modular_agent.kit.ids import new_id
from modular_agent.kit.redaction import Redactor
from modular_agent.storage.database import Database
from modular_agent.storage.repositories.error_groups import put_trace
from modular_agent.storage.repositories.errors import ErrorRow, put_error
from modular_agent.storage.unit_of_work import UnitOfWork

__all__ = ["ServerErrors"]

WAITING: Final = 100  # failures that wait to be stored
PER_MINUTE: Final = 10  # failures of one cause that are stored
CAUSES: Final = 1_000  # causes whose numbers are remembered
MESSAGE_LENGTH: Final = 2_000
TRACE_LENGTH: Final = 50_000
_log = structlog.stdlib.get_logger(__name__)


class _Failures(logging.Handler):
    """Hands every logged exception to the event loop; may be called in any thread."""

    def __init__(self, taker: "ServerErrors", loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(logging.ERROR)
        self._taker = taker
        self._loop = loop

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, Exception) or record.name == __name__:
            return
        message: Any = record.msg
        run_id: Any = cast("dict[str, Any]", message).get("run_id") if isinstance(message, dict) else None
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(
                self._taker.take, error, record.name, run_id if isinstance(run_id, str) else None
            )


class ServerErrors:
    """An async context manager: while it is entered, exceptions in the process's log are stored as errors."""

    def __init__(self, database: Database, *, clock: Clock, redactor: Redactor) -> None:
        self._writer = database.writer
        self._clock = clock
        self._redactor = redactor
        self._waiting: asyncio.Queue[tuple[ErrorRow, str]] = asyncio.Queue(WAITING)
        self._counts: OrderedDict[tuple[str, int], int] = OrderedDict()  # by cause and minute
        self._task: asyncio.Task[None] | None = None
        self._handler: _Failures | None = None

    async def __aenter__(self) -> Self:
        self._handler = _Failures(self, asyncio.get_running_loop())
        logging.getLogger().addHandler(self._handler)
        self._task = asyncio.create_task(self._run(), name="server errors")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handler is not None:
            logging.getLogger().removeHandler(self._handler)
        await asyncio.sleep(0)  # what other threads handed over
        while not self._waiting.empty():
            await self._store(*self._waiting.get_nowait())
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def take(self, error: Exception, where: str, run_id: str | None = None) -> None:
        """Has an exception stored soon; beyond the bounds it stays in the log only."""
        cause = fingerprint(error, where=f"server/{where}")
        now = self._clock.now_us()
        if not self._counts_in(cause, now) or self._waiting.full():
            return
        name = error.code if isinstance(error, AgentError) else type(error).__qualname__
        message = self._redactor.text(str(error) or name)[:MESSAGE_LENGTH]
        trace = self._redactor.text("".join(traceback.format_exception(error)))[-TRACE_LENGTH:]
        row = ErrorRow(*(new_id("err"), None, run_id, None, now, name, message, "error", cause))
        self._waiting.put_nowait((row, trace))

    def _counts_in(self, cause: str, now: int) -> bool:
        key = (cause, now // 60_000_000)
        count = self._counts.pop(key, 0) + 1
        self._counts[key] = count
        if len(self._counts) > CAUSES:
            self._counts.popitem(last=False)
        return count <= PER_MINUTE

    async def _run(self) -> None:
        while True:
            await self._store(*await self._waiting.get())

    async def _store(self, row: ErrorRow, trace: str) -> None:
        unit: UnitOfWork[None] = UnitOfWork(then=put_trace(row.error_id, trace))
        put_error(unit, row)
        try:
            await self._writer.commit(unit)
        except AgentError as error:
            _log.warning("a failure of the server could not be stored", error_id=row.error_id, code=error.code)
