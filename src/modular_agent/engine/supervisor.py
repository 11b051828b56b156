"""The executions of this process: starts them within bounds, pauses and stops them, and drains at shutdown.

A run's status in the database is changed by the one who executes it, after the fact: `paused` and `stopped` are said
only when nothing of the run executes any more.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import field
from enum import Enum
from types import TracebackType
from typing import Any, Final, Self

import langsmith
import structlog

from modular_agent.engine.errors import QueueFull, RunNotHere
from modular_agent.engine.open_calls import interrupted
from modular_agent.engine.run import Outcome, Run, RunServices, Ticket
from modular_agent.engine.store import Facts, RunChange, RunKey
from modular_agent.engine.threads import WatchedThreads
from modular_agent.errors import AgentError, Kind, ServerStopping
from modular_agent.events import Record, RecordType
from modular_agent.kit.clock import MICROSECONDS
from modular_agent.kit.dataclass import dataclass
from modular_agent.kit.timings import note
from modular_agent.lifecycle import ENDED_RUN_STATUSES, SESSION_STATUS_OF_RUN, RunStatus

__all__ = ["Admission", "Ended", "Supervisor"]

QUEUE_RETRY_AFTER: Final = 2.0  # seconds
_log = structlog.get_logger(__name__)


class Admission(Enum):
    """Whether a new run starts at once or waits for one of the places."""

    START = RunStatus.RUNNING
    QUEUE = RunStatus.QUEUED


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What the end of an execution was reported as; `status` None means that this process gave the run up.

    `stopped_by` is who had asked for a stop that could not be logged any more.
    """

    key: RunKey
    status: RunStatus | None
    error: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    live: list[str] = field(default_factory=list[str])
    inbox_waits: bool = True  # whether a message or an input may wait for the session
    stopped_by: str | None = None


@dataclass(slots=True)
class _Execution:
    run: Run
    admission: Admission
    ended: "asyncio.Future[Ended]"
    stopping: "asyncio.Task[None] | None" = None
    task: "asyncio.Task[None] | None" = None
    started: asyncio.Event = field(default_factory=asyncio.Event)
    stopped_by: str | None = None
    is_ending: bool = False  # its end is being written: nobody changes it any more


