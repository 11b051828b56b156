"""One execution of a run: from its start or resume until it has ended, paused, failed or stopped."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Any, Final

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl
from langgraph.types import Command

from modular_agent.engine.accounts import Ledger
from modular_agent.engine.binding import BINDING, Binding
from modular_agent.engine.budgets import Budget, Terms
from modular_agent.engine.checkpoints import Saver
from modular_agent.engine.context import RunContext
from modular_agent.engine.conversations import Conversations
from modular_agent.engine.failures import error_record, summary
from modular_agent.engine.graph_loop import run_graph
from modular_agent.engine.inbox import Inbox
from modular_agent.engine.nodes.step import NodeFailure
from modular_agent.engine.progress import Progress
from modular_agent.engine.providers.pricing import PriceBook
from modular_agent.engine.store import Facts, RunKey, RunStore
from modular_agent.engine.stored_values import plain_values
from modular_agent.engine.tools.port import Effect
from modular_agent.engine.workflow import Workflow
from modular_agent.events import Delta, Record, RecordType
from modular_agent.kit.clock import MICROSECONDS, Clock
from modular_agent.kit.dataclass import dataclass
from modular_agent.lifecycle import RunStatus

__all__ = ["Outcome", "Run", "RunServices", "Ticket"]

RECURSION_LIMIT: Final = 10_000  # supersteps of one execution: a far backstop behind the limits


@dataclass(frozen=True, slots=True, kw_only=True)
class RunServices:
    """What executions share. `files` is the folder below which each session keeps large tool results."""

    store: RunStore
    saver: Saver
    clock: Clock
    prices: PriceBook
    ledger: Ledger
    publish_delta: Callable[[Delta], None]
    files: Path
    conversations: Conversations = field(default_factory=Conversations)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """What to execute.

    `input` is what the graph starts with; None goes on from the newest checkpoint. `fresh` says that the session has no
    state yet, `newest` which checkpoint is its whole state, if one is. `answers` are those of the run's questions by
    graph id, `asked` the ids of all that still stand, `update` an edit of the state. `terms` are what the run is
    charged to, and within which limits. `started_at` in µs, `active_us` of executions before.
    """

    key: RunKey
    workflow: Workflow
    input: Mapping[str, Any] | None
    fresh: bool = False
    newest: str | None = None
    answers: Mapping[str, Any] = field(default_factory=dict[str, Any])
    asked: frozenset[str] = frozenset()
    update: Mapping[str, Any] | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict[str, Any])
    terms: Terms = field(default_factory=Terms)
    step: bool = False
    started_at: int = 0
    active_us: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an execution ended. `status` None means that it was given up: the process ends, or another one took over."""

    status: RunStatus | None
    error: Record | None = None
    reason: str | None = None


