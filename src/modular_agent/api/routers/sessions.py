"""`/sessions/`: make, find, list, change and delete sessions; read their state and newest history."""

import hashlib
from typing import Annotated, Literal

from fastapi import APIRouter, Body, Query

from modular_agent.api.dependencies import ApiKeyDep, CallerDep, IdempotencyKey, RuntimeDep, SessionDep
from modular_agent.api.openapi import problems
from modular_agent.api.requests import JsonRoute
from modular_agent.api.responses import JsonResponse, dump
from modular_agent.api.schemas.sessions import (
    CreateSession,
    HistoryAnswer,
    Message,
    SessionAnswer,
    SessionList,
    StateAnswer,
    UpdateSession,
)
from modular_agent.domain.runs import AgentConfigInvalid, LimitsInvalid, StateInvalid
from modular_agent.domain.sessions import (
    AgentUnknown,
    CheckpointUnknown,
    CreateRequest,
    IdempotencyKeyReused,
    SessionChange,
    SessionFilter,
    SessionUnknown,
    SortKey,
    StatusNotSettable,
    WorkflowMissing,
    agent_workflow_name,
    session_view,
)
from modular_agent.domain.workflows import PathOutsideRoot, WorkflowInvalid, WorkflowUnknown
from modular_agent.errors import CursorInvalid

__all__ = ["create_request", "fingerprint", "router"]

router = APIRouter(prefix="/sessions", tags=["sessions"], route_class=JsonRoute)


def fingerprint(path: str, body: object) -> str:
    """What tells two requests apart that carry the same `Idempotency-Key`."""
    return hashlib.sha256(path.encode() + b"\n" + dump(body)).hexdigest()


def create_request(body: CreateSession, *, api_key: str | None, key: str | None = None) -> CreateRequest:
    """The session that a body asks for."""
    return CreateRequest(
        workflow_config_path=body.workflow_config_path,
        workflow_id=body.workflow_id,
        agent_type=body.agent_type,
        agent_config=body.agent_config,
        initial_state=body.initial_state,
        metadata=body.metadata,
        title=body.title,
        tags=body.tags,
        key_id=api_key,
        idempotency_key=key,
        fingerprint=fingerprint("/sessions/", body.model_dump(mode="json")),
    )


def _agent_workflow(agent_type: str | None) -> str | None:
    return None if agent_type is None else agent_workflow_name(agent_type)


@router.get("/", summary="List sessions", response_model=SessionList, responses=problems(CursorInvalid))
async def list_sessions(
    runtime: RuntimeDep,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    page_size: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(max_length=1000, description="From a former answer; wins over `page`.")] = None,
    status: Annotated[
        Literal["active", "paused", "completed", "error", "stopped"] | None, Query(description="Only these.")
    ] = None,
    search: Annotated[
        str | None, Query(max_length=200, description="A piece of the id, workflow, title or metadata.")
    ] = None,
    agent_type: Annotated[str | None, Query(max_length=64, description="Sessions of this agent.")] = None,
    sort_by: Annotated[SortKey, Query()] = "created_at",
    sort_order: Annotated[Literal["asc", "desc"], Query()] = "desc",
) -> JsonResponse:
    """Sessions, newest first unless asked otherwise; with `sort_by=status`, those of one status by `updated_at`.

    Pages in the middle of very many take longer by number than by `cursor`.
    """
    found = await runtime.sessions.page(
        SessionFilter(status=status, search=search, workflow_id=_agent_workflow(agent_type)),
        sort_by=sort_by,
        descending=sort_order == "desc",
        page=page,
        page_size=page_size,
        cursor=cursor,
    )
    return JsonResponse(
        {
            "sessions": [session_view(row) for row in found.sessions],
            "total": found.total,
            "page": page,
            "page_size": page_size,
            "has_next": found.has_next,
            "cursor": found.cursor,
        }
    )


@router.post(
    "/",
    status_code=201,
    summary="Make a session",
    response_model=SessionAnswer,
    responses=problems(
        WorkflowMissing,
        AgentUnknown,
        WorkflowInvalid,
        PathOutsideRoot,
        StateInvalid,
        AgentConfigInvalid,
        LimitsInvalid,
        WorkflowUnknown,
        IdempotencyKeyReused,
    ),
)
async def create_session(
    runtime: RuntimeDep, api_key: ApiKeyDep, body: Annotated[CreateSession, Body()], key: IdempotencyKey = None
) -> JsonResponse:
    """Makes a session on the current version of a workflow; it stays with that version."""
    session = await runtime.sessions.create(create_request(body, api_key=api_key, key=key))
    return JsonResponse(session_view(session), status_code=201)


@router.get("/{session_id}", summary="Get a session", response_model=SessionAnswer, responses=problems(SessionUnknown))
async def get_session(session: SessionDep) -> JsonResponse:
    """One session."""
    return JsonResponse(session_view(session))


@router.put(
    "/{session_id}",
    summary="Change a session",
    response_model=SessionAnswer,
    responses=problems(SessionUnknown, StatusNotSettable),
)
async def update_session(
    session: SessionDep, runtime: RuntimeDep, caller: CallerDep, body: Annotated[UpdateSession, Body()]
) -> JsonResponse:
    """Merges metadata, sets title and tags; `status` pauses, resumes or stops the run."""
    if body.status is not None:
        await runtime.sessions.set_status(session, body.status, by=caller)
    change = SessionChange(metadata=body.metadata, title=body.title, tags=body.tags)
    return JsonResponse(session_view(await runtime.sessions.update(session, change)))


@router.delete("/{session_id}", summary="Delete a session", response_model=Message, responses=problems(SessionUnknown))
async def delete_session(session: SessionDep, runtime: RuntimeDep, caller: CallerDep) -> JsonResponse:
    """Stops the session's run, then removes its state, log and files."""
    await runtime.sessions.delete(session, by=caller)
    return JsonResponse({"message": f"Session {session.session_id} deleted."})


@router.get(
    "/{session_id}/history",
    summary="Read the newest records",
    response_model=HistoryAnswer,
    responses=problems(SessionUnknown),
)
async def get_history(
    session: SessionDep, runtime: RuntimeDep, limit: Annotated[int, Query(ge=1, le=500)] = 50
) -> JsonResponse:
    """The newest `limit` records of the session's log, oldest of them first."""
    lines = await runtime.history.newest(session.session_id, limit=limit)
    return JsonResponse(b'{"history":[' + b",".join(lines) + b"]}")


@router.get(
    "/{session_id}/state",
    summary="Read the state",
    response_model=StateAnswer,
    responses=problems(SessionUnknown, CheckpointUnknown),
)
async def get_state(
    session: SessionDep,
    runtime: RuntimeDep,
    checkpoint_id: Annotated[str | None, Query(max_length=100, description="Of a checkpoint; else the newest.")] = None,
) -> JsonResponse:
    """The session's state as it stands: the conversation, and what the workflow keeps."""
    return JsonResponse(await runtime.sessions.state(session, checkpoint_id=checkpoint_id))
