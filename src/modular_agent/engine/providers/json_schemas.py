"""Shaping JSON Schemas for providers that take only a part of the language."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, cast

__all__ = ["close_objects", "drop_keywords", "is_closed"]

_NAMED: Final = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_NESTED: Final = frozenset(
    {"items", "additionalProperties", "not", "if", "then", "else", "contains", "anyOf", "oneOf", "allOf", "prefixItems"}
)

_Schema = Mapping[str, Any]  # JSON Schema: any JSON object


def is_closed(schema: _Schema) -> bool:
    """Whether every object in `schema` forbids further properties and requires all it has (OpenAI's `strict` mode)."""
    return all(_object_is_closed(part) for part in _parts(schema))


def close_objects(schema: _Schema, *, unsupported: frozenset[str]) -> dict[str, Any]:
    """`schema` with every object closed, and what `unsupported` names told in the description instead of enforced."""
    result: dict[str, Any] = {}
    hints: list[str] = []
    for key, value in schema.items():
        if key in unsupported:
            hints.append(f"{key}: {value}")
        else:
            result[key] = _map(key, value, partial(close_objects, unsupported=unsupported))
    if result.get("type") == "object" or "properties" in result:
        result["additionalProperties"] = False
    if hints:
        result["description"] = "\n".join(filter(None, [result.get("description"), "; ".join(hints)]))
    return result


def drop_keywords(schema: _Schema, *, keywords: frozenset[str]) -> dict[str, Any]:
    """`schema` without `keywords`, at any depth; properties of those names stay."""
    return {
        key: _map(key, value, partial(drop_keywords, keywords=keywords))
        for key, value in schema.items()
        if key not in keywords
    }


def _map(key: str, value: Any, change: Callable[[dict[str, Any]], _Schema]) -> Any:  # any JSON value
    if key in _NAMED and isinstance(value, dict):
        named = cast("dict[str, Any]", value)
        return {
            name: change(cast("dict[str, Any]", part)) if isinstance(part, dict) else part
            for name, part in named.items()
        }
    if key in _NESTED:
        if isinstance(value, dict):
            return change(cast("dict[str, Any]", value))
        if isinstance(value, list):
            return [
                change(cast("dict[str, Any]", part)) if isinstance(part, dict) else part
                for part in cast("list[Any]", value)
            ]
    return value


def _parts(schema: _Schema) -> list[_Schema]:
    found: list[_Schema] = []

    def collect(part: _Schema) -> _Schema:
        found.append(part)
        for key, value in part.items():
            _map(key, value, collect)
        return part

    collect(schema)
    return found


def _object_is_closed(part: _Schema) -> bool:
    if part.get("type") != "object" and "properties" not in part:
        return True
    properties = cast("dict[str, Any]", part.get("properties") or {})
    required = cast("list[str]", part.get("required") or [])
    return part.get("additionalProperties") is False and set(properties) <= set(required)
