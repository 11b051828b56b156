"""Checkpoints of a session, forks, migrations; and what a person puts into a run."""

from typing import Annotated

from fastapi import APIRouter, Body, Query

from modular_agent.api.dependencies import ApiKeyDep, CallerDep, RuntimeDep, SessionDep
from modular_agent.api.openapi import problems
from modular_agent.api.requests import JsonRoute
from modular_agent.api.responses import JsonResponse
from modular_agent.api.schemas.checkpoints import (
    CheckpointList,
    EditState,
    ForkSession,
    InjectedAnswer,
    InjectMessage,
    MigrateSession,
    RestoreSession,
    Saved,
    SaveSession,
)
from modular_agent.api.schemas.sessions import SessionAnswer, StateAnswer
from modular_agent.domain.runs import AgentConfigInvalid, NotPaused, RunNotRunning, StateInvalid
from modular_agent.domain.sessions import (
    CheckpointUnknown,
    ForkNodeMissing,
    ForkRequest,
    SessionBusy,
    SessionMoved,
    SessionUnknown,
    session_view,
)
from modular_agent.domain.workflows import WorkflowVersionUnknown
from modular_agent.errors import CursorInvalid

__all__ = ["router"]

router = APIRouter(prefix="/sessions/{session_id}", tags=["sessions"], route_class=JsonRoute)


@router.get(
    "/checkpoints",
    summary="List checkpoints",
    response_model=CheckpointList,
    responses=problems(SessionUnknown, CursorInvalid),
)
async def list_checkpoints(
    session: SessionDep,
    runtime: RuntimeDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(max_length=100, description="A checkpoint id: those before it.")] = None,
) -> JsonResponse:
    """The session's checkpoints, newest first, with step, size and what changed since the one before."""
    rows = await runtime.checkpoints.page(session, limit=limit + 1, before=cursor)
    page = rows[:limit]
    has_next = len(rows) > limit
    last = page[-1]["checkpoint_id"] if has_next else None
    return JsonResponse({"checkpoints": page, "has_next": has_next, "cursor": last})


@router.post(
    "/save",
    summary="Save the newest checkpoint",
    response_model=Saved,
    responses=problems(SessionUnknown, CheckpointUnknown),
)
async def save_session(
    session: SessionDep, runtime: RuntimeDep, body: Annotated[SaveSession | None, Body()] = None
) -> JsonResponse:
    """Names the newest checkpoint; retention keeps it, and `restore` goes back to it."""
    checkpoint_id = await runtime.checkpoints.save(session, name=(body or SaveSession()).name)
    return JsonResponse({"message": "Checkpoint saved.", "checkpoint_id": checkpoint_id})


@router.post(
    "/restore",
    summary="Go back to a checkpoint",
    response_model=SessionAnswer,
    responses=problems(SessionUnknown, CheckpointUnknown, SessionBusy, SessionMoved),
)
async def restore_session(
    session: SessionDep,
    runtime: RuntimeDep,
    caller: CallerDep,
    body: Annotated[RestoreSession | None, Body()] = None,
) -> JsonResponse:
    """Goes back to the last saved (or the given) checkpoint; the log keeps what happened since."""
    wanted = (body or RestoreSession()).checkpoint_id
    await runtime.checkpoints.restore(session, checkpoint_id=wanted, by=caller)
    return JsonResponse(session_view(await runtime.sessions.get(session.session_id)))


@router.post(
    "/fork",
    status_code=201,
    summary="Fork a session",
    response_model=SessionAnswer,
    responses=problems(SessionUnknown, CheckpointUnknown, ForkNodeMissing, AgentConfigInvalid, WorkflowVersionUnknown),
)
async def fork_session(
    session: SessionDep,
    runtime: RuntimeDep,
    caller: CallerDep,
    api_key: ApiKeyDep,
    body: Annotated[ForkSession | None, Body()] = None,
) -> JsonResponse:
    """Makes a session that goes on from a checkpoint, with another model, prompt or workflow version if asked.

    Where a run was under way at the checkpoint, the new session has it paused: `resume` goes on.
    """
    given = body or ForkSession()
    forked = await runtime.checkpoints.fork(
        session, ForkRequest(**given.model_dump(), requested_by=caller, key_id=api_key)
    )
    return JsonResponse(session_view(forked), status_code=201)


@router.post(
    "/migrate",
    summary="Bind the session to another version",
    response_model=SessionAnswer,
    responses=problems(SessionUnknown, SessionBusy, SessionMoved, ForkNodeMissing, WorkflowVersionUnknown),
)
async def migrate_session(
    session: SessionDep,
    runtime: RuntimeDep,
    caller: CallerDep,
    body: Annotated[MigrateSession | None, Body()] = None,
) -> JsonResponse:
    """Binds the session to the newest (or the given) version of its workflow."""
    version = (body or MigrateSession()).workflow_version
    if version is None:
        version = (await runtime.catalog.named(session.workflow_id)).content_hash
    await runtime.checkpoints.migrate(session, await runtime.catalog.loaded(version), by=caller)
    return JsonResponse(session_view(await runtime.sessions.get(session.session_id)))


@router.post(
    "/messages",
    status_code=202,
    summary="Put a message into the run in progress",
    response_model=InjectedAnswer,
    responses=problems(SessionUnknown, StateInvalid, RunNotRunning),
)
async def inject_message(
    session: SessionDep,
    runtime: RuntimeDep,
    caller: CallerDep,
    body: Annotated[InjectMessage, Body()],
    wait: Annotated[bool, Query(description="Answer when the run has ended or paused.")] = False,
) -> JsonResponse:
    """Adds a user message before the next model call of the run; one that no call took starts the next run."""
    injected = await runtime.interventions.inject(session, body.message, by=caller)
    if wait:
        injected = await runtime.interventions.outcome(session, injected)
    answer = {"inbox_id": injected.inbox_id, "status": injected.status, "run_id": injected.run_id}
    return JsonResponse(answer, status_code=200 if wait else 202)


@router.patch(
    "/state",
    summary="Change the state of a paused run",
    response_model=StateAnswer,
    responses=problems(SessionUnknown, NotPaused, StateInvalid),
)
async def edit_state(
    session: SessionDep, runtime: RuntimeDep, caller: CallerDep, body: Annotated[EditState, Body()]
) -> JsonResponse:
    """Replaces the values of these keys; applied when the run goes on, and shown at once."""
    await runtime.interventions.edit(session, body.state, by=caller)
    return JsonResponse(await runtime.sessions.state(session))
