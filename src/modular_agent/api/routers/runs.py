"""`/sessions/{id}/runs` and the control of runs; the session's events as a stream."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Header, Path, Query, Request
from pydantic import ValidationError
from starlette.responses import Response, StreamingResponse

from modular_agent.api.dependencies import (
    MAX_ID_LENGTH,
    ApiKeyDep,
    CallerDep,
    IdempotencyKey,
    RuntimeDep,
    SessionDep,
    caller_of,
    key_id_of,
    runtime_of,
)
from modular_agent.api.event_stream import EventStream
from modular_agent.api.openapi import events_content, problems
from modular_agent.api.requests import JsonRequest, JsonRoute, ShortRoute
from modular_agent.api.responses import JsonResponse
from modular_agent.api.routers.sessions import fingerprint
from modular_agent.api.schemas.runs import AnswerInterrupt, InterruptList, RunAnswer, RunList, StartRun
from modular_agent.domain.auth import KeyNotForKeys
from modular_agent.domain.history.tail import log_head
from modular_agent.domain.runs import (
    AnswerInvalid,
    InterruptClosed,
    InterruptUnknown,
    LimitsInvalid,
    MultitaskMode,
    NoActiveRun,
    NotPaused,
    QuestionsOpen,
    QueueFull,
    RunAlreadyActive,
    RunQueueFull,
    RunRolledBack,
    RunUnknown,
    StartRequest,
    StateInvalid,
    interrupt_view,
)
from modular_agent.domain.sessions import CheckpointUnknown, IdempotencyKeyReused, Session, SessionUnknown
from modular_agent.errors import AgentError, CursorInvalid, IllegalTransition
from modular_agent.kit.pagination import decode_cursor, encode_cursor
from modular_agent.realtime.sse import HEADERS, parse_last_event_id, stream
from modular_agent.runtime import Runtime

__all__ = ["event_stream", "router", "start_request", "starting"]

router = APIRouter(prefix="/sessions/{session_id}", tags=["runs"], route_class=JsonRoute)

RunId = Annotated[str, Path(description="The id of a run.", examples=["run_1f73e8c09ab45d1e22f0"], max_length=100)]
InterruptId = Annotated[str, Path(description="The id of a question.", max_length=100)]
_RUNS: Final = "runs"
_EVENT_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The run (mode wait), or its events (mode stream).",
        "model": RunAnswer,
        "content": events_content(),
    },
    202: {"description": "The run has started (mode background)."},
}


def start_request(body: StartRun, *, by: str, api_key: str | None, key: str | None, path: str) -> StartRequest:
    """The run that a body asks for."""
    changes: Mapping[str, Any] = body.input if isinstance(body.input, dict) else {}
    message = body.message if body.message is not None else body.input if isinstance(body.input, str) else None
    return StartRequest(
        message=message,
        state=changes,
        limits=body.limits,
        checkpoint_id=body.checkpoint_id,
        requested_by=by,
        key_id=api_key,
        idempotency_key=key,
        fingerprint="" if key is None else fingerprint(path, body.model_dump(mode="json")),
    )


async def event_stream(
    runtime: Runtime,
    session: Session,
    *,
    after_seq: int | None,
    generation: int | None = None,
    run_id: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The session's events after `after_seq`; with `run_id` only that run's, to its end."""
    head = log_head(session.last_seq, session.generation)
    subscription = runtime.hub.subscribe(session.ref, after_seq=after_seq, generation=generation, head=head)
    await subscription.start()
    body = stream(subscription, clock=runtime.clock, run_id=run_id)
    return EventStream(body, on_gone=subscription.close, headers={**HEADERS, **(headers or {})})


async def _start_plainly(request: JsonRequest) -> Response | None:
    """Starts the run of a request without anything unusual; None if there is, or if anything is wrong with it."""
    kinds = [value for name, value in request.scope["headers"] if name in {b"content-type", b"idempotency-key"}]
    session_id: str = request.path_params["session_id"]
    if kinds != [b"application/json"] or len(session_id) > MAX_ID_LENGTH:
        return None
    try:
        body = StartRun.model_validate(await request.json())
    except (ValidationError, ValueError, AgentError):
        return None  # the declared way says what it is
    session = await runtime_of(request).sessions.get(session_id)
    return await start_run(request, session, body)


class _StartRoute(ShortRoute):
    short = staticmethod(_start_plainly)


starting = APIRouter(prefix="/sessions/{session_id}", tags=["runs"], route_class=_StartRoute)


