"""Sessions: made, found, listed, changed and deleted."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from typing import Any, Final

from modular_agent.domain.runs.control import RunControl
from modular_agent.domain.runs.errors import CheckpointUnknown
from modular_agent.domain.runs.multitask import Multitask
from modular_agent.domain.runs.requests import StartRequest, check_agent_config, check_messages, check_start
from modular_agent.domain.runs.service import RunsService
from modular_agent.domain.sessions.agents import Agents
from modular_agent.domain.sessions.errors import StatusNotSettable, WorkflowMissing
from modular_agent.domain.workflows.catalog import WorkflowCatalog
from modular_agent.engine.checkpoints import Saver
from modular_agent.engine.nodes.conversation import tool_results
from modular_agent.engine.spec.configured import agent_of
from modular_agent.engine.spec.loader import LoadedWorkflow
from modular_agent.events import SessionRef
from modular_agent.kit.clock import Clock, rfc3339
from modular_agent.kit.dataclass import dataclass
from modular_agent.kit.ids import session_id
from modular_agent.realtime.hub import Hub
from modular_agent.storage.database import Database
from modular_agent.storage.errors import RequestRepeated, SessionBusy, SessionIdTaken, SessionUnknown
from modular_agent.storage.repositories.api_keys import charge_to_key
from modular_agent.storage.repositories.checkpoints import CheckpointRepository
from modular_agent.storage.repositories.idempotency import IdempotencyRepository, claim_key, release_key
from modular_agent.storage.repositories.llm_calls import LlmCallRepository
from modular_agent.storage.repositories.session_lists import SessionFilter, SessionLists, SessionPage, SortKey
from modular_agent.storage.repositories.session_matches import SESSION_TEXTS
from modular_agent.storage.repositories.sessions import (
    NewSession,
    SessionChange,
    SessionRepository,
    SessionRow,
    create_session,
    update_session,
)
from modular_agent.storage.repositories.workflows import touch_workflow
from modular_agent.storage.unit_of_work import UnitOfWork, in_order

__all__ = ["CreateRequest", "SessionsService", "session_view"]

ID_ATTEMPTS: Final = 20
STARTED_MEANWHILE: Final = 10  # runs that a deletion stops, should others go on starting them
NANO: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRequest:
    """A new session: a workflow by file or by name, or an agent, and what goes with it."""

    workflow_config_path: str | None = None
    workflow_id: str | None = None
    agent_type: str | None = None
    agent_config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    initial_state: Mapping[str, Any] = field(default_factory=dict[str, Any])
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    title: str | None = None
    tags: Sequence[str] = ()
    tenant: str = "default"
    key_id: str | None = None
    idempotency_key: str | None = None
    fingerprint: str = ""


class SessionsService:
    """The verbs about sessions."""

    def __init__(
        self,
        database: Database,
        *,
        catalog: WorkflowCatalog,
        runs: RunsService,
        control: RunControl,
        multitask: Multitask,
        saver: Saver,
        hub: Hub,
        clock: Clock,
    ) -> None:
        self._writer = database.writer
        self._rows = SessionRepository(database.readers, cache=database.cache)
        self._lists = SessionLists(database.readers, cache=database.cache)
        self._keys = IdempotencyRepository(database.readers)
        self._removal = database.removal
        self._checkpoints = CheckpointRepository(database.readers)
        self._calls = LlmCallRepository(database.readers)
        self._runs = runs
        self._catalog = catalog
        self._agents = Agents(catalog)
        self._control = control
        self._multitask = multitask
        self._saver = saver
        self._hub = hub
        self._clock = clock

    async def create(self, request: CreateRequest) -> SessionRow:
        """Makes a session on the current version of a workflow.

        Raises `WorkflowMissing`, `AgentUnknown`, `SourceError`, `WorkflowInvalid`, `WorkflowUnknown`, `StateInvalid`,
        `AgentConfigInvalid`; nothing is made then. A repeated request answers the session the first one made.
        """
        if request.idempotency_key is not None:
            made = await self._keys.subject(
                tenant=request.tenant, key=request.idempotency_key, fingerprint=request.fingerprint
            )
            if made is not None:
                return await self.get(made)
        check_agent_config(request.agent_config)
        check_messages(request.initial_state.get("messages", []), path="initial_state.messages")
        loaded = await self._workflow(request)
        request = replace(request, agent_config=await self._agents.pinned(request.agent_config, loaded))
        if request.initial_state:
            workflow = await self._catalog.workflow(loaded.content_hash, request.agent_config)
            workflow.check_state(request.initial_state)
        proposed = ""
        for _ in range(ID_ATTEMPTS):
            proposed = session_id(loaded.spec.name, self._clock.now_us())
            try:
                step = in_order(*self._creation(request, loaded, proposed))
                unit: UnitOfWork[Any] = UnitOfWork(then=step, touches=("sessions", "workflows"))
                await self._writer.commit(unit)
            except SessionIdTaken:
                continue
            except RequestRepeated as repeated:
                return await self.get(repeated.subject)
            return await self.get(proposed)
        raise SessionIdTaken(session_id=proposed)

    async def start_in_new(self, request: CreateRequest, start: StartRequest) -> tuple[SessionRow, str]:
        """Makes a session and starts its first run; answers the session and the run's id.

        Raises what `create` and `RunsService.start` raise; nothing is made then, and the key may be used again.
        """
        check_start(start)
        session = await self.create(request)
        try:
            return session, await self._runs.start(session, start)
        except BaseException:
            await asyncio.shield(self._withdraw(session, request))
            raise

    async def _withdraw(self, session: SessionRow, request: CreateRequest) -> None:
        """Takes back a session whose first run could not start; one that has runs (a twin's) stays."""
        if (await self._runs.rows.page(session.ref, limit=1)).total:
            return
        if request.idempotency_key is not None:
            step = release_key(tenant=request.tenant, key=request.idempotency_key)
            await self._writer.commit(UnitOfWork(then=step))
        with contextlib.suppress(SessionBusy):
            await self._removal.delete(session.ref)

    def _creation(self, request: CreateRequest, loaded: LoadedWorkflow, proposed: str) -> list[Callable[..., object]]:
        now = self._clock.now_us()
        new = NewSession(
            session_id=proposed,
            workflow_id=loaded.spec.name,
            workflow_version=loaded.content_hash,
            workflow_config_path=loaded.path,
            now_us=now,
            tenant=request.tenant,
            title=request.title,
            tags=request.tags,
            agent_config=request.agent_config,
            metadata=request.metadata,
            initial_state=request.initial_state,
        )
        steps: list[Callable[..., object]] = [create_session(new), touch_workflow(loaded.spec.name, now_us=now)]
        if request.key_id is not None:
            steps.append(charge_to_key(proposed, "", request.key_id))
        if request.idempotency_key is not None:
            key, fingerprint = request.idempotency_key, request.fingerprint
            claim = claim_key(tenant=request.tenant, key=key, fingerprint=fingerprint, subject=proposed, now_us=now)
            steps.insert(0, claim)
        return steps

    async def _workflow(self, request: CreateRequest) -> LoadedWorkflow:
        given = (request.workflow_config_path, request.workflow_id, request.agent_type)
        if sum(each is not None for each in given) != 1:
            raise WorkflowMissing
        if request.agent_type is not None:
            return await self._agents.load(request.agent_type)
        if request.workflow_config_path is not None:
            return await self._catalog.load(request.workflow_config_path)
        row = await self._catalog.named(str(request.workflow_id))
        return await self._catalog.loaded(row.content_hash)

    async def get(self, session_id: str, *, tenant: str | None = None) -> SessionRow:
        """Raises `SessionUnknown`, also for another tenant's."""
        row = await self._rows.get(session_id, tenant=tenant)
        if row is None:
            raise SessionUnknown(session_id=session_id)
        return row

    async def page(
        self,
        chosen: SessionFilter,
        *,
        sort_by: SortKey,
        descending: bool,
        page: int,
        page_size: int,
        cursor: str | None,
    ) -> SessionPage:
        return await self._lists.page(
            chosen, sort_by=sort_by, descending=descending, page=page, page_size=page_size, cursor=cursor
        )

    async def update(self, session: SessionRow, change: SessionChange) -> SessionRow:
        """Merges metadata, sets title and tags; of two changes at once none is lost."""
        step = update_session(session.ref, change, now_us=self._clock.now_us())
        committed = await self._writer.commit(UnitOfWork(then=step, touches=("sessions", SESSION_TEXTS, session.n)))
        assert committed.result is not None
        return committed.result

    async def set_status(self, session: SessionRow, status: str, *, by: str) -> None:
        """`paused`, `active` and `stopped` are pause, resume and stop. Raises `StatusNotSettable` for others."""
        if status == "paused":
            await self._control.pause(session, by=by)
        elif status == "active":
            await self._control.resume(session, by=by)
        elif status == "stopped":
            await self._control.stop(session, by=by)
        else:
            raise StatusNotSettable(status=status)

    async def state(self, session: SessionRow, *, checkpoint_id: str | None = None) -> dict[str, Any]:
        """The session's state as it stands, or as it was at a checkpoint. Raises `CheckpointUnknown`."""
        workflow = await self._catalog.workflow(session.workflow_version, session.agent_config)
        if checkpoint_id is not None and not await self._saver.has_checkpoint(session.ref, checkpoint_id):
            raise CheckpointUnknown(checkpoint_id=checkpoint_id)
        state = await workflow.state(self._saver, session.ref, checkpoint_id=checkpoint_id)
        page = await self._runs.rows.page(session.ref, limit=1)
        run = page.runs[0] if page.runs else None
        calls = await self._calls.usage_of_run(session.ref, run.run_id) if run else []
        if run is not None and run.pending:
            state.update(run.pending.get("update", {}))  # an edit that is applied when the run goes on
        messages: list[dict[str, Any]] = state.get("messages") or []
        limits = {**session.agent_config.get("limits", {}), **(run.limits if run else {})}
        return {
            "messages": messages,
            "tool_results": tool_results(messages),
            "current_step": run.current_node if run else None,
            "iteration_count": sum(each.calls - each.errors for each in calls),
            "max_iterations": limits.get("max_iterations", workflow.spec.limits.max_iterations),
            "workflow_name": workflow.name,
            "start_time": rfc3339(run.started_at) if run and run.started_at else None,
            "errors": [run.error] if run and run.error else [],
            **{key: value for key, value in state.items() if key != "messages"},
        }

    async def checkpoints(self, session: SessionRow, *, limit: int = 50) -> list[dict[str, Any]]:
        """The session's checkpoints, newest first, with step and size."""
        rows = await self._checkpoints.summaries(session.ref, limit=limit)
        return [
            {
                "checkpoint_id": row.checkpoint_id,
                "parent_id": row.parent_id,
                "run_id": row.run_id,
                "step": row.step,
                "source": row.source,
                "created_at": rfc3339(row.created_at),
                "saved_name": row.saved_name,
                "size": row.size,
            }
            for row in rows
        ]

    async def delete(self, session: SessionRow, *, by: str) -> None:
        """Stops the session's run, then removes all of it: what waits in its queue, state, log, files."""
        async with self._multitask.ending(session):
            await self._end_and_remove(session, by=by)
        self._hub.session_deleted(session.ref, tenant=session.tenant)

    async def _end_and_remove(self, session: SessionRow, *, by: str) -> None:
        for _ in range(STARTED_MEANWHILE):
            await self._control.end_for_deletion(session, by=by)
            self._saver.forget(session.ref)
            with contextlib.suppress(SessionBusy):  # somebody started a run just now
                return await self._removal.delete(session.ref)
        return await self._removal.delete(session.ref)

    async def finish_deletions(self) -> int:
        """Ends deletions that a process left half-way."""
        return await self._removal.finish()

    async def reference(self, session_id: str, *, tenant: str | None = None) -> SessionRef:
        """Raises `SessionUnknown`."""
        return (await self.get(session_id, tenant=tenant)).ref


def session_view(row: SessionRow) -> dict[str, Any]:
    """A session as the API shows it."""
    return {
        "session_id": row.session_id,
        "workflow_config_path": row.workflow_config_path,
        "workflow_id": row.workflow_id,
        "workflow_version": row.workflow_version,
        "agent_type": agent_of(row.workflow_config_path),
        "status": row.status,
        "title": row.title,
        "tags": row.tags,
        "created_at": rfc3339(row.created_at),
        "updated_at": rfc3339(row.updated_at),
        "agent_config": row.agent_config,
        "metadata": row.metadata,
        "current_run_id": row.current_run_id,
        "last_seq": row.last_seq,
        "usage": {
            "messages": row.messages,
            "tool_calls": row.tool_calls,
            "errors": row.errors,
            "prompt_tokens": row.prompt_tokens,
            "completion_tokens": row.completion_tokens,
            "total_tokens": row.prompt_tokens + row.completion_tokens,
            "cached_tokens": row.cached_tokens,
            "reasoning_tokens": row.reasoning_tokens,
            "unpriced_tokens": row.unpriced_tokens,
            "cost_usd": row.cost_nano / NANO,
        },
    }
