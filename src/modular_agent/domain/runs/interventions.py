"""What a person puts into a run: a message at the next safe point, or a change of the state of a paused one."""

import sqlite3
from collections.abc import Callable, Mapping
from typing import Any, cast

import structlog

from modular_agent.domain.runs.control import control_record
from modular_agent.domain.runs.errors import NotPaused, RunNotRunning
from modular_agent.domain.runs.requests import StartRequest, check_messages, check_start
from modular_agent.domain.runs.service import RunsService
from modular_agent.domain.runs.store import DatabaseRunStore
from modular_agent.domain.workflows.catalog import WorkflowCatalog
from modular_agent.engine.nodes.conversation import message_record, normalised
from modular_agent.engine.providers.port import Message
from modular_agent.engine.store import Facts, RunKey
from modular_agent.engine.supervisor import Ended, Supervisor
from modular_agent.errors import AgentError
from modular_agent.kit.clock import Clock
from modular_agent.kit.dataclass import dataclass
from modular_agent.lifecycle import RunStatus
from modular_agent.storage.database import Database
from modular_agent.storage.errors import StaleEpoch
from modular_agent.storage.repositories.run_steps import change_pending
from modular_agent.storage.repositories.runs import InboxRow, RunRow, add_to_inbox
from modular_agent.storage.repositories.sessions import SessionRepository, SessionRow
from modular_agent.storage.unit_of_work import UnitOfWork

__all__ = ["Injected", "Interventions"]

_TAKING = frozenset({RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.PAUSING, RunStatus.PAUSED})
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Injected:
    """What became of an injected message: `waiting`, `consumed`, or `not_consumed` (it started the run `run_id`)."""

    inbox_id: str
    status: str
    run_id: str | None


