"""`/budgets`: what may be used, by whom, and what was."""

from typing import Annotated

from fastapi import APIRouter, Query

from modular_agent.api.dependencies import RuntimeDep, SessionDep
from modular_agent.api.openapi import problems
from modular_agent.api.requests import JsonRoute
from modular_agent.api.responses import JsonResponse
from modular_agent.api.schemas.budgets import BudgetList, SessionBudgets
from modular_agent.domain.sessions import SessionUnknown
from modular_agent.kit.pagination import PageRequest

__all__ = ["router"]

router = APIRouter(tags=["runs"], route_class=JsonRoute)


@router.get("/budgets", summary="List budgets that runs share", response_model=BudgetList, responses=problems())
async def list_budgets(
    runtime: RuntimeDep,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    page_size: Annotated[int, Query(ge=1, le=100)] = 20,
) -> JsonResponse:
    """Of the installation, each loaded workflow and each API key: in all, and on this UTC day."""
    found = await runtime.budgets.shared(PageRequest(page=page, page_size=page_size))
    return JsonResponse(found.envelope("budgets"))


@router.get(
    "/sessions/{session_id}/budgets",
    summary="List what bounds a session",
    response_model=SessionBudgets,
    responses=problems(SessionUnknown),
)
async def list_session_budgets(session: SessionDep, runtime: RuntimeDep) -> JsonResponse:
    """Every budget that its active run is charged to (or its last one, or its next), in the order in which they are
    looked at: of the run, the session, the workflow, the API key, the installation."""
    return JsonResponse({"budgets": await runtime.budgets.of_session(session)})
