"""`POST` and `PUT /workflows/`: workflow files written through the API, and their text."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, cast

from fastapi import APIRouter, Header, Path, Request

from modular_agent.api.dependencies import RuntimeDep, WorkflowsDep
from modular_agent.api.errors import InvalidRequest, WrongMediaType
from modular_agent.api.openapi import problems
from modular_agent.api.requests import JsonRoute
from modular_agent.api.responses import JsonResponse
from modular_agent.api.schemas.workflow_files import WORKFLOW_JSON, WORKFLOW_YAML, SourceAnswer
from modular_agent.api.schemas.workflows import WorkflowAnswer
from modular_agent.domain.workflows import (
    FileNotFound,
    PreconditionMissing,
    WorkflowChanged,
    WorkflowExists,
    WorkflowInvalid,
    WorkflowNameDiffers,
    WorkflowUnknown,
    workflow_text,
)
from modular_agent.errors import Fault, Text

__all__ = ["etag", "router"]

router = APIRouter(prefix="/workflows", tags=["workflows"], route_class=JsonRoute)

WorkflowId = Annotated[str, Path(description="The name of a workflow.", examples=["react"], max_length=200)]
IfMatch = Annotated[
    str | None,
    Header(alias="If-Match", max_length=200, description="The ETag of the version that was changed. Required."),
]
_YAML: Final = ("application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml", "text/plain")
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/yaml": {"schema": {"type": "string"}, "example": WORKFLOW_YAML},
            "application/json": {"schema": {"type": "object"}, "example": WORKFLOW_JSON},
        },
    }
}


def etag(content_hash: str) -> str:
    """The entity tag of a version, as headers have it."""
    return f'"{content_hash}"'


@router.post(
    "/",
    status_code=201,
    summary="Create a workflow",
    response_model=WorkflowAnswer,
    responses=problems(422, WorkflowInvalid, WorkflowExists, WrongMediaType),
    openapi_extra=_BODY,
)
async def create_workflow(request: Request, runtime: RuntimeDep, workflows: WorkflowsDep) -> JsonResponse:
    """Checks a workflow, YAML text or a JSON object, writes it to `workflows/{name}.yaml`, and loads it."""
    name = await runtime.workflow_writing.create(await _text(request))
    shown = await workflows.get(name)
    headers = {"ETag": etag(shown["content_hash"]), "Location": f"/workflows/{name}"}
    return JsonResponse(shown, status_code=201, headers=headers)


@router.put(
    "/{workflow_id}",
    summary="Update a workflow",
    response_model=WorkflowAnswer,
    responses=problems(
        WorkflowUnknown, WorkflowInvalid, WorkflowNameDiffers, WorkflowChanged, PreconditionMissing, WrongMediaType
    ),
    openapi_extra=_BODY,
)
async def update_workflow(
    request: Request,
    workflow_id: WorkflowId,
    runtime: RuntimeDep,
    workflows: WorkflowsDep,
    if_match: IfMatch = None,
) -> JsonResponse:
    """Makes a new version by replacing the workflow's file; sessions that exist keep theirs.

    `If-Match` is the `ETag` of `GET /workflows/{workflow_id}` or of its source. When the file is another by now,
    through an update or an edit, 409 `workflow_changed` tells the current version, and nothing is written.
    """
    if if_match is None:
        raise PreconditionMissing
    text = await _text(request)
    await runtime.workflow_writing.update(workflow_id, text, seen=_opaque(if_match))
    shown = await workflows.get(workflow_id)
    return JsonResponse(shown, headers={"ETag": etag(shown["content_hash"])})


@router.get(
    "/{workflow_id}/source",
    summary="Read a workflow's file",
    response_model=SourceAnswer,
    responses=problems(WorkflowUnknown, FileNotFound),
)
async def get_workflow_source(workflow_id: WorkflowId, runtime: RuntimeDep) -> JsonResponse:
    """The file's text as it stands, also when it is broken; its `ETag` is for an update."""
    found = await runtime.workflow_writing.source(workflow_id)
    answer = {
        "workflow_id": found.workflow_id,
        "config_path": found.config_path,
        "content": found.content,
        "etag": found.etag,
    }
    return JsonResponse(answer, headers={"ETag": etag(found.etag)})


def _opaque(if_match: str) -> str:
    """The tag without its quotes; a weak one names the same version."""
    return if_match.strip().removeprefix("W/").strip('"')


async def _text(request: Request) -> str:
    """The workflow in the body, as text. Raises `InvalidRequest`, `WrongMediaType`."""
    kind = request.headers.get("content-type", "application/yaml").split(";")[0].strip().lower()
    if kind in _YAML:
        try:
            text = (await request.body()).decode("utf-8")
        except UnicodeDecodeError:
            raise _malformed("invalid_format", Text("must be UTF-8 text", "必须是 UTF-8 文本")) from None
        if not text.strip():
            raise _malformed("missing", Text("is required", "必填"))
        return text
    if kind != "application/json" and not kind.endswith("+json"):
        raise WrongMediaType(found=kind[:100])
    try:
        body: Any = await request.json()
    except ValueError:
        raise _malformed("invalid_json", Text("must be valid JSON", "必须是有效的 JSON")) from None
    if not isinstance(body, dict):
        raise _malformed("wrong_type", Text("must be an object", "必须是对象"))
    document = cast("Mapping[str, Any]", body)
    content = document.get("content")
    if list(document) == ["content"] and isinstance(content, str):  # as `POST /workflows/validate` takes it
        return content
    return workflow_text(document)


def _malformed(code: str, text: Text) -> InvalidRequest:
    return InvalidRequest([Fault(code=code, text=text, path="/body")])
