"""Checkpoints of a session: listed, saved, gone back to, and forked from."""

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from typing import Any, Final

import orjson

from modular_agent.domain.runs.errors import CheckpointUnknown
from modular_agent.domain.runs.going_back import ATTEMPTS, GoingBack
from modular_agent.domain.runs.requests import check_agent_config
from modular_agent.domain.runs.store import DatabaseRunStore, run_record
from modular_agent.domain.sessions.agents import Agents
from modular_agent.domain.sessions.errors import ForkNodeMissing
from modular_agent.domain.workflows.catalog import WorkflowCatalog
from modular_agent.engine.checkpoints import Saver
from modular_agent.engine.snapshots import Snapshots
from modular_agent.engine.spec.loader import LoadedWorkflow
from modular_agent.engine.store import Facts, RunKey
from modular_agent.engine.workflow import Workflow
from modular_agent.errors import CursorInvalid
from modular_agent.events import Record, RecordType, SessionRef
from modular_agent.kit.clock import Clock, rfc3339
from modular_agent.kit.dataclass import dataclass
from modular_agent.kit.ids import new_id, session_id
from modular_agent.lifecycle import RunStatus
from modular_agent.storage.database import Database
from modular_agent.storage.errors import SessionIdTaken, SessionMoved
from modular_agent.storage.records import RecordFilter
from modular_agent.storage.repositories.api_keys import charge_to_key
from modular_agent.storage.repositories.checkpoint_pruning import copy_checkpoint
from modular_agent.storage.repositories.checkpoints import (
    CheckpointRepository,
    CheckpointSummary,
    Extent,
    checkpoint_extent,
    save_checkpoint,
)
from modular_agent.storage.repositories.run_steps import create_run
from modular_agent.storage.repositories.runs import NewRun
from modular_agent.storage.repositories.sessions import (
    NewSession,
    SessionRepository,
    SessionRow,
    create_session,
    set_workflow_version,
)
from modular_agent.storage.repositories.standing import at_rest, stands
from modular_agent.storage.unit_of_work import UNNUMBERED, UnitOfWork, in_order

__all__ = ["ForkRequest", "SessionCheckpoints"]

