"""`/history/sessions/{session_id}/export`: a log to take away."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import StreamingResponse

from modular_agent.api.dependencies import RuntimeDep, SessionId
from modular_agent.api.openapi import problems
from modular_agent.api.requests import JsonRoute
from modular_agent.api.routers.history import RecordTypes
from modular_agent.api.schemas.exports import EXPORTS
from modular_agent.api.times import EndTime, StartTime, microseconds
from modular_agent.domain.history import ExportFormat, ExportQuery, SessionUnknown, TimeRangeReversed

__all__ = ["router"]

router = APIRouter(prefix="/history", tags=["history"], route_class=JsonRoute)


@router.get(
    "/sessions/{session_id}/export",
    summary="Export a session's log",
    response_class=StreamingResponse,
    responses={**problems(SessionUnknown, TimeRangeReversed), 200: EXPORTS},
)
async def export_session(
    session_id: SessionId,
    runtime: RuntimeDep,
    format: Annotated[ExportFormat, Query(description="How the records are written.")] = "json",  # noqa: A002
    start_time: StartTime = None,
    end_time: EndTime = None,
    record_types: RecordTypes = [],  # noqa: B006
) -> StreamingResponse:
    """The records up to the newest one of this moment, streamed; a session of any size takes the same memory.

    An answer that breaks off (the connection is cut before its end) is not the whole: the session was deleted.
    """
    query = ExportQuery(format=format, start=microseconds(start_time), end=microseconds(end_time), types=record_types)
    export = await runtime.exports.begin(session_id, query)
    headers = {
        "Content-Disposition": f'attachment; filename="{export.file_name}"',
        "Cache-Control": "no-store",
        "X-Total-Count": str(export.total_records),
    }
    return StreamingResponse(export.pieces(), media_type=export.media_type, headers=headers)