class Run:
    """An execution under way. `stop_requested` and `pause_requested` say what somebody asked for."""

    def __init__(self, ticket: Ticket, services: RunServices) -> None:
        self.ticket = ticket
        self.stop_requested = False
        self.pause_requested = False
        self._services = services
        self._began = services.clock.monotonic()
        self._task: asyncio.Task[Any] | None = None  # the one that executes the run, once it has begun
        self._is_cancellable = False
        self._cancels = 0
        self._unwritten = Facts()
        self.context = self._context()

    def _context(self) -> RunContext:
        ticket, services = self.ticket, self._services
        binding = Binding(
            ticket.key,
            services.store.commit,
            fresh=ticket.fresh,
            newest=ticket.newest,
            asked=ticket.asked,
            clears_pending=ticket.update is not None,
        )
        return RunContext(
            key=ticket.key,
            workflow_id=ticket.workflow.name,
            binding=binding,
            inbox=Inbox(ticket.key, services.store, binding, is_waiting=ticket.input is None),
            control=RunControl(),
            store=services.store,
            saver=services.saver,
            clock=services.clock,
            budget=Budget(ticket.terms, services.ledger, elapsed=self.active_seconds, active_us=ticket.active_us),
            progress=Progress(),
            publish_delta=services.publish_delta,
            prices=services.prices,
            conversations=services.conversations,
            overrides=ticket.overrides,
            files=services.files / ticket.key.session.session_id,
            step_mode=ticket.step,
            started_at=ticket.started_at,
        )

    def active_seconds(self) -> float:
        """How long the run has executed, without its pauses."""
        return self.ticket.active_us / MICROSECONDS + self.elapsed()

    def elapsed(self) -> float:
        """Seconds since this execution began."""
        return self._services.clock.monotonic() - self._began

    @property
    def is_under_way(self) -> bool:
        """Whether the execution has begun: before that it knows nothing of what the run used."""
        return self._task is not None

    # -- control -----------------------------------------------------------------------------------------------

    def drain(self, reason: str) -> None:
        """Asks the run to hold after the step in progress."""
        self.context.control.request_drain(reason)

    def cancel(self) -> None:
        """Cancels the step in progress; call it once."""
        self.context.control.request_drain("stop")
        if self._task is not None and self._is_cancellable:
            self._cancels += 1
            self._task.cancel()

    def live_nodes(self) -> list[str]:
        """The nodes executing now."""
        return self.context.live.names

    # -- execution ---------------------------------------------------------------------------------------------

    async def execute(self) -> Outcome:
        """Runs the graph; returns when no code of the run executes any more and all it logged is durable."""
        if self.stop_requested:
            return Outcome(status=RunStatus.STOPPED)
        self._began = self._services.clock.monotonic()  # time in the queue is no use of anything
        self._task = asyncio.current_task()
        error = await self._graph()
        await self.context.live.wait_empty()
        return await self._settled(self._outcome(error))

    async def _graph(self) -> BaseException | None:
        """Runs the graph to its end; answers what it raised. What `cancel` did to the task is undone then."""
        task = self._task
        assert task is not None
        self._is_cancellable = True
        try:
            await self._invoke()
        except asyncio.CancelledError as error:
            if task.cancelling() > self._cancels:  # by somebody else: the process ends
                raise
            return error
        except Exception as error:  # noqa: BLE001 - whatever it is, the run ends with it
            return error
        finally:
            self._is_cancellable = False
            for _ in range(self._cancels):
                task.uncancel()
        return None

    async def _invoke(self) -> None:
        await self.context.budget.open()
        if self.ticket.input is None:
            await self._remember()
        config: RunnableConfig = {
            "configurable": {"thread_id": self.ticket.key.session.session_id, BINDING: self.context.binding},
            "metadata": {"run_id": self.ticket.key.run_id},
            "recursion_limit": RECURSION_LIMIT,
        }
        given = await self._graph_input()
        await run_graph(self.ticket.workflow.plan, given, config, context=self.context, control=self.context.control)

    async def _remember(self) -> None:
        """Takes up what the run had used and where it was before this execution."""
        key = self.ticket.key
        self.context.progress = progress = Progress.replay(await self._services.store.steps(key))
        self.context.budget.replay(await self._services.store.spent(key), steps=progress.steps)

    async def _graph_input(self) -> Any:
        ticket = self.ticket
        if ticket.input is not None:
            return ticket.input
        answers: dict[str, Any] = {}
        if ticket.answers:
            waiting = await self._services.saver.pending_interrupts(ticket.key.session)
            answers = {graph_id: value for graph_id, value in ticket.answers.items() if graph_id in waiting}
        update = ticket.workflow.writes(ticket.update) if ticket.update is not None else None
        if answers and update is not None:
            return Command(resume=answers, update=update)
        if answers:
            return Command(resume=answers)
        return Command(update=update) if update is not None else None

    def _outcome(self, error: BaseException | None) -> Outcome:
        if self.context.binding.failure is not None:
            return self._given_up(self.context.binding.failure)
        if self.stop_requested:
            return Outcome(status=RunStatus.STOPPED)
        if isinstance(error, asyncio.CancelledError):
            return Outcome(status=None, reason="cancelled")
        if error is None:
            waiting = bool(self.context.binding.questions)
            return Outcome(status=RunStatus.PAUSED if waiting else RunStatus.COMPLETED)
        if isinstance(error, GraphDrained):
            shutdown = error.reason == "shutdown" and not (self.pause_requested or self.ticket.step)
            return Outcome(status=None if shutdown else RunStatus.PAUSED, reason=error.reason)
        return self._failed(error)

    def _failed(self, error: BaseException) -> Outcome:
        if isinstance(error, NodeFailure):
            record = Record(
                record_type=RecordType.ERROR,
                run_id=self.ticket.key.run_id,
                node=error.node,
                record_id="",
                fields=error.details,
            )
            return Outcome(status=RunStatus.FAILED, error=record)
        record = error_record(error, run_id=self.ticket.key.run_id, node=None, workflow_id=self.ticket.workflow.name)
        self.context.emit(record)
        return Outcome(
            status=RunStatus.FAILED, error=Record(record_type=RecordType.ERROR, fields=summary(record), record_id="")
        )

    def _given_up(self, failure: BaseException) -> Outcome:
        """A write was refused: what the run did since is not in the log, so nothing more is said of it."""
        self._services.saver.forget(self.ticket.key.session)
        return Outcome(status=None, reason=f"a write was refused: {failure}")

    async def _settled(self, outcome: Outcome) -> Outcome:
        """Collects what tasks that never wrote had to say, and waits for what was handed over.

        What was not goes with the run's new status (`unwritten`), unless it gets none.
        """
        binding = self.context.binding
        for task_id in list(binding.pending):
            facts = _of_a_cut_task(binding.pending.pop(task_id))
            if binding.failure is None and facts:
                binding.gather(facts)
        if outcome.status is None and binding.failure is None:  # no change of the status will take them along
            binding.gather(Facts(charges=self.context.budget.charges()))
        try:
            if outcome.status is None or binding.gathered.needs_statement:
                binding.flush()
            self._unwritten = binding.take()
            await binding.settled()
        except Exception as error:  # noqa: BLE001 - whatever the storage raised, the run cannot go on
            return self._given_up(error)
        return outcome

    def unwritten(self) -> Facts:
        """What the run made known last and has not handed over: whoever takes it makes it durable."""
        facts, self._unwritten = self._unwritten, Facts()
        return facts

    async def result(self) -> dict[str, Any]:
        """What the run gave: the text of its last answer, and the state without the conversation."""
        values = self.context.binding.values
        if values is not None:  # the last checkpoint of this execution: nothing has to be read again
            return self.ticket.workflow.result_of(plain_values(values))
        return await self.ticket.workflow.result(self._services.saver, self.ticket.key.session)


def _of_a_cut_task(facts: Facts) -> Facts:
    """What holds of a task whose writes never reached the state, though it may have come to its end.

    It is not completed: it runs again, or is given up. The result of an irreversible call is kept, and the ledger has
    it too; other calls are made again, and have their result then.
    """
    effects = [effect for effect in facts.effects if effect.intent.effect == Effect.IRREVERSIBLE]
    known = {effect.intent.tool_call_id for effect in effects}
    kept = [
        replace(record, fields=_cancelled(record.fields)) if record.record_type is RecordType.STEP else record
        for record in facts.records
        if record.record_type is not RecordType.MESSAGE
        and (record.record_type is not RecordType.TOOL_CALL or record.fields["tool_call_id"] in known)
    ]
    return Facts(records=kept, calls=facts.calls, effects=effects)


def _cancelled(step: Mapping[str, Any]) -> dict[str, Any]:
    return {**step, "status": "cancelled"} if step.get("status") == "completed" else {**step}
