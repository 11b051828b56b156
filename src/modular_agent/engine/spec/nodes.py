"""The tree of a YAML or JSON text: values with the places where they stand."""

import re
from dataclasses import field
from typing import Any, Final, TypeAlias

from modular_agent.errors import Text
from modular_agent.kit.dataclass import dataclass

__all__ = ["Entry", "MappingNode", "Mark", "Node", "ScalarNode", "SequenceNode", "resolve_plain", "to_data"]

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_CONSTANTS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the text; line and column count from 1, `index` from 0 (characters)."""

    line: int
    column: int
    index: int


@dataclass(slots=True)
class ScalarNode:
    """A text, number, boolean or null.

    `raw` is the text before interpolation. `plain` means written without quotes. `alternative` is the other reading of
    an interpolated value (text or what YAML would make of it), to be taken when the place asks for it.
    """

    start: Mark
    end: Mark
    raw: str
    plain: bool
    value: str | int | float | bool | None
    interpolated: bool = False
    alternative: str | int | float | bool | None = None
    size: int = 1
    depth: int = 1


@dataclass(slots=True)
class SequenceNode:
    """A list."""

    start: Mark
    items: list["Node"] = field(default_factory=list["Node"])
    size: int = 1
    depth: int = 1


@dataclass(slots=True)
class Entry:
    """One key of a mapping."""

    key: Mark
    node: "Node"


@dataclass(slots=True)
class MappingNode:
    """A mapping with text keys, in file order."""

    start: Mark
    entries: dict[str, Entry] = field(default_factory=dict[str, Entry])
    size: int = 1
    depth: int = 1


Node: TypeAlias = ScalarNode | SequenceNode | MappingNode


class NumberUnusable(ValueError):
    """A number that JSON and 64 bits cannot hold; `text` says why."""

    def __init__(self, text: Text) -> None:
        super().__init__(text.english)
        self.text = text


_TOO_LARGE: Final = Text("the number is too large", "数字过大")
_INFINITE: Final = Text("infinity and not-a-number cannot be used", "不能使用无穷大与非数字")


def resolve_plain(text: str) -> str | int | float | bool | None:
    """What a plain scalar means in the YAML 1.2 core schema (so `on`, `yes`, `no` are text).

    Raises `NumberUnusable` for a number that JSON and 64 bits cannot hold.
    """
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INT.fullmatch(text):
        if len(text) > 70:
            raise NumberUnusable(_TOO_LARGE)
        number = int(text, 0) if text[:2] in ("0x", "0o") else int(text)
        if not -(2**63) <= number < 2**63:
            raise NumberUnusable(_TOO_LARGE)
        return number
    if _FLOAT.fullmatch(text):
        value = float(text)
        if value in (float("inf"), float("-inf")):
            raise NumberUnusable(_TOO_LARGE)
        return value
    if text.lower().lstrip("+-") in (".inf", ".nan"):
        raise NumberUnusable(_INFINITE)
    return text


def to_data(node: Node) -> Any:  # JSON: what the models validate
    """The node as plain dicts, lists and scalars; every alias becomes a copy of its own."""
    if isinstance(node, MappingNode):
        return {key: to_data(entry.node) for key, entry in node.entries.items()}
    if isinstance(node, SequenceNode):
        return [to_data(item) for item in node.items]
    return node.value
