"""`/interrupts`: what waits for a person, over all sessions."""

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query

from modular_agent.api.dependencies import RuntimeDep
from modular_agent.api.openapi import problems
from modular_agent.api.requests import JsonRoute
from modular_agent.api.responses import JsonResponse
from modular_agent.api.schemas.interrupts import WaitingList
from modular_agent.domain.runs import WaitingFilter, waiting_view
from modular_agent.errors import CursorInvalid
from modular_agent.kit.pagination import Page, PageRequest, decode_cursor, encode_cursor

__all__ = ["router"]

router = APIRouter(prefix="/interrupts", tags=["runs"], route_class=JsonRoute)

_WAITING: Final = "interrupts"
Kind = Literal["question", "approval", "budget", "effect", "wait"]


@router.get("", summary="List what waits for a person", response_model=WaitingList, responses=problems(CursorInvalid))
async def list_waiting(
    runtime: RuntimeDep,
    kind: Annotated[
        list[Kind] | None, Query(max_length=5, description="Only these kinds; without it all but `wait` (timers).")
    ] = None,
    workflow_id: Annotated[str | None, Query(max_length=200)] = None,
    session_id: Annotated[str | None, Query(max_length=200)] = None,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    page_size: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(max_length=1000, description="From a former answer; wins over `page`.")] = None,
) -> JsonResponse:
    """The open questions of all sessions, the oldest first; answer one at its session's `/interrupts/{id}`."""
    wanted = PageRequest(page=page, page_size=page_size, cursor=cursor)
    after = None if cursor is None else decode_cursor(cursor, _WAITING, ["int", "int"])
    chosen = WaitingFilter(kinds=kind or (), workflow_id=workflow_id, session_id=session_id)
    rows, total = await runtime.runs.interrupts.waiting(chosen, limit=page_size + 1, offset=wanted.offset, after=after)
    views: list[dict[str, Any]] = [waiting_view(row) for row in rows]
    following = encode_cursor(_WAITING, rows[:page_size][-1].place) if rows else None
    return JsonResponse(Page[dict[str, Any]].cut(views, wanted, total=total, cursor=following).envelope("interrupts"))
