"""The shapes of API keys."""

from typing import Any

from pydantic import ConfigDict, Field

from modular_agent.api.schemas.runs import JsonObject
from modular_agent.kit.late_model import LateModel

__all__ = ["CreateKey", "CreatedKey", "KeyAnswer", "KeyList"]

_LIMITS: dict[str, Any] = {"per_run": {"max_cost_usd": 0.5}, "per_day": {"max_cost_usd": 5.0, "max_tokens": 2_000_000}}
_KEY: dict[str, Any] = {
    "key_id": "key_1f73e8c09ab45d1e22f0",
    "prefix": "mak_5d1c0f6b",
    "name": "web shop",
    "limits": _LIMITS,
    "created_at": "2025-10-22T17:48:00.125000Z",
    "last_used_at": None,
    "revoked_at": None,
}


class CreateKey(LateModel):
    """A new key."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"name": "web shop", "limits": _LIMITS}]})

    name: str = Field(min_length=1, max_length=100, description="What people call it.")
    limits: JsonObject = Field(
        default_factory=dict,
        description="As `limits` of a workflow: in all, and within `per_day` and `per_run`.",
    )


class KeyAnswer(LateModel):
    """A key; its secret is never shown again."""

    model_config = ConfigDict(json_schema_extra={"examples": [_KEY]})

    key_id: str
    prefix: str = Field(description="How its secret begins.")
    name: str
    limits: JsonObject
    created_at: str
    last_used_at: str | None
    revoked_at: str | None


class CreatedKey(KeyAnswer):
    """A new key with its secret, which is shown this once."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{**_KEY, "secret": "mak_5d1c0f6b_(43 more characters, shown this once)"}]}
    )

    secret: str


class KeyList(LateModel):
    """All keys, oldest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"keys": [_KEY]}]})

    keys: list[KeyAnswer]
