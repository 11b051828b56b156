"""What an author's code returned, as JSON and as text for a model."""

import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import PurePath
from typing import Any, cast

import orjson

__all__ = ["NotJson", "json_bytes", "text_of"]


class NotJson(TypeError):
    """A value that has no JSON form."""


def json_bytes(value: Any) -> bytes:
    """`value` as JSON: also dataclasses, pydantic models, enums, dates, sets, decimals, paths, integers of any size.

    Raises `NotJson`.
    """
    try:
        return orjson.dumps(value, default=_plain, option=orjson.OPT_NON_STR_KEYS)
    except TypeError as error:
        try:  # integers beyond 64 bits, text with lone surrogates
            return json.dumps(value, default=_plain, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError):
            raise NotJson(f"The result cannot be written as JSON: {error}") from error


def text_of(value: Any) -> str:
    """What the model reads: a text as it is, anything else as JSON. Raises `NotJson`."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    return json_bytes(value).decode()


def _plain(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return list(cast(set[Any], value))
    if isinstance(value, Decimal | PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return dict(cast(Mapping[Any, Any], value))
    if dump := getattr(value, "model_dump", None):  # pydantic, without importing it
        return dump(mode="json")
    raise TypeError(f"a value of type {type(value).__name__}")
