"""`/errors`: what went wrong, in groups of one cause that are resolved, opened again, and retried."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Body, Path, Query

from modular_agent.api.dependencies import CallerDep, RuntimeDep
from modular_agent.api.openapi import problems
from modular_agent.api.requests import JsonRoute
from modular_agent.api.responses import JsonResponse
from modular_agent.api.schemas.errors import (
    ErrorAnswer,
    ErrorList,
    GroupAnswer,
    GroupList,
    ResolveGroup,
    RetryAnswer,
    RetryGroup,
)
from modular_agent.api.times import EndTime, StartTime, microseconds
from modular_agent.domain.error_reports import ErrorFilter, ErrorGroupUnknown, ErrorUnknown
from modular_agent.domain.history import TimeRangeReversed
from modular_agent.errors import CursorInvalid
from modular_agent.kit.pagination import PageRequest

__all__ = ["router"]

router = APIRouter(prefix="/errors", tags=["errors"], route_class=JsonRoute)

PageNumber = Annotated[int, Query(ge=1, le=1_000_000)]
PageSize = Annotated[int, Query(ge=1, le=100)]
Cursor = Annotated[str | None, Query(max_length=1000, description="From a former answer; wins over `page`.")]
SessionFilter = Annotated[str | None, Query(max_length=200, description="Of this session.")]
RunFilter = Annotated[str | None, Query(max_length=200, description="Of this run.")]
TypeFilter = Annotated[str | None, Query(max_length=200, description="Of this `error_type`.")]
SeverityFilter = Annotated[Literal["warning", "error", "critical"] | None, Query(description="Of this severity.")]
StatusFilter = Annotated[Literal["open", "resolved"] | None, Query(description="Only these.")]
FingerprintFilter = Annotated[str | None, Query(max_length=64, description="Of this cause.")]
Fingerprint = Annotated[str, Path(description="The cause's fingerprint.", examples=["5a1d0c9be2f47711"], max_length=64)]


def _range(start: datetime | None, end: datetime | None) -> tuple[int | None, int | None]:
    """The range in µs. Raises `TimeRangeReversed` when it ends before it starts."""
    first, last = microseconds(start), microseconds(end)
    if first is not None and last is not None and last < first:
        raise TimeRangeReversed
    return first, last


@router.get("", summary="List errors", response_model=ErrorList, responses=problems(CursorInvalid, TimeRangeReversed))
async def list_errors(
    runtime: RuntimeDep,
    page: PageNumber = 1,
    page_size: PageSize = 20,
    cursor: Cursor = None,
    session_id: SessionFilter = None,
    run_id: RunFilter = None,
    error_type: TypeFilter = None,
    severity: SeverityFilter = None,
    fingerprint: FingerprintFilter = None,
    status: StatusFilter = None,
    start_time: StartTime = None,
    end_time: EndTime = None,
) -> JsonResponse:
    """Errors of runs, nodes, tools and models, and of the server itself, newest first."""
    start, end = _range(start_time, end_time)
    chosen = ErrorFilter(
        session_id=session_id,
        run_id=run_id,
        error_type=error_type,
        severity=severity,
        fingerprint=fingerprint,
        status=status,
        start=start,
        end=end,
    )
    wanted = PageRequest(page=page, page_size=page_size, cursor=cursor)
    return JsonResponse((await runtime.error_reports.page(wanted, chosen)).envelope("errors"))


@router.get(
    "/groups",
    summary="List groups of errors",
    response_model=GroupList,
    responses=problems(CursorInvalid, TimeRangeReversed),
)
async def list_error_groups(
    runtime: RuntimeDep,
    page: PageNumber = 1,
    page_size: PageSize = 20,
    cursor: Cursor = None,
    session_id: SessionFilter = None,
    error_type: TypeFilter = None,
    severity: SeverityFilter = None,
    status: StatusFilter = None,
    start_time: StartTime = None,
    end_time: EndTime = None,
) -> JsonResponse:
    """Errors by their cause, the last seen first. A group is open as long as one of its errors is."""
    start, end = _range(start_time, end_time)
    chosen = ErrorFilter(
        session_id=session_id, error_type=error_type, severity=severity, status=status, start=start, end=end
    )
    wanted = PageRequest(page=page, page_size=page_size, cursor=cursor)
    return JsonResponse((await runtime.error_reports.groups(wanted, chosen)).envelope("groups"))


@router.get(
    "/groups/{fingerprint}",
    summary="Get a group of errors",
    response_model=GroupAnswer,
    responses=problems(ErrorGroupUnknown),
)
async def get_error_group(fingerprint: Fingerprint, runtime: RuntimeDep) -> JsonResponse:
    """How often, since when and where an error of one cause has happened."""
    return JsonResponse(await runtime.error_reports.group(fingerprint))


@router.post(
    "/groups/{fingerprint}/resolve",
    summary="Resolve a group of errors",
    response_model=GroupAnswer,
    responses=problems(ErrorGroupUnknown),
)
async def resolve_error_group(
    fingerprint: Fingerprint,
    runtime: RuntimeDep,
    caller: CallerDep,
    body: Annotated[ResolveGroup | None, Body()] = None,
) -> JsonResponse:
    """Counts every error of the group so far as resolved. One that happens later opens the group again."""
    note = body.note if body else None
    return JsonResponse(await runtime.error_reports.resolve(fingerprint, by=caller, note=note))


@router.post(
    "/groups/{fingerprint}/reopen",
    summary="Open a group of errors again",
    response_model=GroupAnswer,
    responses=problems(ErrorGroupUnknown),
)
async def reopen_error_group(fingerprint: Fingerprint, runtime: RuntimeDep) -> JsonResponse:
    """Counts every error of the group as open."""
    return JsonResponse(await runtime.error_reports.reopen(fingerprint))


@router.post(
    "/groups/{fingerprint}/retry",
    summary="Retry the runs of a group",
    response_model=RetryAnswer,
    responses=problems(ErrorGroupUnknown),
)
async def retry_error_group(
    fingerprint: Fingerprint,
    runtime: RuntimeDep,
    caller: CallerDep,
    body: Annotated[RetryGroup | None, Body()] = None,
) -> JsonResponse:
    """Takes runs up where they failed with an error of the group, and says for each what became of it.

    A run whose session has gone on since is left alone. The group stays open until it is resolved.
    """
    limit = (body or RetryGroup()).limit
    return JsonResponse(await runtime.error_reports.retry(fingerprint, limit=limit, by=caller))


@router.get(
    "/{error_id}",
    summary="Get an error",
    response_model=ErrorAnswer,
    response_model_exclude_unset=True,
    responses=problems(ErrorUnknown),
)
async def get_error(
    error_id: Annotated[str, Path(description="The id of an error.", max_length=200)], runtime: RuntimeDep
) -> JsonResponse:
    """One error. Its stack trace is stored, and shown in DEBUG."""
    return JsonResponse(await runtime.error_reports.get(error_id))
