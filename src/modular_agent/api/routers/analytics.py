"""`/analytics/` and the statistics of sessions: response times, tokens, cost, errors, trends, reports."""

from typing import Annotated, Final

from fastapi import APIRouter, Body, Path, Query, Response

from modular_agent.api.dependencies import RuntimeDep, SessionDep, SessionId
from modular_agent.api.openapi import problems
from modular_agent.api.requests import JsonRoute
from modular_agent.api.responses import JsonResponse
from modular_agent.api.schemas.analytics import (
    CostAnswer,
    ErrorsAnswer,
    KeepReport,
    PerformanceAnswer,
    ReportAnswer,
    ReportList,
    SessionsStatistics,
    SessionStatistics,
    TokensAnswer,
    TrendAnswer,
)
from modular_agent.api.schemas.sessions import Message
from modular_agent.api.times import EndTime, StartTime, microseconds
from modular_agent.domain.analytics import (
    Document,
    MetricUnknown,
    Period,
    ReportFormatUnknown,
    ReportUnknown,
    SessionUnknown,
    TimeRangeReversed,
    TimeRangeUnknown,
    Trend,
    report_view,
)
from modular_agent.domain.analytics.reports import FORMATS
from modular_agent.domain.analytics.trends import METRICS, TIME_RANGES
from modular_agent.errors import CursorInvalid
from modular_agent.kit.pagination import PageRequest

__all__ = ["router", "statistics"]

router = APIRouter(prefix="/analytics", tags=["analytics"], route_class=JsonRoute)
statistics = APIRouter(prefix="/sessions", tags=["sessions"], route_class=JsonRoute)

OfSession = Annotated[str | None, Query(max_length=200, description="Only this session's.")]
Top = Annotated[int, Query(ge=1, le=100, description="How many sessions to name, those with most.")]
ReportId = Annotated[str, Path(max_length=100, description="The id of a kept report.")]
_RANGED: Final = problems(SessionUnknown, TimeRangeReversed)


@router.get("/performance", summary="Response times", response_model=PerformanceAnswer, responses=_RANGED)
async def get_performance(
    runtime: RuntimeDep, session_id: OfSession = None, start_time: StartTime = None, end_time: EndTime = None
) -> JsonResponse:
    """How fast model calls were, by model and by node, and what the process uses now."""
    period = _period(start_time, end_time)
    return JsonResponse(await runtime.analytics.performance(period, session_id=session_id))


@router.get("/tokens", summary="Tokens", response_model=TokensAnswer, responses=problems(TimeRangeReversed))
async def get_tokens(
    runtime: RuntimeDep, start_time: StartTime = None, end_time: EndTime = None, top: Top = 20
) -> JsonResponse:
    """Tokens in all, by model, by workflow, by session and by day."""
    return JsonResponse(await runtime.analytics.tokens(_period(start_time, end_time), top=top))


@router.get("/tokens/{session_id}", summary="Tokens of a session", response_model=TokensAnswer, responses=_RANGED)
async def get_session_tokens(
    runtime: RuntimeDep, session_id: SessionId, start_time: StartTime = None, end_time: EndTime = None
) -> JsonResponse:
    """A session's tokens, by model, by workflow and by day."""
    period = _period(start_time, end_time)
    return JsonResponse(await runtime.analytics.tokens(period, session_id=session_id))


@router.get("/cost", summary="Cost", response_model=CostAnswer, responses=problems(TimeRangeReversed))
async def get_cost(
    runtime: RuntimeDep, start_time: StartTime = None, end_time: EndTime = None, top: Top = 20
) -> JsonResponse:
    """Cost in all, by model, by workflow, by session and by day; tokens without a known price are shown as such."""
    return JsonResponse(await runtime.analytics.cost(_period(start_time, end_time), top=top))


@router.get("/cost/{session_id}", summary="Cost of a session", response_model=CostAnswer, responses=_RANGED)
async def get_session_cost(
    runtime: RuntimeDep, session_id: SessionId, start_time: StartTime = None, end_time: EndTime = None
) -> JsonResponse:
    """A session's cost, by model, by workflow and by day."""
    return JsonResponse(await runtime.analytics.cost(_period(start_time, end_time), session_id=session_id))


@router.get("/errors", summary="Errors in numbers", response_model=ErrorsAnswer, responses=_RANGED)
async def get_error_statistics(
    runtime: RuntimeDep,
    session_id: OfSession = None,
    start_time: StartTime = None,
    end_time: EndTime = None,
    top: Top = 20,
) -> JsonResponse:
    """How many errors were logged, by type, by severity, by session and over time."""
    period = _period(start_time, end_time)
    return JsonResponse(await runtime.analytics.errors(period, session_id=session_id, top=top))


