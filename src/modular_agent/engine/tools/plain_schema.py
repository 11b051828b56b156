"""The schemas that most tools have, objects of simple values, checked without going over them again for each call."""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias, cast

__all__ = ["Plain", "fitting", "is_fitting"]

_Fields: TypeAlias = Mapping[str, tuple[frozenset[type], frozenset[str] | None]]
Plain: TypeAlias = tuple[_Fields, frozenset[str]]
"""The types (and, of a text, the values) of each field, and which must be there."""

_TYPES: Final[Mapping[str, frozenset[type]]] = {
    "string": frozenset({str}),
    "integer": frozenset({int}),
    "number": frozenset({int, float}),
    "boolean": frozenset({bool}),
    "null": frozenset({type(None)}),
}
_SAYING_NOTHING: Final = frozenset({"title", "description", "default", "examples"})
_OBJECT: Final = frozenset({"type", "properties", "required", "additionalProperties"}) | _SAYING_NOTHING
_FIELD: Final = frozenset({"type", "enum"}) | _SAYING_NOTHING
_NO_FIELD: Final[Mapping[str, Any]] = {}


def fitting(schema: Mapping[str, Any]) -> Plain | None:
    """What `is_fitting` takes; None for a schema that says more."""
    if schema.get("type") != "object" or not schema.keys() <= _OBJECT:
        return None
    fields: dict[str, tuple[frozenset[type], frozenset[str] | None]] = {}
    for name, field in schema.get("properties", {}).items():
        said = cast("Mapping[str, Any]", field) if isinstance(field, Mapping) else _NO_FIELD
        kind, values = said.get("type"), said.get("enum")
        if not said.keys() <= _FIELD or not isinstance(kind, str) or kind not in _TYPES:
            return None
        if values is not None and not (kind == "string" and all(isinstance(value, str) for value in values)):
            return None
        fields[name] = (_TYPES[kind], None if values is None else frozenset(values))
    return fields, frozenset(schema.get("required", ()))


def is_fitting(arguments: Mapping[str, Any], plain: Plain) -> bool:
    """Whether they fit for certain. If not, they may fit all the same: a field that is not declared, 1.0 as integer."""
    fields, required = plain
    for name, value in arguments.items():
        field = fields.get(name)
        if field is None or type(value) not in field[0] or (field[1] is not None and value not in field[1]):
            return False
    return required <= arguments.keys()
