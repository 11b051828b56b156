"""`/health`, `/ready`, `/info`: what probes and clients ask of the server itself."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from fastapi import APIRouter, Request

from modular_agent.api.dependencies import RuntimeDep
from modular_agent.api.errors import NotReady
from modular_agent.api.openapi import problems
from modular_agent.api.readiness import readiness
from modular_agent.api.requests import JsonRoute
from modular_agent.api.responses import JsonResponse
from modular_agent.api.schemas.system import HealthAnswer, InfoAnswer, ReadyAnswer
from modular_agent.kit.clock import rfc3339
from modular_agent.runtime import Runtime

__all__ = ["router"]

router = APIRouter(tags=["system"], route_class=JsonRoute)

NO_STORE: Final = {"Cache-Control": "no-store"}
MAX_PAGE_SIZE: Final = 100
MAX_RECORDS: Final = 500
_AREAS: Final = ("sessions", "workflows", "history", "analytics", "errors", "config", "backups", "metrics", "auth")


@router.head("/health", include_in_schema=False)  # as load balancers ask
@router.get("/health", summary="Is the process alive", response_model=HealthAnswer)
async def get_health(runtime: RuntimeDep) -> JsonResponse:
    """Answers as long as the process does. For liveness probes."""
    return JsonResponse({"status": "ok", "timestamp": rfc3339(runtime.clock.now_us())}, headers=NO_STORE)


@router.head("/ready", include_in_schema=False)
@router.get("/ready", summary="Does the server take work", response_model=ReadyAnswer, responses=problems(NotReady))
async def get_ready(runtime: RuntimeDep) -> JsonResponse:
    """Looks at the database, the log files and the event loop. For readiness probes: 503 when it takes no work."""
    return JsonResponse(await readiness(runtime), headers=NO_STORE)


@router.get("/info", summary="What this server is", response_model=InfoAnswer)
async def get_info(request: Request, runtime: RuntimeDep) -> JsonResponse:
    """Name, version, features and limits."""
    app = runtime.settings.app
    return JsonResponse(
        {
            "name": app.name,
            "version": app.version,
            "environment": app.environment,
            "workflow_schema": "modular-agent/v1",
            "languages": ["en", "zh"],
            "features": _features(request, runtime),
            "builtin_tools": sorted(runtime.catalog.authoring.builtin_tools),
            "limits": _limits(runtime),
            "cache": _cache(runtime),
        }
    )


def _features(request: Request, runtime: Runtime) -> dict[str, bool]:
    """What of the API is there, read off the routes, and what goes on by itself."""
    paths = list(_paths(request.app.routes))
    areas = {area: any(path.strip("/").split("/")[0] == area for path in paths) for area in _AREAS}
    return {
        **areas,
        "websocket": any(path.startswith("/ws/") for path in paths),
        "sse": any(path.endswith("/events") for path in paths),
        "workflow_watching": runtime.workflows.is_watching,
    }


def _paths(routes: Iterable[Any]) -> Iterator[str]:  # routes of the framework's several kinds
    """The paths of `routes`, and of the routers among them."""
    for route in routes:
        path: str | None = getattr(route, "path", None)
        if path is not None:
            yield path
        else:
            yield from _paths(getattr(getattr(route, "original_router", None), "routes", ()))


def _cache(runtime: Runtime) -> dict[str, Any]:
    figures = runtime.database.cache.figures()
    return {"entries": figures.size, "max_entries": figures.max_size, "hit_rate": figures.hit_rate}


def _limits(runtime: Runtime) -> dict[str, Any]:
    live = runtime.configuration.live  # what may have been stored since the start
    http, runs, websocket = runtime.settings.http, runtime.settings.runs, runtime.settings.websocket
    return {
        "max_body_bytes": http.max_body_bytes,
        "max_json_depth": http.max_json_depth,
        "rate_limit_per_minute": live["rate_limit_per_minute"],
        "max_page_size": MAX_PAGE_SIZE,
        "max_records": MAX_RECORDS,
        "max_parallel_runs": live["max_parallel_runs"],
        "max_queued_runs": live["max_queued_runs"],
        "max_state_bytes": runs.max_state_bytes,
        "max_tool_output_bytes": runs.max_tool_output_bytes,
        "max_websocket_connections": websocket.max_connections,
        "max_websocket_message_bytes": websocket.max_message_bytes,
        "websocket_messages_per_second": websocket.messages_per_second,
        "metrics_seconds": websocket.metrics_interval,
    }