@starting.post(
    "/runs",
    status_code=202,
    summary="Start a run",
    response_model=RunAnswer,
    responses={
        **_EVENT_STREAM,
        **problems(
            *(SessionUnknown, StateInvalid, LimitsInvalid, RunAlreadyActive, IdempotencyKeyReused, QueueFull),
            *(RunQueueFull, CheckpointUnknown),
        ),
    },
)
async def start_run(
    request: Request,
    session: SessionDep,
    body: Annotated[StartRun, Body()],
    key: IdempotencyKey = None,
) -> Response:
    """Starts a run once its input is durable. A client that goes away never stops it."""
    runtime = runtime_of(request)  # each part that is asked for as a dependency costs a request 30 µs
    by, api_key = caller_of(request), key_id_of(request)
    wanted = start_request(body, by=by, api_key=api_key, key=key, path=request.scope["path"])
    run_id = await runtime.multitask.start(session, wanted, mode=MultitaskMode(body.multitask))
    if body.mode == "background":
        return JsonResponse(await _view(runtime, session, run_id), status_code=202)
    await runtime.multitask.started(run_id)
    if body.mode == "wait":
        await runtime.runs.wait(run_id)
        return JsonResponse(await _view(runtime, session, run_id))
    after_seq = session.last_seq  # as it was before this run, unless a repeated request found an older one
    if key is not None:
        after_seq = (await runtime.runs.get(session.ref, run_id)).first_seq
    return await event_stream(runtime, session, after_seq=after_seq, run_id=run_id, headers={"X-Run-ID": run_id})


async def _view(runtime: Runtime, session: Session, run_id: str) -> dict[str, Any]:
    """A run, or what will be one when its turn in the session's queue comes."""
    waiting = await runtime.multitask.queued(session.ref, run_id)
    if waiting is not None:
        return runtime.views.waiting(session, waiting)
    return await runtime.views.full(session, await runtime.runs.get(session.ref, run_id))


@router.get("/runs", summary="List runs", response_model=RunList, responses=problems(SessionUnknown, CursorInvalid))
async def list_runs(
    session: SessionDep,
    runtime: RuntimeDep,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    page_size: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(max_length=1000, description="From a former answer; wins over `page`.")] = None,
) -> JsonResponse:
    """The session's runs, newest first."""
    after = None if cursor is None else decode_cursor(cursor, _RUNS, ["int", "int"])
    found = await runtime.runs.rows.page(session.ref, limit=page_size, offset=(page - 1) * page_size, after=after)
    return JsonResponse(
        {
            "runs": [runtime.views.brief(session, run) for run in found.runs],
            "total": found.total,
            "page": page,
            "page_size": page_size,
            "has_next": found.after is not None,
            "cursor": None if found.after is None else encode_cursor(_RUNS, found.after),
        }
    )


@router.get(
    "/runs/{run_id}", summary="Get a run", response_model=RunAnswer, responses=problems(SessionUnknown, RunUnknown)
)
async def get_run(session: SessionDep, runtime: RuntimeDep, run_id: RunId) -> JsonResponse:
    """One run: status, path, node states, usage, result or error, open questions."""
    return JsonResponse(await _view(runtime, session, run_id))


Wait = Annotated[
    bool, Query(description="Answer when it has happened (200); otherwise when it is accepted (202), as the run is.")
]
_ACCEPTED: dict[int | str, dict[str, Any]] = {
    200: {"description": "With `wait`: the run, after it has happened.", "model": RunAnswer},
    202: {"description": "Accepted: the run as it is.", "model": RunAnswer},
}


@router.post(
    "/pause",
    status_code=202,
    summary="Pause the run",
    response_model=RunAnswer,
    responses={**_ACCEPTED, **problems(SessionUnknown, NoActiveRun)},
)
async def pause_run(session: SessionDep, runtime: RuntimeDep, caller: CallerDep, wait: Wait = False) -> JsonResponse:
    """Finishes the step in progress and holds. The step may be the last, or fail: then the run has ended.

    A run that waits for an answer, or for the time of a `wait`, holds too: with the answer it stays `paused`.
    """
    run = await runtime.control.pause(session, by=caller, wait=wait)
    return await _when_asked(runtime, session, run.run_id, wait=wait)


@router.post(
    "/stop",
    status_code=202,
    summary="Stop the run",
    response_model=RunAnswer,
    responses={**_ACCEPTED, **problems(SessionUnknown, NoActiveRun)},
)
async def stop_run(session: SessionDep, runtime: RuntimeDep, caller: CallerDep, wait: Wait = False) -> JsonResponse:
    """Cancels the step in progress. `stopped` is said only when nothing of the run executes any more.

    With `wait`, code that does not end within STOP_GRACE_SECONDS is answered with 202 and the status `stopping`.
    """
    run = await runtime.control.stop(session, by=caller, wait=wait)
    return JsonResponse(
        await runtime.views.full(session, run), status_code=200 if wait and run.status != "stopping" else 202
    )


