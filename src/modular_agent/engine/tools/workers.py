"""The pool of worker processes in which synchronous Python code runs, because a process can be killed."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import field
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from modular_agent.engine.tools.errors import WorkerUnavailable
from modular_agent.engine.tools.port import ToolContext
from modular_agent.engine.tools.worker_process import Failure, WorkerProcess, WorkerReply
from modular_agent.kit.dataclass import dataclass

__all__ = ["Failure", "WorkerCall", "WorkerPool", "WorkerReply"]

CLOSING: Final = 30.0  # seconds; a process that not even SIGKILL ends must not keep the server from ending
HOUSEKEEPING: Final = 5.0  # seconds between two looks at idle workers


def _no_log(_level: str, _message: str) -> None:
    """For calls that nobody listens to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerCall:
    """One call of `reference` with JSON arguments.

    With `validated`, the arguments are keywords, coerced by the callable's signature, and the reply has a `text` (a
    tool). Without, they are passed as they are and the reply has a JSON `value` (a function node). A parameter named
    `context`, or annotated `ToolContext`, gets the context. `log` takes (level, message) of what the code says.
    `timeout` is in seconds and begins when the call does, not while it waits for a worker.
    """

    reference: str
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])
    positional: Sequence[Any] = ()
    context: ToolContext | None = None
    log: Callable[[str, str], None] = _no_log
    validated: bool = False
    timeout: float | None = None

    def request(self) -> dict[str, Any]:
        context = self.context
        return {
            "op": "tool" if self.validated else "function",
            "reference": self.reference,
            "arguments": self.arguments,
            "positional": self.positional,
            "context": context
            and {
                "session_id": context.session_id,
                "run_id": context.run_id,
                "tool_call_id": context.tool_call_id,
                "idempotency_key": context.idempotency_key,
                "files": str(context.files),
            },
        }


class WorkerPool:
    """At most `maximum` worker processes, `warm` of them kept (and started ahead, by `prepare`); the others end after
    `idle_seconds`.

    Who finds all of them busy waits, first come first served. Everything ends with the context, also with the
    process by whatever signal. Workers have the server's environment, folder and `sys.path`. Modules' globals live per
    worker and must not be relied on.
    """

    def __init__(
        self,
        root: Path,
        *,
        allowed_modules: Sequence[str] = (),
        maximum: int = 4,
        warm: int = 1,
        start_timeout: float = 30.0,
        idle_seconds: float = 60.0,
    ) -> None:
        self._root = root
        self._allowed = tuple(allowed_modules)
        self._maximum = maximum
        self._warm = min(warm, maximum)
        self._start_timeout = start_timeout
        self._idle_seconds = idle_seconds
        self._slots = asyncio.Semaphore(maximum)
        self._idle: deque[tuple[float, WorkerProcess]] = deque()
        self._workers: set[WorkerProcess] = set()
        self._starting = 0
        self._closed = False
        self._keeping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "WorkerPool":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait({self._keeping})
        ends = [asyncio.ensure_future(worker.kill()) for worker in tuple(self._workers)]
        if ends:
            await asyncio.wait(ends, timeout=CLOSING)
        self._workers.clear()
        self._idle.clear()

    def prepare(self) -> None:
        """Starts the warm workers, so that no call has to wait for one."""
        if self._keeping is None and not self._closed:
            self._keeping = asyncio.create_task(self._keep(), name="worker-pool")

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of the running workers (of their guards)."""
        return tuple(worker.pid for worker in self._workers)

    async def call(self, call: WorkerCall) -> WorkerReply:
        """Runs `call` to its end; whatever goes wrong is in the reply. Raises `WorkerUnavailable`.

        At its timeout, and when this is cancelled, the worker is killed with all it started, and is gone when this
        returns.
        """
        return await self._run(call.request(), log=call.log, seconds=call.timeout)

    async def describe(self, reference: str, *, patience: float = 30.0) -> WorkerReply:
        """The callable's `description`: `{name, description, parameters (JSON Schema), is_async}`."""
        return await self._run({"op": "describe", "reference": reference}, log=_no_log, seconds=patience)

    async def inspect(self, reference: str, *, patience: float = 30.0) -> WorkerReply:
        """As `describe`, with a `description` that holds `is_async` only; for callables that no model calls."""
        return await self._run({"op": "inspect", "reference": reference}, log=_no_log, seconds=patience)

    async def _run(
        self, request: Mapping[str, Any], *, log: Callable[[str, str], None], seconds: float | None
    ) -> WorkerReply:
        async with self._lease() as worker:
            try:
                async with asyncio.timeout(seconds):
                    return await _call_or_kill(worker, request, log)
            except TimeoutError:
                message = f"It took longer than {seconds:g} seconds and was ended."
                return WorkerReply(failure=Failure(kind="timeout", error_type="TimeoutError", message=message))

    @asynccontextmanager
    async def _lease(self) -> AsyncGenerator[WorkerProcess]:
        if self._closed:
            raise WorkerUnavailable(reason="the pool is closed")
        async with self._slots:
            worker = self._take_idle() or await self._start()
            try:
                yield worker
            finally:
                if worker.alive and not self._closed:
                    self._idle.append((time.monotonic(), worker))
                else:
                    await self._discard(worker)

    def _take_idle(self) -> WorkerProcess | None:
        while self._idle:
            _, worker = self._idle.pop()  # the one used last: its caches are warm, the others can be let go
            if worker.alive:
                return worker
            self._workers.discard(worker)
        return None

    async def _start(self) -> WorkerProcess:
        self._starting += 1
        try:
            worker = await WorkerProcess.start(
                root=self._root, allowed_modules=self._allowed, patience=self._start_timeout
            )
        finally:
            self._starting -= 1
        self._workers.add(worker)
        self.prepare()  # from now on there is something to keep
        if self._closed:
            await self._discard(worker)
            raise WorkerUnavailable(reason="the pool is closed")
        return worker

    async def _discard(self, worker: WorkerProcess) -> None:
        await worker.kill()
        self._workers.discard(worker)

    async def _keep(self) -> None:
        """Keeps `warm` workers ready, lets idle ones beyond that go, and collects those that died while idle."""
        while True:
            for stamp, worker in tuple(self._idle):
                too_many = len(self._workers) > self._warm and time.monotonic() - stamp > self._idle_seconds
                if too_many or not worker.alive:
                    self._idle.remove((stamp, worker))
                    await self._discard(worker)
            if len(self._workers) + self._starting < self._warm:
                await self._add_idle()
                continue
            await asyncio.sleep(min(HOUSEKEEPING, self._idle_seconds))

    async def _add_idle(self) -> None:
        try:
            worker = await self._start()
        except WorkerUnavailable:
            await asyncio.sleep(HOUSEKEEPING)  # a call will start one itself and report why it cannot
            return
        self._idle.append((time.monotonic(), worker))


async def _call_or_kill(
    worker: WorkerProcess, request: Mapping[str, Any], log: Callable[[str, str], None]
) -> WorkerReply:
    try:
        return await worker.call(request, log)
    except BaseException:
        await worker.kill()
        raise
