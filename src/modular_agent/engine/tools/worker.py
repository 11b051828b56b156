"""The worker process: runs Python code of workflow authors, one call at a time, until its server goes away.

Run as `python -m modular_agent.engine.tools.worker LIFE_FD`. Frames (`frames.py`) come in on standard input and go
out on what was standard output; the code's own output becomes log frames. Keep the imports few: they are the time
that the first call waits.

    in   {root, allowed, path}                                       once
    in   {id, op: "describe" | "inspect", reference}
    in   {id, op: "tool" | "function", reference, arguments, positional, context}
    out  {ready}
    out  {log: [level, message], id}
    out  {id, text | value | description}  or  {id, error: {kind, type, message, trace}}
"""

import faulthandler
import io
import logging
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

import orjson

from modular_agent.engine.tools import frames
from modular_agent.engine.tools.errors import BadReference, SignatureUnsupported
from modular_agent.engine.tools.parameters import BadArguments, context_parameter, is_async
from modular_agent.engine.tools.port import ToolContext
from modular_agent.engine.tools.references import References
from modular_agent.engine.tools.results import json_bytes, text_of

__all__ = ["main"]

LOG_RECORDS: Final = 1_000  # of one call
LOG_CHARACTERS: Final = 8_192  # of one record


class Wire:
    """The frames that go out; any thread may send."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._call: int | None = None
        self._records = 0

    def begin(self, call: int) -> None:
        self._call, self._records = call, 0

    def send(self, frame: bytes) -> None:
        with self._lock:
            self._stream.write(frame)
            self._stream.flush()

    def log(self, level: str, message: str) -> None:
        """One log record of the current call; a call that says too much is cut short."""
        self._records += 1
        if self._records > LOG_RECORDS:
            return
        if self._records == LOG_RECORDS:
            level, message = "warning", f"This call logged {LOG_RECORDS} records; what follows is not kept."
        text = message[:LOG_CHARACTERS].encode("utf-8", "replace").decode()
        self.send(frames.encode({"log": [level, text], "id": self._call}))


class LogStream(io.TextIOBase):
    """Standard output or error of the author's code: every line is a log record."""

    def __init__(self, wire: Wire, level: str) -> None:
        self._wire = wire
        self._level = level
        self._rest = ""
        self._lock = threading.RLock()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        with self._lock:
            *lines, self._rest = (self._rest + text).split("\n")
            if len(self._rest) > LOG_CHARACTERS:
                lines, self._rest = [*lines, self._rest], ""
        for line in lines:
            if line.strip():
                self._wire.log(self._level, line)
        return len(text)

    def finish(self) -> None:
        """Sends a last line that has no end."""
        with self._lock:
            line, self._rest = self._rest, ""
        if line.strip():
            self._wire.log(self._level, line)


class WireHandler(logging.Handler):
    """`logging` of the author's code."""

    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self._wire = wire

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._wire.log(record.levelname.lower(), self.format(record))
        except Exception:  # noqa: BLE001  # a wrong format string must not end the author's call
            self.handleError(record)


class Worker:
    """Answers requests until there are no more."""

    def __init__(self, references: References, wire: Wire, streams: tuple[LogStream, ...]) -> None:
        self._references = references
        self._wire = wire
        self._streams = streams
        self._signatures: dict[str, tuple[object, Any]] = {}  # reference: (function, its Signature)

    def answer(self, request: Mapping[str, Any]) -> None:
        number: int = request["id"]
        self._wire.begin(number)
        try:
            reply = self._reply(request)
        except BaseException as error:  # noqa: BLE001  # SystemExit of the author's code included
            reply = frames.encode({"id": number, "error": _describe_error(error)})
        for stream in self._streams:
            stream.finish()
        self._wire.send(reply)

    def _reply(self, request: Mapping[str, Any]) -> bytes:
        number, operation, reference = request["id"], request["op"], request["reference"]
        function = self._references.load_callable(reference)
        if operation == "inspect":
            return frames.encode({"id": number, "description": {"is_async": is_async(function)}})
        if operation == "describe":
            return frames.encode({"id": number, "description": _description(self._signature(reference, function))})
        context = self._context(request.get("context"))
        if operation == "tool":
            bound = self._signature(reference, function).bind(request["arguments"], context=context)
            result = _finished(function(*bound.positional, **bound.keywords))
            return frames.encode({"id": number, "text": text_of(result)})
        keywords = dict(request["arguments"])
        parameter = context_parameter(function)
        if parameter is not None and context is not None and parameter.kind is not parameter.POSITIONAL_ONLY:
            keywords.setdefault(parameter.name, context)
        result = _finished(function(*request["positional"], **keywords))
        return frames.encode({"id": number, "value": orjson.Fragment(json_bytes(result))})

    def _signature(self, reference: str, function: Callable[..., Any]) -> Any:
        known = self._signatures.get(reference)
        if known is not None and known[0] is function:
            return known[1]
        from modular_agent.engine.tools.signature import Signature  # pydantic: a tenth of a second, tools only

        signature = Signature(function)
        self._signatures[reference] = (function, signature)
        return signature

    def _context(self, fields: Mapping[str, str] | None) -> ToolContext | None:
        if fields is None:
            return None
        return ToolContext(**{**fields, "files": Path(fields["files"])}, log=self._wire.log)  # pyright: ignore[reportArgumentType]


