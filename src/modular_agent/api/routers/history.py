"""`/history/`: the log of a session, by time, kind, run and node."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BeforeValidator

from modular_agent.api.dependencies import HistoryDep, SessionId
from modular_agent.api.openapi import problems
from modular_agent.api.requests import JsonRoute
from modular_agent.api.responses import JsonResponse, dump
from modular_agent.api.schemas.history import MessageList, RecordList
from modular_agent.api.times import EndTime, StartTime, microseconds
from modular_agent.domain.history import (
    LogPage,
    LogQuery,
    MessageType,
    RecordType,
    SessionUnknown,
    TimeRangeReversed,
)
from modular_agent.errors import CursorInvalid
from modular_agent.kit.dataclass import dataclass

__all__ = ["RecordTypes", "router", "split"]

router = APIRouter(prefix="/history", tags=["history"], route_class=JsonRoute)

_PROBLEMS = problems(SessionUnknown, TimeRangeReversed, CursorInvalid)


def split(value: object) -> object:
    """A list may be given as one value with commas, or as many values."""
    if not isinstance(value, list):
        return value
    return [part.strip() for each in value for part in str(each).split(",") if part.strip()]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - the framework's list of texts


@dataclass(frozen=True, slots=True)
class _Part:
    """Which part of the log, in which order."""

    limit: Annotated[int, Query(ge=1, le=500, description="How many at most.")] = 50
    offset: Annotated[int, Query(ge=0, le=1_000_000_000, description="How many to leave out before.")] = 0
    start_time: StartTime = None
    end_time: EndTime = None
    order: Annotated[Literal["asc", "desc"], Query(description="`asc`: oldest first; `desc`: newest first.")] = "asc"
    cursor: Annotated[str | None, Query(max_length=1000, description="From a former answer; wins over `offset`.")] = (
        None
    )


PartDep = Annotated[_Part, Depends()]
MessageTypes = Annotated[
    list[MessageType],
    BeforeValidator(split),
    Query(description="Only these, separated by commas or given several times."),
]
RecordTypes = Annotated[
    list[RecordType],
    BeforeValidator(split),
    Query(description="Only these, separated by commas or given several times."),
]


def _answer(name: str, page: LogPage) -> JsonResponse:
    rest = {
        "session_id": page.session_id,
        "total": page.total,
        "limit": page.limit,
        "offset": page.offset,
        "page": page.offset // page.limit + 1,
        "page_size": page.limit,
        "has_next": page.has_next,
        "cursor": page.cursor,
    }
    return JsonResponse(b'{"%b":%b,%b' % (name.encode(), page.joined(), dump(rest)[1:]))  # the lines as they stand


@router.get("/sessions/{session_id}/messages", summary="List messages", response_model=MessageList, responses=_PROBLEMS)
async def list_messages(
    session_id: SessionId,
    history: HistoryDep,
    part: PartDep,
    message_types: MessageTypes = [],  # noqa: B006
) -> JsonResponse:
    """The messages of a session, oldest first unless asked otherwise."""
    query = LogQuery(
        limit=part.limit,
        offset=part.offset,
        start=microseconds(part.start_time),
        end=microseconds(part.end_time),
        newest_first=part.order == "desc",
        cursor=part.cursor,
        message_types=message_types,
    )
    return _answer("messages", await history.messages(session_id, query))


@router.get("/sessions/{session_id}/records", summary="List records", response_model=RecordList, responses=_PROBLEMS)
async def list_records(
    session_id: SessionId,
    history: HistoryDep,
    part: PartDep,
    record_types: RecordTypes = [],  # noqa: B006
    run_id: Annotated[str | None, Query(max_length=100, description="Only this run's.")] = None,
    node: Annotated[str | None, Query(max_length=200, description="Only this node's.")] = None,
    after_seq: Annotated[int | None, Query(ge=0, le=2**62, description="Only records with a higher `seq`.")] = None,
) -> JsonResponse:
    """Every record of a session's log, or those asked for; a query spans months and reads this session only."""
    query = LogQuery(
        limit=part.limit,
        offset=part.offset,
        start=microseconds(part.start_time),
        end=microseconds(part.end_time),
        newest_first=part.order == "desc",
        cursor=part.cursor,
        types=record_types,
        run_id=run_id,
        node=node,
        after_seq=after_seq,
    )
    return _answer("records", await history.records(session_id, query))
