"""`/config`: what counts and where it comes from, stored values, models and agents."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query, Request, Response

from modular_agent.api.dependencies import ApiKeyDep, CallerDep, RuntimeDep
from modular_agent.api.language import language_of
from modular_agent.api.openapi import problems
from modular_agent.api.problem import faults_json
from modular_agent.api.requests import JsonRoute
from modular_agent.api.responses import JsonResponse
from modular_agent.api.schemas.configuration import (
    AgentList,
    ConfigAnswer,
    ModelList,
    PutValue,
    ReloadAnswer,
    ValueAnswer,
)
from modular_agent.domain.auth import KeyNotForKeys
from modular_agent.domain.configuration import ConfigKeyFixed, ConfigKeyUnknown, ConfigType, ConfigValueInvalid
from modular_agent.errors import AgentError, Language

__all__ = ["router"]

router = APIRouter(prefix="/config", tags=["configuration"], route_class=JsonRoute)

_BOUNDING = frozenset({"default_limits", "workflow_limits", "installation_limits", "unpriced_usd_per_mtok"})
Key = Annotated[str, Path(description="The key of a value.", examples=["max_parallel_runs"], max_length=100)]
TypeQuery = Annotated[
    ConfigType, Query(description="`system`: of the server; `user`: the caller's own preferences, any JSON.")
]


def _broken(items: Sequence[Mapping[str, Any]], language: Language) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = []
    for item in items:
        error: AgentError = item["error"]
        shown.append(
            {
                "config_path": item["config_path"],
                "code": item["code"],
                "detail": error.message(language),
                "errors": faults_json(error, language),
            }
        )
    return shown


@router.get("", summary="Show the configuration", response_model=ConfigAnswer)
async def get_configuration(
    request: Request, runtime: RuntimeDep, caller: CallerDep, config_type: TypeQuery = "system"
) -> JsonResponse:
    """Every value that counts with its source; secrets are masked. What wins: stored values, the environment, `.env`,
    `global.yaml`, the default."""
    if config_type == "user":
        return JsonResponse({"values": await runtime.configuration.preferences(caller), "broken": []})
    found = runtime.configuration.effective()
    return JsonResponse({**found, "broken": _broken(found["broken"], language_of(request.scope))})


@router.get("/models", summary="List configured models", response_model=ModelList)
async def list_models(runtime: RuntimeDep) -> JsonResponse:
    """The models of `llms/`, which workflows, agents and `agent_config.model` use by name."""
    return JsonResponse({"models": runtime.configuration.models()})


@router.get("/agents", summary="List agents", response_model=AgentList)
async def list_agents(runtime: RuntimeDep) -> JsonResponse:
    """The agents of `agents/`, for `agent_type` of new sessions and for nodes of workflows."""
    return JsonResponse({"agents": runtime.configuration.agents()})


@router.post("/reload", summary="Read the files again", response_model=ReloadAnswer)
async def reload_configuration(request: Request, runtime: RuntimeDep) -> JsonResponse:
    """Reads models, agents, `global.yaml` and workflow files again. A broken file keeps its last good content."""
    found = await runtime.configuration.reload()
    await runtime.workflows.refresh()
    broken = _broken(found["broken"], language_of(request.scope))
    return JsonResponse({**found, "broken": broken, "workflows_broken": len(runtime.workflows.broken)})


@router.get("/{key}", summary="Get a value", response_model=ValueAnswer, responses=problems(ConfigKeyUnknown))
async def get_value(
    key: Key, runtime: RuntimeDep, caller: CallerDep, config_type: TypeQuery = "system"
) -> JsonResponse:
    """One value and where it comes from."""
    if config_type == "user":
        return JsonResponse(await runtime.configuration.preference(key, owner=caller))
    return JsonResponse(runtime.configuration.value(key))


def _refuse_limits(key: str, api_key: str | None) -> None:
    """Whoever is bounded by a key does not lift what bounds it. Raises `KeyNotForKeys`."""
    if api_key is not None and key in _BOUNDING:
        raise KeyNotForKeys(what=key)


@router.put(
    "/{key}",
    summary="Store a value",
    response_model=ValueAnswer,
    responses=problems(ConfigKeyUnknown, ConfigKeyFixed, ConfigValueInvalid, KeyNotForKeys),
)
async def put_value(
    key: Key,
    runtime: RuntimeDep,
    caller: CallerDep,
    api_key: ApiKeyDep,
    body: Annotated[PutValue, Body()],
    config_type: TypeQuery = "system",
) -> JsonResponse:
    """Stores a value over all others; it counts at once, also for runs that wait, and after a restart."""
    if config_type == "user":
        return JsonResponse(await runtime.configuration.put_preference(key, body.value, owner=caller))
    _refuse_limits(key, api_key)
    return JsonResponse(await runtime.configuration.put(key, body.value, by=caller))


@router.delete(
    "/{key}",
    summary="Delete a stored value",
    response_model=ValueAnswer,
    responses={
        204: {"description": "A preference was deleted."},
        **problems(ConfigKeyUnknown, ConfigKeyFixed, KeyNotForKeys),
    },
)
async def delete_value(
    key: Key, runtime: RuntimeDep, caller: CallerDep, api_key: ApiKeyDep, config_type: TypeQuery = "system"
) -> Response:
    """Takes a stored value away; answers what counts from then on."""
    if config_type == "user":
        await runtime.configuration.delete_preference(key, owner=caller)
        return Response(status_code=204)
    _refuse_limits(key, api_key)
    return JsonResponse(await runtime.configuration.delete(key, by=caller))