class Supervisor:
    """Owns every execution of this process.

    At most `max_parallel` runs execute at once; up to `max_queued` wait. `stop_grace` is how many seconds a stopped
    run's code may take to end before somebody is told that it still runs. `on_end` is called after each end.
    """

    def __init__(
        self,
        services: RunServices,
        *,
        max_parallel: int = 200,
        max_queued: int = 1_000,
        stop_grace: float = 10.0,
        drain_grace: float = 20.0,
    ) -> None:
        self._services = services
        self._max_parallel = max_parallel
        self._max_queued = max_queued
        self._stop_grace = stop_grace
        self._drain_grace = drain_grace
        self._executions: dict[str, _Execution] = {}
        self._closing: dict[str, asyncio.Future[Ended]] = {}  # ended; their listeners are being told
        self._waiting: deque[_Execution] = deque()
        self._places = max_parallel
        self._reserved_queue = 0
        self._draining = False
        self._listeners: list[Callable[[Ended], Awaitable[None]]] = []

    async def __aenter__(self) -> Self:
        asyncio.get_running_loop().set_default_executor(WatchedThreads())
        langsmith.configure(enabled=False)  # whatever the environment says: no run's data leave this process
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.drain()

    def resize(self, *, max_parallel: int, max_queued: int) -> None:
        """Sets new bounds: runs that execute go on, those that wait start as soon as the bounds let them."""
        self._places += max_parallel - self._max_parallel
        self._max_parallel = max_parallel
        self._max_queued = max_queued
        self._start_waiting()

    def on_end(self, listener: Callable[[Ended], Awaitable[None]]) -> None:
        """Has `listener` awaited after every end of an execution, before those who wait for it are told."""
        self._listeners.append(listener)

    # -- starting ----------------------------------------------------------------------------------------------

    def admit(self) -> Admission:
        """Takes a place for a run that is about to be stored; give it to `start` or back with `release`.

        Raises `QueueFull`, `ServerStopping`.
        """
        if self._draining:
            raise ServerStopping(retry_after=QUEUE_RETRY_AFTER)
        if self._places > 0:
            self._places -= 1
            return Admission.START
        if len(self._waiting) + self._reserved_queue >= self._max_queued:
            raise QueueFull(retry_after=QUEUE_RETRY_AFTER, queued=len(self._waiting), maximum=self._max_queued)
        self._reserved_queue += 1
        return Admission.QUEUE

    def release(self, admission: Admission) -> None:
        """Gives back a place whose run was not stored after all."""
        if admission is Admission.START:
            self._places += 1
            self._start_waiting()
        else:
            self._reserved_queue -= 1

    def start(self, ticket: Ticket, admission: Admission) -> None:
        """Executes a stored run, now or when a place is free."""
        run = Run(ticket, self._services)
        execution = _Execution(run, admission, asyncio.get_running_loop().create_future())
        self._executions[ticket.key.run_id] = execution
        if admission is Admission.QUEUE:
            self._reserved_queue -= 1
            self._waiting.append(execution)
            self._start_waiting()
        else:
            self._launch(execution)

    def _start_waiting(self) -> None:
        while self._places > 0 and self._waiting and not self._draining:
            self._places -= 1
            self._launch(self._waiting.popleft())

    def _launch(self, execution: _Execution) -> None:
        name = f"execution {execution.run.ticket.key.run_id}"
        execution.task = asyncio.create_task(self._execute(execution), name=name)

    async def _execute(self, execution: _Execution) -> None:
        run = execution.run
        ended: Ended | None = None
        try:
            if execution.admission is Admission.QUEUE:
                await self._change(run, RunChange(status=RunStatus.RUNNING), reason=None)
            execution.started.set()
            outcome = await run.execute()
            ended = await self._report(execution, outcome)
        except Exception as error:  # noqa: BLE001 - whatever it was, those who wait must hear of it
            key = run.ticket.key
            _tell_log("run_lost", error, run_id=key.run_id, session_id=key.session.session_id)
            self._services.saver.forget(run.ticket.key.session)  # what it wrote last may not be in the database
        finally:
            execution.started.set()
            run.context.budget.close()
            self._places += 1
            self._executions.pop(run.ticket.key.run_id, None)
            self._closing[run.ticket.key.run_id] = execution.ended
            self._start_waiting()
        await self._tell(execution, ended or _given_up(execution))

    async def tell(self, ended: Ended) -> None:
        """Says to all listeners how a run ended, also one that did not execute (it was paused, and then stopped).

        One that fails keeps no other from hearing it.
        """
        for listener in self._listeners:
            try:
                await listener(ended)
            except Exception as error:  # noqa: BLE001 - a full disk, say: what it left undone is done when there is room
                key = ended.key
                _tell_log("end_listener_failed", error, run_id=key.run_id, session_id=key.session.session_id)

    async def _tell(self, execution: _Execution, ended: Ended) -> None:
        """Says to everybody how it ended, last of all to those who wait for it."""
        run_id = ended.key.run_id
        try:
            await self.tell(ended)
        finally:
            if self._closing.get(run_id) is execution.ended:
                del self._closing[run_id]
            if not execution.ended.done():
                execution.ended.set_result(ended)

    async def _report(self, execution: _Execution, outcome: Outcome) -> Ended:
        """Makes the end durable, then says so."""
        run = execution.run
        if execution.stopping is not None:
            await execution.stopping  # `stopping` comes before `stopped` in the log
        execution.is_ending = True
        if outcome.status is None:
            _log.warning("run_given_up", run_id=run.ticket.key.run_id, reason=outcome.reason)
            return _given_up(execution)
        status = RunStatus.STOPPED if run.stop_requested else outcome.status
        error = dict(outcome.error.fields) if outcome.error is not None and status is RunStatus.FAILED else None
        result = await run.result() if status is RunStatus.COMPLETED else None
        change = RunChange(
            status=status,
            holds=status is RunStatus.PAUSED and not run.context.binding.questions,
            raise_epoch=status is RunStatus.STOPPED,
            active_us=int(run.elapsed() * MICROSECONDS),
            current_node=run.context.progress.current_node,
            result=result,
            error=error,
        )
        waits = await self._change(run, change, reason=outcome.reason)
        return Ended(key=run.ticket.key, status=status, error=error, result=result, inbox_waits=waits)

    async def _change(self, run: Run, change: RunChange, *, reason: str | None, control: Record | None = None) -> bool:
        progress = run.context.progress
        record = run.context.record(
            RecordType.RUN,
            None,
            status=change.status,
            session_status=SESSION_STATUS_OF_RUN[change.status],
            reason=reason,
            result=change.result,
            error=change.error,
            execution_time=(run.ticket.active_us + change.active_us) / MICROSECONDS,
            usage=run.context.budget.spent(),
            execution_path=progress.path[-20:],
            path_length=len(progress.path),
        )
        facts = run.unwritten()
        if control is not None:
            facts.records.append(control)
        if change.status in ENDED_RUN_STATUSES:
            facts.records += await self._interrupted(run.ticket.key, change.status, facts)
        facts.records.append(record)
        facts.charges += run.context.budget.charges()
        return await self._services.store.change(run.ticket.key, change, facts)

    async def _interrupted(self, key: RunKey, status: RunStatus, facts: Facts) -> list[Record]:
        """What is said of tool calls that the run's end leaves open; of one that was never cut there are none."""
        if status is RunStatus.COMPLETED and key.epoch == 1:
            return []
        written = [(call["node"], call) for call in await self._services.store.tool_calls(key)]
        about = [(r.node, r.fields) for r in facts.records if r.record_type is RecordType.TOOL_CALL]
        return interrupted(key.run_id, [*written, *about])

    # -- control -----------------------------------------------------------------------------------------------

    def is_here(self, run_id: str) -> bool:
        """Whether this process executes the run, or holds it in its queue."""
        return run_id in self._executions

    @property
    def draining(self) -> bool:
        """Whether the process is about to end: nothing is taken up any more."""
        return self._draining

    @property
    def running(self) -> int:
        return self._max_parallel - self._places

    @property
    def queued(self) -> int:
        return len(self._waiting)

    def live_nodes(self, run_id: str) -> list[str]:
        """The nodes of a run that execute now."""
        return self._here(run_id).run.live_nodes()

    def active_run(self, run_id: str) -> Run | None:
        execution = self._executions.get(run_id)
        return execution.run if execution else None

    async def wait(self, run_id: str) -> Ended:
        """Waits for the end of the execution. Raises `RunNotHere` when it is not here (any more)."""
        started = time.perf_counter()
        try:
            return await asyncio.shield(self._here(run_id).ended)
        finally:
            note("engine", time.perf_counter() - started)

    async def settled(self, run_id: str) -> None:
        """Returns when the run does not execute here (any more), and those who listen for its end have been told."""
        execution = self._executions.get(run_id)
        ended = execution.ended if execution is not None else self._closing.get(run_id)
        if ended is not None:
            await asyncio.shield(ended)

    async def ask_to_pause(self, run_id: str, control: Record) -> bool:
        """Has the run hold after the step in progress, or at once when it still waits for a place.

        Returns when that is in the log; the step may turn out to be the last all the same. False when the run's end
        came first, which may be a question: then nobody holds it.
        """
        execution = self._here(run_id)
        run = execution.run
        if run.pause_requested or run.stop_requested:
            return True
        if execution.is_ending:
            return False
        run.pause_requested = True
        if execution in self._waiting:
            self._waiting.remove(execution)
            await self._withdraw(execution, control, RunStatus.PAUSED)
            return True
        await execution.started.wait()
        try:
            if not await self._announced(run, RunStatus.PAUSING, control):
                run.pause_requested = False
                return run.stop_requested
            run.drain("pause")
        except AgentError:  # it is not in the log: whoever asks again, asks for the first time
            run.pause_requested = False
            raise
        return True

    async def pause(self, run_id: str, control: Record) -> Ended:
        """Has the run hold after the step in progress; answers what became of it."""
        execution = self._here(run_id)
        await self.ask_to_pause(run_id, control)
        return await asyncio.shield(execution.ended)

    async def ask_to_stop(self, run_id: str, control: Record) -> None:
        """Cancels the step in progress; returns when that is in the log. A run at its end ends as it would have.

        Raises what kept it out of the log (`StorageFull`); the run is stopped all the same, and says so later.
        """
        execution = self._here(run_id)
        if not execution.run.stop_requested and not execution.is_ending:
            execution.run.stop_requested = True
            execution.stopped_by = str(control.fields["by"])
            if execution in self._waiting:
                self._waiting.remove(execution)
                await self._withdraw(execution, control, RunStatus.STOPPED)
            else:
                execution.stopping = asyncio.create_task(self._say_stopping(execution, control))
                execution.run.cancel()
        if execution.stopping is not None:
            await asyncio.shield(execution.stopping)

    async def stop(self, run_id: str, control: Record) -> Ended:
        """Cancels the step in progress; answers `stopped` only when nothing of the run executes any more.

        Code that does not end within the grace is named in `live`, and the status is `stopping`.
        """
        execution = self._here(run_id)
        await self.ask_to_stop(run_id, control)
        done, _ = await asyncio.wait({execution.ended}, timeout=self._stop_grace)
        if not done:
            return Ended(key=execution.run.ticket.key, status=RunStatus.STOPPING, live=execution.run.live_nodes())
        return execution.ended.result()

    async def _say_stopping(self, execution: _Execution, control: Record) -> None:
        """Logs that the run is stopping, while its code already ends."""
        await execution.started.wait()
        await self._announced(execution.run, RunStatus.STOPPING, control)

    async def _announced(self, run: Run, status: RunStatus, control: Record) -> bool:
        """Logs what the run is about to do; False when somebody else's control, or its end, came first."""
        about = run.context.record(RecordType.RUN, None, status=status, session_status=SESSION_STATUS_OF_RUN[status])
        change = RunChange(status=status, holds=status is RunStatus.PAUSING)
        try:
            await self._services.store.change(run.ticket.key, change, Facts(records=[control, about]))
        except AgentError as error:
            if error.kind is not Kind.CONFLICT:
                raise
            return False
        return True

    async def _withdraw(self, execution: _Execution, control: Record, status: RunStatus) -> None:
        """Ends a run that never started: stopped, or paused until somebody resumes it."""
        run, key = execution.run, execution.run.ticket.key
        ended: Ended | None = None
        try:
            change = RunChange(status=status, holds=status is RunStatus.PAUSED, raise_epoch=True)
            waits = await self._change(run, change, reason=control.fields["action"], control=control)
            ended = Ended(key=key, status=status, inbox_waits=waits)
        finally:
            self._executions.pop(key.run_id, None)
            self._closing[key.run_id] = execution.ended
            await self._tell(execution, ended or _given_up(execution))

    def _here(self, run_id: str) -> _Execution:
        execution = self._executions.get(run_id)
        if execution is None:
            raise RunNotHere(run_id=run_id)
        return execution

    # -- shutdown ----------------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Lets every run finish its step and hold; cancels what takes too long. Statuses stay: the runs go on later."""
        self._draining = True
        self._waiting.clear()
        executions = [execution for execution in self._executions.values() if execution.task is not None]
        for execution in executions:
            execution.run.drain("shutdown")
        tasks = [execution.task for execution in executions if execution.task is not None]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=self._drain_grace)
        for execution in executions:
            if execution.task in late:
                execution.run.cancel()
        if late:
            await asyncio.wait(late, timeout=self._stop_grace)


def _given_up(execution: _Execution) -> Ended:
    return Ended(key=execution.run.ticket.key, status=None, stopped_by=execution.stopped_by)


def _tell_log(event: str, error: Exception, **place: str) -> None:
    """A full disk is no mistake of the server: it is told as the trouble that it is, and not as one."""
    if isinstance(error, AgentError) and error.kind is Kind.UNAVAILABLE:
        _log.warning(event, reason=str(error), **place)
    else:
        _log.error(event, exc_info=error, **place)
