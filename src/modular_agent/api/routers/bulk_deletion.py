"""`/sessions/bulk-delete`: many sessions deleted in one call."""

from collections import Counter
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request

from modular_agent.api.dependencies import CallerDep, RuntimeDep
from modular_agent.api.language import language_of
from modular_agent.api.openapi import problems
from modular_agent.api.requests import JsonRoute
from modular_agent.api.responses import JsonResponse
from modular_agent.api.schemas.bulk_deletion import BulkDelete, BulkDeleteAnswer, SessionsFilter
from modular_agent.api.times import microseconds
from modular_agent.domain.history import TimeRangeReversed
from modular_agent.domain.sessions import (
    BulkDeletion,
    Chosen,
    Deletion,
    DeletionUnclear,
    SessionFilter,
    agent_workflow_name,
)
from modular_agent.errors import Language

__all__ = ["router"]

router = APIRouter(prefix="/sessions", tags=["sessions"], route_class=JsonRoute)


@router.post(
    "/bulk-delete",
    summary="Delete many sessions",
    response_model=BulkDeleteAnswer,
    responses=problems(DeletionUnclear, TimeRangeReversed),
)
async def bulk_delete_sessions(
    runtime: RuntimeDep, request: Request, caller: CallerDep, body: Annotated[BulkDelete, Body()]
) -> JsonResponse:
    """Stops the run of each session, then removes its state, log and files, and says for each what became of it.

    One that cannot be deleted does not keep the others. With a filter, repeat the call while `remaining` is above 0.
    """
    if (body.session_ids is None) == (body.filter is None):
        raise DeletionUnclear
    deletion = BulkDeletion(runtime.sessions)
    if body.filter is None:
        chosen = Chosen(body.session_ids or (), remaining=0)
    else:
        chosen = await deletion.choose(_filter(body.filter), limit=body.limit)
    done = await deletion.delete(chosen.session_ids, by=caller, dry_run=body.dry_run)
    counts = Counter(each.outcome for each in done)
    return JsonResponse(
        {
            **{outcome: counts[outcome] for outcome in ("deleted", "not_found", "failed")},
            "remaining": chosen.remaining,
            "dry_run": body.dry_run,
            "sessions": [_told(each, language_of(request.scope)) for each in done],
        }
    )


def _filter(given: SessionsFilter) -> SessionFilter:
    """Raises `DeletionUnclear`, and `TimeRangeReversed` when the range ends before it starts."""
    if not given.model_dump(exclude_none=True) or (given.workflow_id is not None and given.agent_type is not None):
        raise DeletionUnclear
    start, end = microseconds(given.start_time), microseconds(given.end_time)
    if start is not None and end is not None and end < start:
        raise TimeRangeReversed
    workflow_id = given.workflow_id if given.agent_type is None else agent_workflow_name(given.agent_type)
    return SessionFilter(status=given.status, search=given.search, workflow_id=workflow_id, start=start, end=end)


def _told(deletion: Deletion, language: Language) -> dict[str, Any]:
    error = deletion.error
    return {
        "session_id": deletion.session_id,
        "outcome": deletion.outcome,
        "code": error.code if error else None,
        "detail": error.message(language) if error else None,
    }
