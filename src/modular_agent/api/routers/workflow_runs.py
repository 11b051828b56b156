"""`/workflows/{id}/run` and `/stream`: a run of a workflow in a session of its own, in one call."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path
from starlette.responses import Response, StreamingResponse

from modular_agent.api.dependencies import ApiKeyDep, CallerDep, IdempotencyKey, RuntimeDep
from modular_agent.api.openapi import events_content, problems
from modular_agent.api.requests import JsonRoute
from modular_agent.api.responses import JsonResponse
from modular_agent.api.routers.runs import event_stream
from modular_agent.api.routers.sessions import fingerprint
from modular_agent.api.schemas.runs import RunAnswer, RunWorkflow
from modular_agent.domain.runs import AgentConfigInvalid, LimitsInvalid, QueueFull, StartRequest, StateInvalid
from modular_agent.domain.sessions import CreateRequest, IdempotencyKeyReused, Session
from modular_agent.domain.workflows import WorkflowUnknown
from modular_agent.runtime import Runtime

__all__ = ["router"]

router = APIRouter(prefix="/workflows/{workflow_id}", tags=["workflows"], route_class=JsonRoute)

WorkflowId = Annotated[str, Path(description="The name of a loaded workflow.", examples=["react"], max_length=64)]
_PROBLEMS: dict[int | str, dict[str, Any]] = problems(
    WorkflowUnknown, StateInvalid, AgentConfigInvalid, LimitsInvalid, IdempotencyKeyReused, QueueFull
)


async def _start(
    runtime: Runtime, workflow_id: str, body: RunWorkflow, *, by: str, api_key: str | None, key: str | None
) -> tuple[Session, str]:
    """Makes a session and starts its run; a repeated request finds both."""
    mark = fingerprint(f"/workflows/{workflow_id}/run", body.model_dump(mode="json"))
    new = CreateRequest(
        workflow_id=workflow_id,
        agent_config=body.agent_config,
        initial_state=body.initial_state,
        key_id=api_key,
        idempotency_key=key,
        fingerprint=mark,
    )
    wanted = StartRequest(
        message=body.message,
        limits=body.limits,
        requested_by=by,
        key_id=api_key,
        idempotency_key=None if key is None else f"{key}/run",
        fingerprint=mark,
    )
    return await runtime.sessions.start_in_new(new, wanted)


@router.post("/run", summary="Run a workflow", response_model=RunAnswer, responses=_PROBLEMS)
async def run_workflow(
    workflow_id: WorkflowId,
    runtime: RuntimeDep,
    caller: CallerDep,
    api_key: ApiKeyDep,
    body: Annotated[RunWorkflow, Body()],
    key: IdempotencyKey = None,
) -> JsonResponse:
    """Makes a session, runs the workflow in it, and answers when the run has ended or paused."""
    session, run_id = await _start(runtime, workflow_id, body, by=caller, api_key=api_key, key=key)
    await runtime.runs.wait(run_id)
    return JsonResponse(await runtime.views.full(session, await runtime.runs.get(session.ref, run_id)))


@router.post(
    "/stream",
    summary="Run a workflow and stream it",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "The run's events (SSE); the header X-Session-ID names the session.",
            "content": events_content(),
        },
        **_PROBLEMS,
    },
)
async def stream_workflow(
    workflow_id: WorkflowId,
    runtime: RuntimeDep,
    caller: CallerDep,
    api_key: ApiKeyDep,
    body: Annotated[RunWorkflow, Body()],
    key: IdempotencyKey = None,
) -> Response:
    """The same as a stream of events, to the run's end. A client that goes away does not stop the run."""
    session, run_id = await _start(runtime, workflow_id, body, by=caller, api_key=api_key, key=key)
    run = await runtime.runs.get(session.ref, run_id)
    headers = {"X-Session-ID": session.session_id, "X-Run-ID": run_id}
    return await event_stream(runtime, session, after_seq=run.first_seq, run_id=run_id, headers=headers)
