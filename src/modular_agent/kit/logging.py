"""The process's logs: structlog and the standard library's `logging` on one road, written off the event loop.

A call makes a record with the context variables of its task (`request_id`, `session_id`, `run_id`) and puts it into a
bounded queue; one thread renders, takes secrets out, and writes to standard error and to the rotating file. Between two
writes it rests for a moment, because each time it wakes it takes the interpreter from the event loop.
"""

import json
import logging
import logging.handlers
import queue
import sys
import threading
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self, TextIO, cast

import orjson
import structlog
from structlog.contextvars import bound_contextvars, get_contextvars, merge_contextvars

from modular_agent.kit.clock import rfc3339
from modular_agent.kit.dataclass import dataclass
from modular_agent.kit.redaction import Redactor

__all__ = ["LogFormat", "Logs", "log_context"]

LogFormat = Literal["auto", "json", "console"]
log_context = bound_contextvars
"""`with log_context(run_id=...)`: every line of this task, and of the tasks it starts, carries these fields."""

QUEUE_SIZE: Final = 10_000
GATHER: Final = 0.05  # seconds between two writes
GATHERED: Final = 100  # lines that are written at once
_UVICORN: Final = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi")
# What no line of ours says: who called, in which thread (https://docs.python.org/3/howto/logging.html#optimization).
_NOT_ASKED: Final = ("_srcfile", "logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks")
_CHATTY: Final = ("httpx", "httpcore", "watchfiles", "aiohttp.access", "mcp", "asyncio")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Previous:
    """What `Logs.start` changed, to put it back."""

    root_level: int
    asked: Mapping[str, object]
    uvicorn: Mapping[str, tuple[list[logging.Handler], bool, int, bool]]


class Logs:
    """Owns the log pipeline of the process, from `start` to `close` (also as a context manager).

    `format` concerns `stream`: `auto` is `console` in a terminal and `json` elsewhere; the file always is JSON lines.
    `secrets` are values that no line may hold. When more than 10,000 lines wait, new ones are dropped and counted.
    """

    def __init__(
        self,
        *,
        level: str = "INFO",
        format: LogFormat = "auto",  # noqa: A002 (the word of the setting)
        file: Path | None = None,
        max_bytes: int = 20 * 1024 * 1024,
        backups: int = 5,
        secrets: Iterable[str] = (),
        stream: TextIO | None = None,
    ) -> None:
        self._level = level
        self._format = format
        self._file = file
        self._max_bytes = max_bytes
        self._backups = backups
        self._redactor = Redactor(secrets)
        self._stream = stream
        self._handler: _QueueHandler | None = None
        self._listener: _Listener | None = None
        self._previous: _Previous | None = None

    def start(self) -> None:
        """Routes every logger of the process here. A log file that cannot be opened is reported, not fatal."""
        handler = _QueueHandler()
        outputs, complaint = self._outputs()
        listener = _Listener(handler, *outputs)
        root = logging.getLogger()
        self._previous = _Previous(root_level=root.level, asked=_ask_less(), uvicorn=_take_over_uvicorn())
        root.addHandler(handler)
        root.setLevel(self._level)
        for name in _CHATTY:
            logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
        structlog.configure(
            processors=[structlog.stdlib.filter_by_level, merge_contextvars, _as_record],
            logger_factory=structlog.stdlib.LoggerFactory(),
            wrapper_class=structlog.stdlib.BoundLogger,
            cache_logger_on_first_use=True,
        )
        self._handler, self._listener = handler, listener
        listener.start()
        if complaint is not None:
            logging.getLogger(__name__).warning("the log file cannot be written: %s", complaint)

    def close(self) -> None:
        """Writes what waits, and gives the loggers back. Blocks for as long as that takes."""
        if self._handler is None or self._listener is None or self._previous is None:
            return
        root = logging.getLogger()
        root.removeHandler(self._handler)
        root.setLevel(self._previous.root_level)
        for name, value in self._previous.asked.items():
            setattr(logging, name, value)
        for name, (handlers, propagate, level, disabled) in self._previous.uvicorn.items():
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate, logger.disabled = handlers, propagate, disabled
            logger.setLevel(level)
        self._listener.stop()
        for output in self._listener.handlers:
            output.close()
        self._handler = self._listener = self._previous = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()  # waits for a few lines at most: a thread would cost more, and shutdown has nobody else to serve

    def _outputs(self) -> tuple[list[logging.Handler], str | None]:
        """The handlers behind the queue, and why there is none for the file (if so)."""
        stream = self._stream or sys.stderr
        terminal = _Terminal(stream)
        console = self._format == "console" or (self._format == "auto" and stream.isatty())
        terminal.setFormatter(_Formatter(self._redactor, console=console, colors=stream.isatty()))
        if self._file is None:
            return [terminal], None
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            file = logging.handlers.RotatingFileHandler(
                self._file, maxBytes=self._max_bytes, backupCount=self._backups, encoding="utf-8"
            )
        except OSError as error:
            return [terminal], f"{self._file}: {error.strerror}"
        file.setFormatter(_Formatter(self._redactor, console=False, colors=False))
        return [terminal, file], None


