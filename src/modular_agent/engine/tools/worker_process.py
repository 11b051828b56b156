"""One worker process as its pool sees it."""

import asyncio
import logging
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import orjson

from modular_agent.engine.tools import frames
from modular_agent.engine.tools.errors import WorkerUnavailable
from modular_agent.engine.tools.process_tree import kill_tree
from modular_agent.kit.dataclass import dataclass

__all__ = ["Failure", "FailureKind", "WorkerProcess", "WorkerReply"]

_LOG: Final = logging.getLogger(__name__)
GUARDED: Final = hasattr(os, "fork")
STDERR_LINES: Final = 60  # kept for the report of a worker that died
LINE: Final = 8_192
END_PATIENCE: Final = 10.0  # seconds for a process that was killed to be gone

FailureKind: TypeAlias = Literal["exception", "timeout", "died", "arguments", "reference"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a call has no result. `error_type` names the exception; `stack_trace` is the author's, for the log only."""

    kind: FailureKind
    error_type: str
    message: str
    stack_trace: str | None = None
    parameters: Mapping[str, Any] | None = None  # of the `AgentError` whose code is `error_type`, for kind `reference`


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReply:
    """What a call gave: `text` of a tool, `value` of a function, `description` of a callable; or why it failed."""

    text: str = ""
    value: Any = None  # JSON
    description: Mapping[str, Any] | None = None
    failure: Failure | None = None


@dataclass(slots=True)
class _Call:
    number: int
    reply: "asyncio.Future[WorkerReply]"
    log: Callable[[str, str], None]


class WorkerProcess:
    """A running worker; made by `start`. One call at a time; `kill` may be called at any moment, by anyone."""

    def __init__(self, process: asyncio.subprocess.Process, life: int) -> None:
        self._process = process
        self._life = life
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._numbers = 0
        self._call: _Call | None = None
        self._stderr: deque[str] = deque(maxlen=STDERR_LINES)
        self._ended = False
        self._killing: asyncio.Task[None] | None = None
        self._listening = asyncio.create_task(self._listen(), name="worker-frames")
        self._hearing = asyncio.create_task(self._hear(), name="worker-stderr")

    @classmethod
    async def start(cls, *, root: Path, allowed_modules: tuple[str, ...], patience: float) -> "WorkerProcess":
        """Starts a process and waits until it takes calls. Raises `WorkerUnavailable`."""
        life_end, life = -1, -1
        try:
            if GUARDED:
                life_end, life = os.pipe()
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "modular_agent.engine.tools.worker",
                str(life_end),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
                pass_fds=(life_end,) if GUARDED else (),
            )
        except BaseException as error:
            _close(life)  # whatever was started ends by itself
            if isinstance(error, OSError):
                raise WorkerUnavailable(reason=error.strerror) from error
            raise
        finally:
            _close(life_end)
        worker = cls(process, life)
        try:
            await worker._greet({"root": str(root), "allowed": allowed_modules, "path": sys.path}, patience)
        except BaseException:
            await worker.kill()
            raise
        return worker

    @property
    def pid(self) -> int:
        """Of the process that guards the worker; the author's code runs in its child."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        return not self._ended and self._killing is None

    async def call(self, request: Mapping[str, Any], log: Callable[[str, str], None]) -> WorkerReply:
        """Sends `request` and waits for its reply. After a cancellation the worker still runs it: `kill` it then."""
        self._numbers += 1
        call = _Call(self._numbers, asyncio.get_running_loop().create_future(), log)
        if self._ended:
            return await self._death()
        try:
            frame = frames.encode({**request, "id": call.number})
        except (TypeError, ValueError) as error:  # nothing was sent: the worker is as good as before
            failure = Failure(kind="arguments", error_type=type(error).__name__, message=str(error))
            return WorkerReply(failure=failure)
        self._call = call
        try:
            await self._send(frame)
            return await call.reply
        finally:
            self._call = None

    async def kill(self) -> None:
        """Ends the process and everything it started; returns when all of it is gone, however often cancelled."""
        if self._killing is None:
            self._killing = asyncio.create_task(self._kill(), name="worker-kill")
        cancelled = False
        while not self._killing.done():
            try:
                await asyncio.shield(self._killing)
            except asyncio.CancelledError:
                cancelled = True  # nobody may go on while the author's code still executes
        self._killing.result()
        if cancelled:
            raise asyncio.CancelledError

    async def _kill(self) -> None:
        _close(self._life)  # the guard kills everything below it, and exits
        self._life = -1
        try:
            if not GUARDED:
                await asyncio.to_thread(kill_tree, self._process.pid)
            while not await self._ends():
                # Uninterruptible sleep in the kernel, say. To go on would be to claim that nothing executes any more.
                _LOG.warning("worker process %d does not end; it is killed again", self._process.pid)
                await asyncio.to_thread(kill_tree, self._process.pid)
        finally:
            self._listening.cancel()
            self._hearing.cancel()
            await asyncio.wait({self._listening, self._hearing})
            self._ended = True
            if self._call is not None and not self._call.reply.done():  # nobody listens any more who would say so
                self._call.reply.set_result(self._dead())
            if self._process.stdin is not None:
                self._process.stdin.close()

    async def _ends(self) -> bool:
        """Waits some seconds for the process to end."""
        try:
            await asyncio.wait_for(asyncio.shield(self._process.wait()), END_PATIENCE)
        except TimeoutError:
            return False
        return True

    async def _greet(self, start: Mapping[str, Any], patience: float) -> None:
        await self._send(frames.encode(start))
        try:
            async with asyncio.timeout(patience):
                await self._ready
        except TimeoutError as error:
            raise WorkerUnavailable(reason=f"it was not ready after {patience:g} seconds") from error

    async def _send(self, frame: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(frame)
            await self._process.stdin.drain()
        except ConnectionError:
            pass  # it died; whoever reads its frames says so

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        reason = "its output ended"
        try:
            while (message := await _next_frame(self._process.stdout)) is not None:
                self._take(message)
        except (frames.FrameTooLarge, orjson.JSONDecodeError) as error:
            reason = str(error)
        self._ended = True
        if not self._ready.done():
            tail = self._stderr[-1] if self._stderr else reason
            self._ready.set_exception(WorkerUnavailable(reason=tail))
            self._ready.exception()  # seen, in case nobody waits any more
        if self._call is not None and not self._call.reply.done():
            call = self._call
            reply = await self._death()
            if not call.reply.done():
                call.reply.set_result(reply)

    def _take(self, message: Mapping[str, Any]) -> None:
        if "ready" in message:
            if not self._ready.done():
                self._ready.set_result(None)
            return
        call = self._call
        if call is None or message["id"] != call.number:
            return  # a thread that the author's code left behind still talks
        if (log := message.get("log")) is not None:
            _tell(call.log, log[0], log[1])
        elif not call.reply.done():
            call.reply.set_result(_reply(message))

    async def _hear(self) -> None:
        """Standard error of the process and its children: crash reports, output of programs that were started."""
        assert self._process.stderr is not None
        rest = b""
        while chunk := await self._process.stderr.read(LINE):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > LINE:
                lines, rest = [*lines, rest], b""
            for line in lines:
                text = line.decode(errors="replace").rstrip()
                self._stderr.append(text)
                if self._call is not None and text:
                    _tell(self._call.log, "info", text)

    async def _death(self) -> WorkerReply:
        """The reply of a worker that ended by itself."""
        if not await self._ends():
            await asyncio.to_thread(kill_tree, self._process.pid)
        await asyncio.wait({self._hearing}, timeout=0.5)
        return self._dead()

    def _dead(self) -> WorkerReply:
        failure = Failure(
            kind="died",
            error_type="WorkerDied",
            message=f"The process that ran the code {_ending(self._process.returncode)}.",
            stack_trace="\n".join(self._stderr) or None,
        )
        return WorkerReply(failure=failure)


def _tell(log: Callable[[str, str], None], level: str, message: str) -> None:
    """A log that fails must not keep the call's result from coming."""
    try:
        log(level, message)
    except Exception:  # noqa: BLE001  # whatever it raised
        _LOG.exception("what a tool said could not be logged")


async def _next_frame(stream: asyncio.StreamReader) -> dict[str, Any] | None:
    """The next message; None when the stream has ended."""
    try:
        size = frames.size_of(await stream.readexactly(frames.LENGTH.size))
        return orjson.loads(await stream.readexactly(size))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def _reply(message: Mapping[str, Any]) -> WorkerReply:
    error = message.get("error")
    if error is None:
        return WorkerReply(
            text=message.get("text", ""), value=message.get("value"), description=message.get("description")
        )
    failure = Failure(
        kind=error["kind"],
        error_type=error["type"],
        message=error["message"],
        stack_trace=error["trace"],
        parameters=error.get("parameters"),
    )
    return WorkerReply(failure=failure)


def _ending(code: int | None) -> str:
    number = -code if code is not None and code < 0 else (code or 0) - 128
    if code is not None and 0 < number < 65:
        try:
            return f"was ended by the signal {signal.Signals(number).name}"
        except ValueError:
            pass  # not the number of a signal: an exit code above 128
    return f"ended with exit code {code}"


def _close(descriptor: int) -> None:
    if descriptor >= 0:
        os.close(descriptor)