@router.post(
    "/resume",
    status_code=202,
    summary="Resume the run",
    response_model=RunAnswer,
    responses={**_ACCEPTED, **problems(SessionUnknown, NotPaused, QuestionsOpen, QueueFull)},
)
async def resume_run(session: SessionDep, runtime: RuntimeDep, caller: CallerDep, wait: Wait = False) -> JsonResponse:
    """Has a paused run go on where it was, also after a restart. With `wait`: to its end or its next pause.

    A held run that still waits for an answer is held no more, and goes on when it has it; one that nobody holds is
    refused (`questions_open`).
    """
    run = await runtime.control.resume(session, by=caller)
    return await _when_asked(runtime, session, run.run_id, wait=wait)


@router.post(
    "/step",
    status_code=202,
    summary="Run one step",
    response_model=RunAnswer,
    responses={**_ACCEPTED, **problems(SessionUnknown, NotPaused, QuestionsOpen, QueueFull)},
)
async def step_run(session: SessionDep, runtime: RuntimeDep, caller: CallerDep, wait: Wait = False) -> JsonResponse:
    """Runs one step of a paused run; it then holds again, unless it was the last.

    A question that is met in it belongs to it: the answer finishes the step.
    """
    run = await runtime.control.resume(session, by=caller, step=True)
    return await _when_asked(runtime, session, run.run_id, wait=wait)


@router.post(
    "/retry",
    status_code=202,
    summary="Retry the last run",
    response_model=RunAnswer,
    responses={
        **_ACCEPTED,
        **problems(*(SessionUnknown, NoActiveRun, IllegalTransition, RunAlreadyActive, RunRolledBack, QueueFull)),
    },
)
async def retry_run(session: SessionDep, runtime: RuntimeDep, caller: CallerDep, wait: Wait = False) -> JsonResponse:
    """Takes up the last run where it failed or was stopped; what had succeeded is not done again."""
    run = await runtime.control.retry(session, by=caller)
    return await _when_asked(runtime, session, run.run_id, wait=wait)


@router.get(
    "/interrupts",
    summary="List open questions",
    response_model=InterruptList,
    responses=problems(SessionUnknown),
)
async def list_interrupts(session: SessionDep, runtime: RuntimeDep) -> JsonResponse:
    """The questions that the session's run waits for."""
    rows = await runtime.runs.interrupts.open(session.ref)
    return JsonResponse({"interrupts": [interrupt_view(row) for row in rows]})


@router.post(
    "/interrupts/{interrupt_id}",
    status_code=202,
    summary="Answer a question",
    response_model=RunAnswer,
    responses={
        **_ACCEPTED,
        **problems(SessionUnknown, InterruptUnknown, InterruptClosed, AnswerInvalid, KeyNotForKeys),
    },
)
async def answer_interrupt(
    session: SessionDep,
    runtime: RuntimeDep,
    caller: CallerDep,
    api_key: ApiKeyDep,
    interrupt_id: InterruptId,
    body: Annotated[AnswerInterrupt, Body()],
    wait: Wait = False,
) -> JsonResponse:
    """Answers a question; the run goes on when it was the last one open, as soon as there is a place for it.

    One that is `held` stays paused until somebody says `resume`.
    """
    run = await runtime.control.answer(session, interrupt_id, body.answer, by=caller, key_id=api_key, wait=wait)
    return await _when_asked(runtime, session, run.run_id, wait=wait)


@router.get(
    "/events",
    summary="Stream the session's events",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Server-sent events: `id` is the `seq`, `event` the type, `data` the envelope.",
            "content": events_content(),
        },
        **problems(SessionUnknown),
    },
)
async def stream_events(
    session: SessionDep,
    runtime: RuntimeDep,
    after_seq: Annotated[int | None, Query(ge=0, le=10**15, description="Every event after this one.")] = None,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID", max_length=40)] = None,
) -> Response:
    """Every event after `Last-Event-ID` (or `after_seq`; 0: from the first), once, in order, also across a restart.

    Without either, only what happens from now on.
    """
    generation = None
    if last_event_id:
        after_seq, generation = parse_last_event_id(last_event_id)
    return await event_stream(runtime, session, after_seq=after_seq, generation=generation)


async def _when_asked(runtime: Runtime, session: Session, run_id: str, *, wait: bool) -> JsonResponse:
    if wait:
        await runtime.runs.wait(run_id)
    run = await runtime.runs.get(session.ref, run_id)
    return JsonResponse(await runtime.views.full(session, run), status_code=200 if wait else 202)