def _description(signature: Any) -> dict[str, Any]:
    return {
        "name": signature.name,
        "description": signature.description,
        "parameters": signature.parameters,
        "is_async": signature.is_async,
    }


def _finished(result: Any) -> Any:
    """The result itself, also when a decorated function turned out to give a coroutine."""
    if not hasattr(result, "__await__"):
        return result
    import asyncio

    async def wait() -> Any:
        return await result

    return asyncio.run(wait())


def _reference_error(error: BadReference | SignatureUnsupported) -> dict[str, Any]:
    parameters = {key: str(value) for key, value in error.parameters.items()}
    if isinstance(error, BadReference):
        parameters |= {"suggestion": error.suggestion, "line": error.line}
    return {"kind": "reference", "type": error.code, "message": str(error), "trace": None, "parameters": parameters}


def _describe_error(error: BaseException) -> dict[str, Any]:
    if isinstance(error, BadReference | SignatureUnsupported):
        return _reference_error(error)
    if isinstance(error, BadArguments):
        return {"kind": "arguments", "type": "BadArguments", "message": str(error), "trace": None}
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename == __file__ and frame.tb_next is not None:
        frame = frame.tb_next  # the author's code is what they want to see
    trace = "".join(traceback.format_exception(type(error), error, frame))
    message = str(error).encode("utf-8", "replace").decode()
    return {
        "kind": "exception",
        "type": type(error).__name__,
        "message": message,
        "trace": trace.encode("utf-8", "replace").decode(),
    }


def _read_requests(stream: BinaryIO, requests: "queue.SimpleQueue[dict[str, Any]]") -> None:
    """Runs in a thread: the end of the input is noticed even while the author's code is busy."""
    while (request := frames.read(stream)) is not None:
        requests.put(request)
    os._exit(0)


def _private_streams() -> tuple[BinaryIO, BinaryIO]:
    """Our own ends of standard input and output; the author's code gets an empty input and writes to the log."""
    source, sink = os.dup(0), os.dup(1)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    os.dup2(2, 1)
    return os.fdopen(source, "rb"), os.fdopen(sink, "wb")


def run() -> None:
    """Serves requests; returns never."""
    source, sink = _private_streams()
    faulthandler.enable(file=2, all_threads=False)
    wire = Wire(sink)
    streams = (LogStream(wire, "info"), LogStream(wire, "warning"))
    sys.stdout, sys.stderr = streams
    logging.basicConfig(level=logging.INFO, handlers=[WireHandler(wire)], format="%(message)s")
    start = frames.read(source)
    if start is None:
        os._exit(0)
    sys.path.extend(entry for entry in start["path"] if entry not in sys.path)
    worker = Worker(References(Path(start["root"]), allowed_modules=start["allowed"]), wire, streams)
    requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_read_requests, args=(source, requests), daemon=True, name="requests").start()
    wire.send(frames.encode({"ready": True}))
    while True:
        worker.answer(requests.get())


def main(arguments: list[str]) -> None:
    """`arguments` holds the number of the life pipe; -1 where processes cannot fork."""
    life = int(arguments[0])
    if life < 0:
        run()
        return
    from modular_agent.engine.tools.guard import run_guarded

    run_guarded(life, run)


if __name__ == "__main__":
    main(sys.argv[1:])
