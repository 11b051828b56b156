"""What a record says that people search for: messages, tool calls and errors."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

import orjson

from modular_agent.events import RecordType

__all__ = ["SEARCHED_TYPES", "texts_of"]

SEARCHED_TYPES: Final = (RecordType.MESSAGE, RecordType.TOOL_CALL, RecordType.ERROR)

_FIELDS: Final[Mapping[str, Sequence[str]]] = {
    RecordType.MESSAGE: ("content", "reasoning", "name"),
    RecordType.TOOL_CALL: ("tool_name", "tool_input", "tool_output"),
    RecordType.ERROR: ("error_message", "error_type"),  # no stack trace: it is not shown to everybody
}


def texts_of(record: dict[str, Any]) -> list[tuple[str, str]]:
    """The searched fields of a record (parsed from its line) as (name, text); other kinds of records have none.

    A value that is not text is written as lines of `key: value`, so that nothing in it is escaped.
    """
    kind = str(record.get("record_type"))
    found: list[tuple[str, str]] = []
    for name in _FIELDS.get(kind, ()):
        value = record.get(name)
        if value is None:
            continue
        text = value if isinstance(value, str) else _written(value, parts=kind == RecordType.MESSAGE)
        if text:
            found.append((name, text))
    return found


def _written(value: Any, *, parts: bool) -> str:  # any JSON value
    if parts and isinstance(value, list):
        return "\n".join(_part_texts(cast("list[Any]", value)))
    return "\n".join(_lines(value))


def _part_texts(parts: list[Any]) -> Iterator[str]:
    """The texts of a message's content parts; pictures and the like have none."""
    for part in parts:
        text: Any = cast("dict[str, Any]", part).get("text") if isinstance(part, dict) else part
        if isinstance(text, str):
            yield text


def _lines(value: Any) -> Iterator[str]:  # any JSON value
    """`key: value` for each leaf; the path of keys is not repeated."""
    stack: list[tuple[str, Any]] = [("", value)]  # not recursive: a tool may have nested deeply
    while stack:
        name, here = stack.pop()
        if isinstance(here, dict):
            stack.extend(reversed(cast("dict[str, Any]", here).items()))
        elif isinstance(here, list):
            stack.extend((name, inner) for inner in reversed(cast("list[Any]", here)))
        else:
            text = here if isinstance(here, str) else orjson.dumps(here).decode()
            yield f"{name}: {text}" if name else text