class Interventions:
    """The verbs of those who change a run from outside. `by` names who asks, for the log."""

    def __init__(
        self,
        database: Database,
        *,
        runs: RunsService,
        supervisor: Supervisor,
        store: DatabaseRunStore,
        catalog: WorkflowCatalog,
        clock: Clock,
    ) -> None:
        self._writer = database.writer
        self._sessions = SessionRepository(database.readers)
        self._runs = runs
        self._supervisor = supervisor
        self._store = store
        self._catalog = catalog
        self._clock = clock
        self._started: dict[str, str] = {}
        runs.on_end(self._start_with_the_rest)

    # -- a message for a run in progress -----------------------------------------------------------------------

    async def inject(self, session: SessionRow, message: Any, *, by: str) -> Injected:
        """Puts a user message before the next model call of the active run.

        Raises `RunNotRunning`, and `StateInvalid` for what is no message.
        """
        check_start(StartRequest(message=message))
        run = await self._runs.rows.active(session.ref)
        if run is None or run.status not in _TAKING:
            raise RunNotRunning(session_id=session.session_id)
        unit: UnitOfWork[InboxRow] = UnitOfWork()
        record = control_record(run, "inject", by)
        self._store.add_facts(unit, RunKey(session.ref, run.run_id, run.epoch), Facts(records=[record]))
        given = {"role": "user", "content": message}
        unit.first = _still_takes(session, run.run_id)  # at its end it is looked at for the last time what waits
        unit.then = add_to_inbox(session.ref, given, run_id=run.run_id, now_us=self._clock.now_us())
        committed = await self._writer.commit(unit)
        assert committed.result is not None
        active = self._supervisor.active_run(run.run_id)
        if active is not None:
            active.context.inbox.is_waiting = True
        return Injected(inbox_id=committed.result.inbox_id, status="waiting", run_id=run.run_id)

    async def outcome(self, session: SessionRow, injected: Injected) -> Injected:
        """Waits until the run has ended or paused, and says what became of the message."""
        assert injected.run_id is not None
        await self._runs.wait(injected.run_id)
        if any(row.inbox_id == injected.inbox_id for row in await self._runs.rows.inbox(session.ref)):
            return injected  # the run is paused: the message waits with it
        next_run = self._started.get(injected.inbox_id)
        if next_run is None:
            return Injected(inbox_id=injected.inbox_id, status="consumed", run_id=injected.run_id)
        return Injected(inbox_id=injected.inbox_id, status="not_consumed", run_id=next_run)

    async def _start_with_the_rest(self, ended: Ended) -> None:
        """Messages that no model call of a completed run took start the next one."""
        if ended.status is RunStatus.COMPLETED and ended.inbox_waits:
            await self._start_next(ended.key.session.n)

    async def recover(self) -> None:
        """Starts what the completed runs of sessions without an active run have left."""
        for n in await self._runs.rows.with_leftovers():
            await self._start_next(n)

    async def _start_next(self, session_n: int) -> None:
        waiting = await self._runs.rows.leftovers(session_n)
        session = await self._sessions.by_number(session_n) if waiting else None
        if session is None:
            return
        ids = [row.inbox_id for row in waiting]
        state = {"messages": [row.message for row in waiting]}
        try:
            run_id = waiting[-1].run_id  # the run that they were for
            charged = None if run_id is None else await self._runs.charged(session.ref, run_id)
            request = StartRequest(state=state, requested_by="inbox", key_id=charged)
            run_id = await self._runs.start(session, request, inbox_ids=ids)
        except AgentError as error:
            _log.warning("inbox_not_started", session_id=session.session_id, code=error.code)
            return
        self._started.update(dict.fromkeys(ids, run_id))
        while len(self._started) > 1_000:
            self._started.pop(next(iter(self._started)))

    # -- a change of a paused run ------------------------------------------------------------------------------

    async def edit(self, session: SessionRow, changes: Mapping[str, Any], *, by: str) -> RunRow:
        """Changes the state of a paused run; what was finished stays finished. Raises `NotPaused`, `StateInvalid`.

        The change is kept beside the run and applied when it goes on, because changing the checkpoint itself would
        run finished branches again.
        """
        workflow = await self._catalog.workflow(session.workflow_version, session.agent_config)
        workflow.check_state(changes, path="state")
        check_messages(changes.get("messages", []), path="state.messages")
        changes, new = _with_ids(changes)
        run = await self._runs.rows.active(session.ref)
        if run is None or run.status is not RunStatus.PAUSED:
            raise NotPaused(session_id=session.session_id)
        unit: UnitOfWork[RunRow] = UnitOfWork()
        records = [control_record(run, "edit", by, keys=sorted(changes))]
        records += [message_record(message, run.run_id, None) for message in new]
        self._store.add_facts(unit, RunKey(session.ref, run.run_id, run.epoch), Facts(records=records))
        unit.then = change_pending(run.run_id, lambda pending: _merged(pending, changes), expected_epoch=run.epoch)
        try:
            committed = await self._writer.commit(unit)
        except StaleEpoch:  # it went on, or was stopped, meanwhile
            raise NotPaused(session_id=session.session_id) from None
        assert committed.result is not None
        return committed.result


def _still_takes(session: SessionRow, run_id: str) -> Callable[[sqlite3.Connection], None]:
    """The step that raises `RunNotRunning` when the run has ended meanwhile."""

    def step(connection: sqlite3.Connection) -> None:
        row = connection.execute("SELECT status FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        if row is None or row[0] not in _TAKING:
            raise RunNotRunning(session_id=session.session_id)

    return step


def _merged(pending: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    """What waits for the run to go on, with these changes of the state in front of earlier ones."""
    held: dict[str, Any] = pending or {}
    return {**held, "update": {**held.get("update", {}), **changes}}


def _with_ids(changes: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[Message]]:
    """The changes with their messages in shape, and those of them that are not in the log yet (they had no id)."""
    if "messages" not in changes:
        return changes, []
    written = changes["messages"]
    items: list[Any] = cast("list[Any]", written) if isinstance(written, list) else [written]
    messages = normalised(items, node="edit")
    new = [message for item, message in zip(items, messages, strict=True) if not _has_id(item)]
    return {**changes, "messages": messages}, new


def _has_id(item: Any) -> bool:
    return isinstance(item, dict) and "id" in item
