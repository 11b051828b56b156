"""`/workflows/`: find, load, check, draw and unload workflows."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query, Request

from modular_agent.api.dependencies import WorkflowsDep
from modular_agent.api.language import language_of
from modular_agent.api.openapi import problems
from modular_agent.api.problem import faults_json
from modular_agent.api.requests import JsonRoute
from modular_agent.api.responses import JsonResponse
from modular_agent.api.schemas.workflows import (
    DifferenceAnswer,
    DrawingAnswer,
    LoadAnswer,
    LoadWorkflow,
    UnloadAnswer,
    ValidateWorkflow,
    ValidationAnswer,
    VersionList,
    WorkflowAnswer,
    WorkflowList,
)
from modular_agent.domain.workflows import (
    BrokenFile,
    FileNotFound,
    LoadResult,
    PathOutsideRoot,
    SessionOfOtherWorkflow,
    SessionUnknown,
    WorkflowInvalid,
    WorkflowNameDiffers,
    WorkflowUnknown,
    WorkflowVersionUnknown,
)
from modular_agent.errors import CursorInvalid, Language
from modular_agent.kit.clock import rfc3339
from modular_agent.kit.pagination import PageRequest

__all__ = ["router"]

router = APIRouter(prefix="/workflows", tags=["workflows"], route_class=JsonRoute)

WorkflowId = Annotated[str, Path(description="The name of a workflow.", examples=["react"], max_length=200)]
ContentHash = Annotated[str, Query(description="The content hash of a version.", max_length=64)]
ConfigPath = Annotated[
    str | None,
    Query(min_length=1, max_length=500, description="A file below the configs root; left out: the one it came from."),
]


@router.get("/", summary="List workflows", response_model=WorkflowList, responses=problems(CursorInvalid))
async def list_workflows(
    request: Request,
    workflows: WorkflowsDep,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    page_size: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(max_length=1000, description="From a former answer; wins over `page`.")] = None,
    search: Annotated[str | None, Query(max_length=200, description="A piece of the name or the path.")] = None,
) -> JsonResponse:
    """Loaded workflows by name. `broken` tells which workflow files cannot be used, and why."""
    wanted = PageRequest(page=page, page_size=page_size, cursor=cursor)
    found = await workflows.page(wanted, search=search)
    language = language_of(request.scope)
    broken = [_broken(file, language) for file in workflows.broken]
    return JsonResponse({**found.envelope("workflows"), "broken": broken})


@router.post(
    "/load",
    summary="Load a workflow file",
    response_model=LoadAnswer,
    responses=problems(WorkflowInvalid, PathOutsideRoot, FileNotFound),
)
async def load_workflow(
    request: Request, workflows: WorkflowsDep, body: Annotated[LoadWorkflow, Body()]
) -> JsonResponse:
    """Makes the workflow in a file the current version of its name; sessions that exist keep theirs."""
    return _loaded(await workflows.load(body.config_path), language_of(request.scope))


@router.post(
    "/validate",
    summary="Check a workflow",
    response_model=ValidationAnswer,
    responses=problems(PathOutsideRoot, FileNotFound),
)
async def validate_workflow(
    request: Request, workflows: WorkflowsDep, body: Annotated[ValidateWorkflow, Body()]
) -> JsonResponse:
    """All that is wrong with a workflow, each fault with its place. Nothing is stored.

    An invalid workflow is a good answer (200 with `valid: false`); only what cannot be read is an error.
    """
    if isinstance(body.content, str):
        checked = await workflows.check_text(body.content, config_path=body.config_path)
    elif body.content is not None:
        checked = await workflows.check_document(body.content, config_path=body.config_path)
    else:
        checked = await workflows.check_file(str(body.config_path))
    loaded = checked.loaded
    return JsonResponse(
        {
            "valid": loaded is not None,
            "workflow_id": loaded.spec.name if loaded else None,
            "version": loaded.spec.version if loaded else None,
            "content_hash": loaded.content_hash if loaded else None,
            "errors": faults_json(checked, language_of(request.scope)),
        }
    )


@router.get(
    "/{workflow_id}",
    summary="Get a workflow",
    response_model=WorkflowAnswer,
    responses=problems(WorkflowUnknown, WorkflowInvalid),
)
async def get_workflow(workflow_id: WorkflowId, workflows: WorkflowsDep) -> JsonResponse:
    """A loaded workflow: its nodes, edges, and every version it had. `ETag` is for `If-Match` of an update."""
    shown = await workflows.get(workflow_id)
    return JsonResponse(shown, headers={"ETag": f'"{shown["content_hash"]}"'})


@router.delete(
    "/{workflow_id}", summary="Unload a workflow", response_model=UnloadAnswer, responses=problems(WorkflowUnknown)
)
async def unload_workflow(request: Request, workflow_id: WorkflowId, workflows: WorkflowsDep) -> JsonResponse:
    """Keeps new sessions away from a workflow until it is loaded again; its sessions and its file stay."""
    await workflows.unload(workflow_id)
    texts = {"en": f"The workflow {workflow_id} is unloaded.", "zh": f"工作流 {workflow_id} 已卸载。"}
    return JsonResponse({"workflow_id": workflow_id, "message": texts[language_of(request.scope)]})


@router.post(
    "/{workflow_id}/load",
    summary="Load a workflow again",
    response_model=LoadAnswer,
    responses=problems(WorkflowUnknown, WorkflowInvalid, WorkflowNameDiffers, PathOutsideRoot, FileNotFound),
)
async def reload_workflow(
    request: Request, workflow_id: WorkflowId, workflows: WorkflowsDep, config_path: ConfigPath = None
) -> JsonResponse:
    """As `POST /workflows/load`, for a file that must hold this workflow."""
    return _loaded(await workflows.load_as(workflow_id, config_path), language_of(request.scope))


@router.get(
    "/{workflow_id}/versions", summary="List versions", response_model=VersionList, responses=problems(WorkflowUnknown)
)
async def list_workflow_versions(workflow_id: WorkflowId, workflows: WorkflowsDep) -> JsonResponse:
    """Every content the workflow ever had, newest first; also of one that is unloaded."""
    return JsonResponse({"workflow_id": workflow_id, "versions": await workflows.versions(workflow_id)})


@router.get(
    "/{workflow_id}/versions/diff",
    summary="Compare two versions",
    response_model=DifferenceAnswer,
    responses=problems(WorkflowUnknown, WorkflowVersionUnknown),
)
async def diff_workflow_versions(
    workflow_id: WorkflowId,
    workflows: WorkflowsDep,
    old: Annotated[ContentHash, Query(alias="from")],
    new: Annotated[ContentHash, Query(alias="to")],
) -> JsonResponse:
    """The files that differ between two versions, each with a unified diff."""
    return JsonResponse(await workflows.difference(workflow_id, old=old, new=new))


@router.get(
    "/{workflow_id}/visualization",
    summary="Draw a workflow",
    response_model=DrawingAnswer,
    response_model_exclude_none=True,
    responses=problems(
        WorkflowUnknown, WorkflowVersionUnknown, WorkflowInvalid, SessionUnknown, SessionOfOtherWorkflow
    ),
)
async def get_workflow_visualization(
    workflow_id: WorkflowId,
    workflows: WorkflowsDep,
    session_id: Annotated[
        str | None, Query(max_length=200, description="Draws this session's version, with its newest run's state.")
    ] = None,
    content_hash: Annotated[str | None, Query(max_length=64, description="Draws this version.")] = None,
) -> JsonResponse:
    """Nodes with positions, edges, and Mermaid text; with `session_id`, each node's live state."""
    return JsonResponse(await workflows.drawing(workflow_id, content_hash=content_hash, session_id=session_id))


def _loaded(result: LoadResult, language: Language) -> JsonResponse:
    name = result.workflow_id
    return JsonResponse(
        {
            "workflow_id": name,
            "message": f"工作流 {name} 已加载。" if language == "zh" else f"The workflow {name} is loaded.",
            "config_path": result.config_path,
            "content_hash": result.content_hash,
            "is_new_version": result.is_new,
        }
    )


def _broken(file: BrokenFile, language: Language) -> dict[str, Any]:
    return {
        "config_path": file.config_path,
        "workflow_id": file.workflow_id,
        "code": file.error.code,
        "detail": file.error.message(language),
        "since": rfc3339(file.since),
        "errors": faults_json(file.error, language),
    }
