"""What a person typed, as a value of a form's field."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from modular_agent.errors import Language

__all__ = ["Unusable", "hint", "parse"]

YES: Final = frozenset({"y", "yes", "true", "1", "是", "好", "对"})
NO: Final = frozenset({"n", "no", "false", "0", "否", "不"})

Schema = Mapping[str, Any]  # a JSON Schema


class Unusable(ValueError):
    """The text is no value of the field."""


def hint(schema: Schema, language: Language) -> str:
    """What may be typed, in a few words; empty where any text may."""
    chosen: list[Any] | None = schema.get("enum")
    if chosen:
        return ", ".join(f"{number}={_plain(value)}" for number, value in enumerate(chosen, 1))
    kind = schema.get("type")
    chinese = language == "zh"
    return {
        "boolean": "y/n",
        "integer": "整数" if chinese else "a whole number",
        "number": "数字" if chinese else "a number",
        "string": "",
    }.get(str(kind), "JSON")


def parse(text: str, schema: Schema) -> Any:  # any JSON value
    """The value that `text` stands for. Raises `Unusable`."""
    text = text.strip()
    chosen: list[Any] | None = schema.get("enum")
    if chosen:
        return _choice(text, chosen)
    kind = schema.get("type")
    if kind == "boolean":
        return _boolean(text)
    if kind in ("integer", "number"):
        return _number(text, whole=kind == "integer")
    if kind == "string":
        return text
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if kind is None:
            return text  # anything is allowed, a text too
        raise Unusable("JSON") from error


def _choice(text: str, chosen: list[Any]) -> Any:
    for value in chosen:
        if text == _plain(value):
            return value
    if text.isdecimal() and 1 <= int(text) <= len(chosen):
        return chosen[int(text) - 1]
    raise Unusable(text)


def _boolean(text: str) -> bool:
    word = text.casefold()
    if word in YES or word in NO:
        return word in YES
    raise Unusable(text)


def _number(text: str, *, whole: bool) -> float:
    try:
        return int(text)
    except ValueError:
        if whole:
            raise Unusable(text) from None
    try:
        number = float(text)
    except ValueError:
        raise Unusable(text) from None
    if number != number or number in (float("inf"), float("-inf")):  # noqa: PLR0124 - not a number differs from itself
        raise Unusable(text)
    return number


def _plain(value: object) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