ID_ATTEMPTS: Final = 20
_CHECKPOINT_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_COMMON: Final = frozenset({"seq", "timestamp", "record_id", "session_id", "run_id", "record_type", "node", "metadata"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkRequest:
    """A new session that goes on from a checkpoint of another; None takes what the source has.

    `as_node` is the node after which it goes on, needed when a pending node does not exist in the other version.
    """

    checkpoint_id: str | None = None
    workflow_config_path: str | None = None
    workflow_version: str | None = None
    agent_config: Mapping[str, Any] | None = None
    as_node: str | None = None
    title: str | None = None
    tags: Sequence[str] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    requested_by: str = "local"
    key_id: str | None = None  # the API key that the new session is charged to


class SessionCheckpoints:
    """The verbs about a session's checkpoints."""

    def __init__(
        self,
        database: Database,
        *,
        catalog: WorkflowCatalog,
        store: DatabaseRunStore,
        saver: Saver,
        clock: Clock,
    ) -> None:
        self._writer = database.writer
        self._records = database.records
        self._rows = CheckpointRepository(database.readers)
        self._sessions = SessionRepository(database.readers)
        self._catalog = catalog
        self._agents = Agents(catalog)
        self._store = store
        self._going_back = GoingBack(database.writer, sessions=self._sessions, store=store, saver=saver)
        self._snapshots = Snapshots(store, saver)
        self._clock = clock

    async def page(self, session: SessionRow, *, limit: int, before: str | None = None) -> list[dict[str, Any]]:
        """The session's checkpoints, newest first, each with what changed since the one before.

        Raises `CursorInvalid` when `before` is no id of a checkpoint; the one that it names may be pruned by now.
        """
        if before is not None and not _CHECKPOINT_ID.fullmatch(before):
            raise CursorInvalid
        rows = await self._rows.summaries(session.ref, limit=limit + 1, before=before)
        shapes = [await self._snapshots.outline(session.ref, row.checkpoint_id) for row in rows]
        views = [_view(row) for row in rows]
        for i, view in enumerate(views):
            view["diff"] = _difference(shapes[i], shapes[i + 1] if i + 1 < len(shapes) else {})
        return views[:limit]

    async def save(self, session: SessionRow, *, name: str) -> str:
        """Names the newest checkpoint, so that retention keeps it; answers its id. Raises `CheckpointUnknown`."""
        committed = await self._writer.commit(UnitOfWork(then=save_checkpoint(session.ref, name=name)))
        if committed.result is None:
            raise CheckpointUnknown(checkpoint_id="(newest)")
        return committed.result

    async def restore(self, session: SessionRow, *, checkpoint_id: str | None, by: str) -> str:
        """Goes back to a checkpoint (the last saved one if none is given); the log keeps what happened since.

        Answers the checkpoint's id. Raises `CheckpointUnknown`, and `SessionBusy` while a run is active.
        """
        wanted = checkpoint_id or await self._last_saved(session)
        await self._going_back.go(session, wanted, by=by)
        return wanted

    async def migrate(self, session: SessionRow, loaded: LoadedWorkflow, *, by: str) -> None:
        """Binds the session to another version of a workflow.

        Raises `SessionBusy`, `SessionMoved`, `ForkNodeMissing`.
        """
        source = await self._catalog.workflow(session.workflow_version, session.agent_config)
        target = await self._catalog.workflow(loaded.content_hash, session.agent_config)
        pending = await _pending_nodes(source, session.session_id, None)
        _check_nodes(pending, target)
        step = set_workflow_version(
            session.ref,
            workflow_id=loaded.spec.name,
            version=loaded.content_hash,
            config_path=loaded.path,
            now_us=self._clock.now_us(),
        )
        undisturbed = in_order(at_rest(session.ref), stands(session.ref, since=session.last_seq))
        unit: UnitOfWork[Any] = UnitOfWork(first=in_order(undisturbed, step))
        details = {"workflow_version": loaded.content_hash, "from_version": session.workflow_version}
        unit.record(session.ref, _control("migrate", by, **details))
        await self._writer.commit(unit)

    # -- fork --------------------------------------------------------------------------------------------------

    async def fork(self, session: SessionRow, request: ForkRequest) -> SessionRow:
        """Makes a session that goes on from a checkpoint of `session`; where a run was under way there, it is paused.

        Raises `CheckpointUnknown`, `ForkNodeMissing`, `AgentConfigInvalid`, and what loading a workflow raises.
        """
        if request.agent_config is not None:
            check_agent_config(request.agent_config)
        checkpoint_id = request.checkpoint_id or await self._newest(session)
        for _ in range(ATTEMPTS):
            with contextlib.suppress(SessionMoved):  # its run wrote something; no more when it has gone on
                return await self._fork(session, request, checkpoint_id)
        return await self._fork(session, request, checkpoint_id)

    async def _fork(self, session: SessionRow, request: ForkRequest, checkpoint_id: str) -> SessionRow:
        source = await self._catalog.workflow(session.workflow_version, session.agent_config)
        loaded = await self._target(session, request)
        if request.agent_config is not None:
            request = replace(request, agent_config=await self._agents.pinned(request.agent_config, loaded))
        config = session.agent_config if request.agent_config is None else request.agent_config
        target = await self._catalog.workflow(loaded.content_hash, config)
        await self._going_back.check(session.ref, checkpoint_id)
        pending = await _pending_nodes(source, session.session_id, checkpoint_id)
        if request.as_node is None:
            _check_nodes(pending, target)
        elif request.as_node not in target.spec.nodes:
            raise ForkNodeMissing(nodes=request.as_node, known=", ".join(target.spec.nodes))
        paused = bool(pending or request.as_node)
        ref, run_id = await self._copy(session, request, loaded, checkpoint_id, paused=paused)
        if request.as_node is not None:
            place = {"configurable": {"thread_id": ref.session_id, "checkpoint_ns": ""}}
            await target.graph.aupdate_state(place, None, as_node=request.as_node)
            await self._writer.commit(UnitOfWork(then=_claim(ref, run_id)))
        row = await self._sessions.get(ref.session_id)
        assert row is not None
        return row

    async def _target(self, session: SessionRow, request: ForkRequest) -> LoadedWorkflow:
        if request.workflow_config_path is not None:
            return await self._catalog.load(request.workflow_config_path)
        return await self._catalog.loaded(request.workflow_version or session.workflow_version)

    async def _copy(
        self, session: SessionRow, request: ForkRequest, loaded: LoadedWorkflow, checkpoint_id: str, *, paused: bool
    ) -> tuple[SessionRef, str | None]:
        """The new session and its run. Raises `SessionMoved` when a run has gone on from the checkpoint meanwhile."""
        extent = await self._rows.extent(session.ref, checkpoint_id)
        segments = await self._snapshots.segments(session.ref, checkpoint_id)
        records = await self._referred(session, checkpoint_id)
        for _ in range(ID_ATTEMPTS):
            now = self._clock.now_us()
            target = SessionRef(UNNUMBERED, session_id(loaded.spec.name, now))
            run_id = new_id("run") if paused else None
            unit: UnitOfWork[Any] = UnitOfWork(
                first=create_session(_new_session(session, request, loaded, target, now))
            )
            self._store.add_facts(unit, RunKey(target, run_id or "", 1), Facts(records=records))
            unit.record(
                target, _control("fork", request.requested_by, source=session.session_id, checkpoint_id=checkpoint_id)
            )
            if run_id is not None:
                unit.record(target, run_record(run_id, RunStatus.PAUSED))
            unit.then = _copying(
                session.ref,
                target.session_id,
                checkpoint_id,
                segments,
                run_id,
                extent=extent,
                key_id=request.key_id,
                now=now,
            )
            try:
                committed = await self._writer.commit(unit)
            except SessionIdTaken:
                continue
            assert committed.result is not None
            return committed.result, run_id
        raise SessionIdTaken(session_id=session.session_id)

    async def _referred(self, session: SessionRow, checkpoint_id: str) -> list[Record]:
        """The records that the state at a checkpoint refers to, for a log that stands alone."""
        wanted = await self._snapshots.record_ids(session.ref, checkpoint_id)
        chosen = RecordFilter(types=(RecordType.MESSAGE,))
        page = await self._records.page(session.ref, chosen, limit=1_000_000)
        return [_copied(orjson.loads(each.line)) for each in page.records if each.record_id in wanted]

    # -- what is there -----------------------------------------------------------------------------------------

    async def _newest(self, session: SessionRow) -> str:
        newest = await self._rows.newest_id(session.ref)
        if newest is None:
            raise CheckpointUnknown(checkpoint_id="(newest)")
        return newest

    async def _last_saved(self, session: SessionRow) -> str:
        saved = await self._rows.last_saved_id(session.ref)
        if saved is None:
            raise CheckpointUnknown(checkpoint_id="(last saved)")
        return saved


async def _pending_nodes(workflow: Workflow, thread_id: str, checkpoint_id: str | None) -> set[str]:
    """The nodes that would run next."""
    place = {"thread_id": thread_id, "checkpoint_ns": ""}
    if checkpoint_id is not None:
        place["checkpoint_id"] = checkpoint_id
    snapshot: Any = await workflow.graph.aget_state({"configurable": place})
    return {str(name) for name in snapshot.next}


def _check_nodes(pending: set[str], target: Workflow) -> None:
    missing = sorted(name for name in pending if name != "__start__" and name not in target.graph.nodes)
    if missing:
        raise ForkNodeMissing(nodes=", ".join(missing), known=", ".join(target.spec.nodes))


def _new_session(
    session: SessionRow, request: ForkRequest, loaded: LoadedWorkflow, target: SessionRef, now: int
) -> NewSession:
    return NewSession(
        session_id=target.session_id,
        workflow_id=loaded.spec.name,
        workflow_version=loaded.content_hash,
        workflow_config_path=loaded.path,
        now_us=now,
        tenant=session.tenant,
        title=request.title if request.title is not None else session.title,
        tags=[*(request.tags or session.tags)],
        agent_config=request.agent_config if request.agent_config is not None else session.agent_config,
        metadata={**session.metadata, **request.metadata, "forked_from": session.session_id},
    )


def _copying(
    source: SessionRef,
    target_id: str,
    checkpoint_id: str,
    segments: Mapping[str, int],
    run_id: str | None,
    *,
    extent: Extent,
    key_id: str | None,
    now: int,
) -> Any:
    """The step that copies the state into the new session; a run that was under way there waits, paused."""

    def step(connection: Any) -> SessionRef:
        (n,) = connection.execute("SELECT n FROM sessions WHERE session_id = ?", (target_id,)).fetchone()
        target = SessionRef(n, target_id)
        if checkpoint_extent(connection, source, checkpoint_id) != extent:
            raise SessionMoved(session_id=source.session_id)
        pending = extent.is_newest
        copy = copy_checkpoint(source, target, checkpoint_id=checkpoint_id, segments=segments, pending=pending)
        steps: list[Callable[..., object]] = [copy]
        if key_id is not None:
            steps.append(charge_to_key(target_id, "", key_id))
        if run_id is not None:
            new = NewRun(run_id=run_id, session=target, now_us=now, status=RunStatus.PAUSED)
            steps += [create_run(new), _claim(target, run_id)]
        in_order(*steps)(connection)
        return target

    return step


def _claim(session: SessionRef, run_id: str | None) -> Any:
    """The step that makes the session's checkpoints those of a run, so that it goes on from them."""

    def step(connection: Any) -> None:
        connection.execute("UPDATE checkpoints SET run_id = ? WHERE session_n = ?", (run_id, session.n))

    return step


def _copied(line: Mapping[str, Any]) -> Record:
    origin = {"session_id": line["session_id"], "seq": line["seq"], "run_id": line["run_id"]}
    return Record(
        record_type=RecordType(line["record_type"]),
        record_id=line["record_id"],
        node=line["node"],
        fields={key: value for key, value in line.items() if key not in _COMMON},
        metadata={**line["metadata"], "copied_from": origin},
    )


def _control(action: str, by: str, **more: Any) -> Record:
    return Record(record_type=RecordType.CONTROL, fields={"action": action, "by": by, **more})


def _view(row: CheckpointSummary) -> dict[str, Any]:
    return {
        "checkpoint_id": row.checkpoint_id,
        "parent_id": row.parent_id,
        "run_id": row.run_id,
        "step": row.step,
        "source": row.source,
        "created_at": rfc3339(row.created_at),
        "saved_name": row.saved_name,
        "size": row.size,
    }


def _difference(now: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """What changed between two outlines: keys of the state, and how many items lists gained or lost."""
    keys = sorted({*now, *before})
    changed = [key for key in keys if now.get(key) != before.get(key)]
    lengths = {
        key: now.get(key, {}).get("length", 0) - before.get(key, {}).get("length", 0)
        for key in changed
        if "length" in now.get(key, {}) or "length" in before.get(key, {})
    }
    return {"changed": changed, "items": lengths}
