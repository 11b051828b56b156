"""`/history/search`: substrings in the messages, tool calls and errors of one session or of all."""

from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Depends, Query
from pydantic import BeforeValidator

from modular_agent.api.dependencies import RuntimeDep, SessionId
from modular_agent.api.openapi import problems
from modular_agent.api.requests import JsonRoute
from modular_agent.api.responses import JsonResponse
from modular_agent.api.routers.history import split
from modular_agent.api.schemas.search import SearchAnswer, SessionSearchAnswer
from modular_agent.api.times import EndTime, StartTime, microseconds
from modular_agent.domain.history import (
    MAX_QUERY,
    QueryUnusable,
    RecordType,
    SearchHit,
    SearchQuery,
    SearchResults,
    SessionUnknown,
    TimeRangeReversed,
)
from modular_agent.errors import CursorInvalid
from modular_agent.kit.dataclass import dataclass

__all__ = ["router"]

router = APIRouter(prefix="/history", tags=["history"], route_class=JsonRoute)

_HEAD = ("seq", "timestamp", "record_id", "session_id", "run_id", "node", "record_type", "message_type", "tool_name")

SearchedTypes = Annotated[
    list[Literal["message", "tool_call", "error"]],
    BeforeValidator(split),
    Query(description="Only these, separated by commas or given several times."),
]


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is searched for, and where."""

    query: Annotated[
        str,
        Query(
            min_length=1,
            max_length=MAX_QUERY,
            description="A text to find as it is written, in any case; quotation marks and operators mean themselves.",
            openapi_examples={"English": {"value": "connection refused"}, "Chinese": {"value": "天气"}},
        ),
    ]
    limit: Annotated[int, Query(ge=1, le=100, description="How many hits at most.")] = 20
    start_time: StartTime = None
    end_time: EndTime = None
    cursor: Annotated[str | None, Query(max_length=1000, description="From a former answer to the same search.")] = None


AskedDep = Annotated[_Asked, Depends()]


def _query(asked: _Asked, types: list[Literal["message", "tool_call", "error"]], workflow: str | None) -> SearchQuery:
    return SearchQuery(
        query=asked.query,
        limit=asked.limit,
        types=[RecordType(kind) for kind in types],
        start=microseconds(asked.start_time),
        end=microseconds(asked.end_time),
        workflow_id=workflow,
        cursor=asked.cursor,
    )


def _hit(hit: SearchHit) -> dict[str, Any]:
    record = orjson.loads(hit.line)
    return {
        **{key: record[key] for key in _HEAD if key in record},
        "field": hit.field,
        "snippet": hit.snippet.html(),
        "fragments": [{"text": each.text, "match": each.match} for each in hit.snippet.fragments],
    }


def _answer(found: SearchResults, **more: str) -> JsonResponse:
    return JsonResponse(
        {
            **more,
            "query": found.query,
            "results": [_hit(hit) for hit in found.hits],
            "has_next": found.has_next,
            "cursor": found.cursor,
            "partial": found.partial,
        }
    )


@router.get(
    "/search",
    summary="Search all sessions",
    response_model=SearchAnswer,
    responses=problems(SessionUnknown, TimeRangeReversed, CursorInvalid, QueryUnusable),
)
async def search_history(
    runtime: RuntimeDep,
    asked: AskedDep,
    record_types: SearchedTypes = [],  # noqa: B006
    session_id: Annotated[str | None, Query(max_length=200, description="Only this session's.")] = None,
    workflow_id: Annotated[str | None, Query(max_length=200, description="Only sessions of this workflow.")] = None,
) -> JsonResponse:
    """What was said, called or went wrong in all sessions, the newest first."""
    query = _query(asked, record_types, workflow_id)
    if session_id is not None:
        return _answer(await runtime.search.in_session(session_id, query))
    return _answer(await runtime.search.everywhere(query))


@router.get(
    "/sessions/{session_id}/search",
    summary="Search a session",
    response_model=SessionSearchAnswer,
    responses=problems(SessionUnknown, TimeRangeReversed, CursorInvalid, QueryUnusable),
)
async def search_session(
    session_id: SessionId,
    runtime: RuntimeDep,
    asked: AskedDep,
    record_types: SearchedTypes = [],  # noqa: B006
) -> JsonResponse:
    """What was said, called or went wrong in a session, the newest first."""
    found = await runtime.search.in_session(session_id, _query(asked, record_types, None))
    return _answer(found, session_id=session_id)
