"""`/history/bookmarks`: messages that people want to find again."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query

from modular_agent.api.dependencies import RuntimeDep, SessionId
from modular_agent.api.errors import InvalidRequest
from modular_agent.api.openapi import problems
from modular_agent.api.requests import JsonRoute
from modular_agent.api.responses import JsonResponse
from modular_agent.api.schemas.bookmarks import MAX_NOTE, BookmarkAnswer, BookmarkDeleted, ChangeBookmark, NewBookmark
from modular_agent.domain.history import BookmarkRow, BookmarkUnknown, MessageUnknown, SessionUnknown
from modular_agent.errors import Fault, Text
from modular_agent.kit.clock import rfc3339

__all__ = ["router"]

router = APIRouter(prefix="/history", tags=["history"], route_class=JsonRoute)

BookmarkId = Annotated[
    str, Path(description="The id of a bookmark.", examples=["bkm_1f73e8c09ab45d1e22f0"], max_length=200)
]


def _view(row: BookmarkRow) -> dict[str, Any]:
    return {
        "bookmark_id": row.bookmark_id,
        "session_id": row.session_id,
        "message_id": row.message_id,
        "note": row.note,
        "created_at": rfc3339(row.created_at),
        "updated_at": rfc3339(row.updated_at),
    }


@router.post(
    "/sessions/{session_id}/bookmarks",
    summary="Bookmark a message",
    status_code=201,
    response_model=BookmarkAnswer,
    responses=problems(SessionUnknown, MessageUnknown),
)
async def create_bookmark(
    session_id: SessionId,
    runtime: RuntimeDep,
    message_id: Annotated[
        str | None, Query(min_length=1, max_length=200, description="The `record_id` of a message.")
    ] = None,
    note: Annotated[str | None, Query(max_length=MAX_NOTE)] = None,
    body: Annotated[NewBookmark | None, Body()] = None,
) -> JsonResponse:
    """Takes `message_id` and `note` from the body, or from the query where the body does not have them."""
    chosen = body.message_id if body is not None and body.message_id is not None else message_id
    if chosen is None:
        raise InvalidRequest([Fault(code="missing", text=Text("is required", "必填"), path="/query/message_id")])
    said = body.note if body is not None and body.note is not None else note
    row = await runtime.bookmarks.create(session_id, chosen, note=said or "")
    return JsonResponse(_view(row), 201)


@router.get(
    "/bookmarks",
    summary="List bookmarks",
    response_model=list[BookmarkAnswer],
    responses=problems(SessionUnknown),
)
async def list_bookmarks(
    runtime: RuntimeDep,
    session_id: Annotated[str | None, Query(max_length=200, description="Only this session's.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="How many at most.")] = 1000,
    offset: Annotated[int, Query(ge=0, le=1_000_000_000, description="How many to leave out before.")] = 0,
) -> JsonResponse:
    """The bookmarks of a session, or of all, the newest first."""
    rows = await runtime.bookmarks.listed(session_id=session_id, limit=limit, offset=offset)
    return JsonResponse([_view(row) for row in rows])


@router.patch(
    "/bookmarks/{bookmark_id}",
    summary="Change a bookmark's note",
    response_model=BookmarkAnswer,
    responses=problems(BookmarkUnknown),
)
async def update_bookmark(bookmark_id: BookmarkId, change: ChangeBookmark, runtime: RuntimeDep) -> JsonResponse:
    """Sets the note."""
    return JsonResponse(_view(await runtime.bookmarks.update(bookmark_id, note=change.note)))


@router.delete(
    "/bookmarks/{bookmark_id}",
    summary="Delete a bookmark",
    response_model=BookmarkDeleted,
    responses=problems(BookmarkUnknown),
)
async def delete_bookmark(bookmark_id: BookmarkId, runtime: RuntimeDep) -> JsonResponse:
    """Deletes the bookmark; the message stays."""
    await runtime.bookmarks.delete(bookmark_id)
    return JsonResponse({"message": f"Bookmark {bookmark_id} deleted."})