def _take_over_uvicorn() -> dict[str, tuple[list[logging.Handler], bool, int, bool]]:
    """Takes uvicorn's own handlers away, and its access log, which writes query strings; returns what was set."""
    before: dict[str, tuple[list[logging.Handler], bool, int, bool]] = {}
    for name in _UVICORN:
        logger = logging.getLogger(name)
        before[name] = (logger.handlers, logger.propagate, logger.level, logger.disabled)
        logger.handlers, logger.propagate = [], True
        logger.setLevel(logging.NOTSET)
    logging.getLogger("uvicorn.access").disabled = True
    return before


def _ask_less() -> dict[str, object]:
    """Has records made without what is not asked for; returns what was set."""
    before = {name: getattr(logging, name) for name in _NOT_ASKED if hasattr(logging, name)}
    for name in before:
        setattr(logging, name, None)
    return before


def _as_record(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The last structlog processor: the event goes to `logging` as the record's `msg`."""
    options = {"exc_info": event.pop("exc_info", None), "stack_info": event.pop("stack_info", False)}
    return (event,), options


class _QueueHandler(logging.handlers.QueueHandler):
    """Puts records into the queue as they are; counts those for which there was no place."""

    def __init__(self) -> None:
        self.records: queue.SimpleQueue[logging.LogRecord | None] = queue.SimpleQueue()
        self.dropped = 0
        super().__init__(cast(Any, self.records))  # it takes whatever has `put_nowait`

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        if not isinstance(record.msg, dict):
            # Arguments may change before the thread reads them, and the context belongs to this task.
            record.msg = {"event": record.getMessage(), **get_contextvars()}
            record.args = None
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        if self.records.qsize() < QUEUE_SIZE:
            self.records.put(record)
        else:
            self.dropped += 1


class _Terminal(logging.StreamHandler[TextIO]):
    """Writes the lines since the last `flush` at once: by themselves, standard error has a system call for each."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.append(self.format(record) + self.terminator)
            if len(self._lines) == GATHERED:
                self.flush()
        except Exception:  # noqa: BLE001 - reported as `logging` does it, and the thread goes on
            self.handleError(record)

    def flush(self) -> None:
        lines, self._lines = self._lines, []
        if lines:
            self.stream.write("".join(lines))
            super().flush()


class _Listener(logging.handlers.QueueListener):
    """The writing thread; says how many lines were dropped as soon as there is room again."""

    def __init__(self, source: _QueueHandler, *outputs: logging.Handler) -> None:
        super().__init__(source.queue, *outputs)
        self._source = source
        self._ending = threading.Event()

    def dequeue(self, block: bool) -> logging.LogRecord:
        records = self._source.records
        if records.empty():
            self._flush()
            self._ending.wait(GATHER)  # not for the next line: each would wake this thread
        return cast(logging.LogRecord, records.get(block))  # or None: the sentinel

    def handle(self, record: logging.LogRecord) -> None:
        if self._source.dropped:
            count, self._source.dropped = self._source.dropped, 0
            message = {"event": "log lines dropped", "count": count}
            super().handle(logging.LogRecord(__name__, logging.WARNING, __file__, 0, cast(Any, message), None, None))
        super().handle(record)

    def stop(self) -> None:
        self._ending.set()
        super().stop()
        self._flush()

    def enqueue_sentinel(self) -> None:
        self._source.records.put(None)

    def _flush(self) -> None:
        for output in self.handlers:
            try:
                output.flush()
            except (OSError, ValueError) as error:  # nobody reads standard error any more
                output.handleError(logging.LogRecord(__name__, logging.ERROR, __file__, 0, str(error), None, None))


class _Formatter(logging.Formatter):
    """Renders a record as one JSON line, or for people; secrets are out of it before it is a text."""

    def __init__(self, redactor: Redactor, *, console: bool, colors: bool) -> None:
        super().__init__()
        self._redactor = redactor
        self._console = structlog.dev.ConsoleRenderer(colors=colors) if console else None

    def format(self, record: logging.LogRecord) -> str:
        if self._console is not None:
            return self._console(None, "", self._line(record))
        line: str | None = getattr(record, "json_line", None)
        if line is None:  # a file asks twice, and the terminal once more
            line = record.json_line = _json(self._line(record))
        return line

    def _line(self, record: logging.LogRecord) -> dict[str, Any]:
        message: object = record.msg
        fields = cast(dict[str, Any], message) if isinstance(message, dict) else {"event": record.getMessage()}
        line: dict[str, Any] = {
            "timestamp": rfc3339(int(record.created * 1_000_000)),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        line.update(self._redactor.mapping(fields))
        if record.exc_info and record.exc_info[0] is not None:
            trace = "".join(traceback.format_exception(*record.exc_info)).rstrip()
            line["exception"] = self._redactor.text(trace)
        if record.stack_info:
            line["stack"] = self._redactor.text(record.stack_info)
        return line


def _json(line: dict[str, Any]) -> str:
    try:
        return orjson.dumps(line, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # half a surrogate pair, a number beyond 64 bits: the line must not be lost for it
        return json.dumps(line, default=repr)