@router.get(
    "/trends",
    summary="A metric over time",
    response_model=TrendAnswer,
    responses=problems(SessionUnknown, MetricUnknown, TimeRangeUnknown),
)
async def get_trend(
    runtime: RuntimeDep,
    metric: Annotated[
        str,
        Query(
            max_length=100,
            description="sessions, runs, tokens, cost, errors, response_time, throughput or error_rate.",
            examples=["tokens"],
            json_schema_extra={"enum": list(METRICS)},
        ),
    ],
    time_range: Annotated[
        str,
        Query(max_length=100, description="1h, 24h, 7d, 30d or 90d.", json_schema_extra={"enum": list(TIME_RANGES)}),
    ] = "7d",
    session_id: OfSession = None,
) -> JsonResponse:
    """UTC buckets without holes, the last of them in progress, and the change against the period before."""
    return JsonResponse(await runtime.analytics.trend(Trend(metric, time_range), session_id=session_id))


@router.get(
    "/report",
    summary="A period's report",
    response_class=Response,
    responses={
        200: {"content": {name: {} for name in ("text/markdown", "text/html", "text/csv", "application/json")}},
        **problems(TimeRangeReversed, ReportFormatUnknown),
    },
)
async def get_report(
    runtime: RuntimeDep,
    start_time: StartTime = None,
    end_time: EndTime = None,
    written: Annotated[
        str,
        Query(
            alias="format",
            max_length=100,
            description="markdown, html, csv, json.",
            json_schema_extra={"enum": list(FORMATS)},
        ),
    ] = "markdown",
) -> Response:
    """A document to hand on; without an end up to now, without a start the 7 days before its end."""
    made = await runtime.reports.make(microseconds(start_time), microseconds(end_time), written=written)
    return _document(made, "report")


@router.post(
    "/reports",
    status_code=201,
    summary="Keep a report",
    response_model=ReportAnswer,
    responses=problems(TimeRangeReversed),
)
async def keep_report(runtime: RuntimeDep, body: Annotated[KeepReport, Body()]) -> JsonResponse:
    """Keeps the figures of a period as they stand now."""
    kept = await runtime.reports.keep(microseconds(body.start_time), microseconds(body.end_time), title=body.title)
    return JsonResponse(report_view(kept), status_code=201)


@router.get("/reports", summary="List kept reports", response_model=ReportList, responses=problems(CursorInvalid))
async def list_reports(
    runtime: RuntimeDep,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    page_size: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(max_length=1000, description="From a former answer; wins over `page`.")] = None,
) -> JsonResponse:
    """Kept reports, newest first."""
    wanted = PageRequest(page=page, page_size=page_size, cursor=cursor)
    return JsonResponse((await runtime.reports.page(wanted)).envelope("reports"))


@router.get(
    "/reports/{report_id}",
    summary="Get a kept report",
    response_class=Response,
    responses={
        200: {"content": {name: {} for name in ("text/markdown", "text/html", "text/csv", "application/json")}},
        **problems(ReportUnknown, ReportFormatUnknown),
    },
)
async def get_kept_report(
    runtime: RuntimeDep,
    report_id: ReportId,
    written: Annotated[
        str,
        Query(
            alias="format",
            max_length=100,
            description="markdown, html, csv, json.",
            json_schema_extra={"enum": list(FORMATS)},
        ),
    ] = "markdown",
) -> Response:
    """A kept report, with the figures as they stood when it was kept."""
    return _document(await runtime.reports.kept(report_id, written=written), report_id)


@router.delete(
    "/reports/{report_id}", summary="Delete a kept report", response_model=Message, responses=problems(ReportUnknown)
)
async def delete_report(runtime: RuntimeDep, report_id: ReportId) -> JsonResponse:
    """Deletes a kept report."""
    await runtime.reports.delete(report_id)
    return JsonResponse({"message": f"Report {report_id} deleted."})


@statistics.get("/statistics", summary="Statistics of all sessions", response_model=SessionsStatistics)
async def get_sessions_statistics(runtime: RuntimeDep) -> JsonResponse:
    """How many sessions there are, and how their runs went."""
    return JsonResponse(await runtime.analytics.all_sessions())


@statistics.get(
    "/{session_id}/statistics",
    summary="Statistics of a session",
    response_model=SessionStatistics,
    responses=problems(SessionUnknown),
)
async def get_session_statistics(runtime: RuntimeDep, session: SessionDep) -> JsonResponse:
    """What one session has come to."""
    return JsonResponse(await runtime.analytics.session(session.ref))


def _period(start_time: StartTime, end_time: EndTime) -> Period:
    return Period(start=microseconds(start_time), end=microseconds(end_time))


def _document(document: Document, name: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}.{document.suffix}"'}
    return Response(document.content, media_type=document.media_type, headers=headers)
