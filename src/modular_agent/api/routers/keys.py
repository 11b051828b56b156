"""`/keys`: API keys, to whom runs are charged."""

from typing import Annotated

from fastapi import APIRouter, Body, Depends, Path

from modular_agent.api.dependencies import ApiKeyDep, RuntimeDep
from modular_agent.api.openapi import problems
from modular_agent.api.requests import JsonRoute
from modular_agent.api.responses import JsonResponse
from modular_agent.api.schemas.keys import CreatedKey, CreateKey, KeyAnswer, KeyList
from modular_agent.domain.auth import ApiKeyUnknown, KeyNotForKeys, checked_key_limits, key_view
from modular_agent.domain.runs import LimitsInvalid

__all__ = ["router"]


async def _no_key(api_key: ApiKeyDep) -> None:
    """Whoever is bounded by a key makes no other. Raises `KeyNotForKeys`."""
    if api_key is not None:
        raise KeyNotForKeys(what="/keys")


router = APIRouter(prefix="/keys", tags=["keys"], route_class=JsonRoute, dependencies=[Depends(_no_key)])
KeyId = Annotated[
    str, Path(description="The id or the prefix of a key.", examples=["key_1f73e8c09ab45d1e22f0"], max_length=100)
]


@router.get("", summary="List API keys", response_model=KeyList, responses=problems(KeyNotForKeys))
async def list_keys(runtime: RuntimeDep) -> JsonResponse:
    """Every key, oldest first, those that were revoked too; never a secret."""
    return JsonResponse({"keys": [key_view(row) for row in runtime.keys.all()]})


@router.post(
    "",
    status_code=201,
    summary="Make an API key",
    response_model=CreatedKey,
    responses=problems(LimitsInvalid, KeyNotForKeys),
)
async def create_key(runtime: RuntimeDep, body: Annotated[CreateKey, Body()]) -> JsonResponse:
    """Makes a key. Its secret is in this answer and nowhere else: only a hash of it is kept."""
    row, secret = await runtime.keys.create(body.name, limits=checked_key_limits(body.limits))
    return JsonResponse({**key_view(row), "secret": secret}, status_code=201)


@router.delete(
    "/{key_id}",
    summary="Revoke an API key",
    response_model=KeyAnswer,
    responses=problems(ApiKeyUnknown, KeyNotForKeys),
)
async def revoke_key(key_id: KeyId, runtime: RuntimeDep) -> JsonResponse:
    """From the next request on the key is refused; runs in progress go on, and what was charged to it stays."""
    return JsonResponse(key_view(await runtime.keys.revoke(key_id)))
