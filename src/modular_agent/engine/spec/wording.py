"""Pydantic's errors of a workflow file in plain words, each once, with its place and the likely name."""

import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Final, Union, cast, get_args, get_origin

from pydantic import BaseModel

from modular_agent.engine.place import KeyPath, closest, fault_at, path_text
from modular_agent.engine.spec.document import Document
from modular_agent.engine.spec.model import NodeSpec, WorkflowSpec
from modular_agent.engine.spec.nodes import MappingNode, ScalarNode, SequenceNode
from modular_agent.errors import Fault

__all__ = ["NODE_TYPES", "Wording"]

NODE_TYPES: Final = tuple(
    get_args(model.model_fields["type"].annotation)[0] for model in get_args(get_args(NodeSpec)[0])
)

_WANTED: Final = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "tuple_type": "a list",
    "list_type": "a list",
}
_PATTERNS: Final = {
    "^[a-z0-9][a-z0-9-]*$": "must consist of a-z, 0-9 and '-', and start with a letter or digit",
    "^[A-Za-z_][A-Za-z0-9_]*$": "must be a name: letters, digits and '_', not starting with a digit",
    r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$": "must be Python code as module:attribute, such as tools.tickets:fetch",
}
_BOUNDS: Final = {
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
}


class Wording:
    """Says Pydantic's errors about `document`. `data` is what was validated, if not the document's own."""

    def __init__(self, document: Document, *, data: Any = None, model: type[BaseModel] = WorkflowSpec) -> None:
        self._document = document
        self._model = model
        self._data = document.data() if data is None else data

    def path(self, loc: Iterable[str | int]) -> KeyPath:
        """Pydantic's location without the names of union branches, which are not in the file."""
        path: list[str | int] = []
        here: Any = self._data
        skip_tag = False
        parts = list(loc)
        for position, part in enumerate(parts):
            if skip_tag and part in NODE_TYPES:
                skip_tag = False
                continue
            if part == "[key]":
                continue
            inside = (isinstance(here, dict) and part in here) or (isinstance(here, list) and isinstance(part, int))
            if not inside and not (isinstance(here, dict) and position == len(parts) - 1):
                continue  # the name of a union's branch
            path.append(part)
            here = cast("Any", here)[part] if inside else None
            skip_tag = (len(path) == 2 and path[0] == "nodes") or (len(path) == 3 and part == "node")
        return tuple(path)

    def faults(self, errors: Iterable[Mapping[str, Any]]) -> Iterator[Fault]:
        """One fault for each path, in file order."""
        groups: dict[KeyPath, list[Mapping[str, Any]]] = {}
        for error in errors:
            groups.setdefault(self.path(error["loc"]), []).append(error)
        found = [
            self._fault(path, group)
            for path, group in groups.items()
            if not any(other[: len(path)] == path and len(other) > len(path) for other in groups if _is_branch(group))
            and not self._is_echo(path, group)
        ]
        yield from sorted(found, key=lambda fault: (fault.line or 0, fault.column or 0))

    def _is_echo(self, path: KeyPath, group: list[Mapping[str, Any]]) -> bool:
        """Pydantic counts items with faults as missing; the faults of the items say enough."""
        node = self._document.node(path)
        filled = (isinstance(node, SequenceNode) and node.items) or (isinstance(node, MappingNode) and node.entries)
        return bool(filled) and all(error["type"] == "too_short" for error in group)

    def _fault(self, path: KeyPath, group: list[Mapping[str, Any]]) -> Fault:
        kinds = [str(error["type"]) for error in group]
        wanted = list(dict.fromkeys(_WANTED[kind] for kind in kinds if kind in _WANTED))
        if wanted:
            return self._wrong_type(path, wanted)
        error = next((error for error in group if error["type"] != "literal_error"), group[0])
        kind, context = str(error["type"]), cast("dict[str, Any]", error.get("ctx") or {})
        if kind == "missing":
            return self._at(path[:-1], "missing_key", f"the key {path[-1]!r} is missing", path=path, key=True)
        if kind == "extra_forbidden":
            suggestion = closest(str(path[-1]), self._keys(path[:-1]))
            return self._at(path, "unknown_key", f"there is no key {path[-1]!r} here", suggestion, key=True)
        if kind in ("union_tag_invalid", "union_tag_not_found"):
            return self._node_type(path, kind, context)
        if kind in ("literal_error", "enum"):
            return self._choice(path, context)
        is_key = error["loc"][-1] == "[key]"
        return self._at(path, "bad_name" if is_key else "invalid_value", _sentence(kind, error, context), key=is_key)

    def _wrong_type(self, path: KeyPath, wanted: list[str]) -> Fault:
        node = self._document.node(path)
        message = f"must be {' or '.join(wanted)}"
        if "text" in wanted and isinstance(node, ScalarNode) and node.plain and node.value is not None:
            message += f": put {self._document.shown(path, node.raw)!r} in quotes"
        elif isinstance(node, ScalarNode) and not node.plain and not node.interpolated and "text" not in wanted:
            message += ", and is text"
        return self._at(path, "wrong_type", message)

    def _node_type(self, path: KeyPath, kind: str, context: dict[str, Any]) -> Fault:
        known = [name.strip(" '") for name in str(context.get("expected_tags", "")).split(",") if name]
        types_text = ", ".join(known or NODE_TYPES)
        if kind == "union_tag_not_found":
            message = f"the key 'type' is missing: one of {types_text}"
            return self._at(path, "missing_key", message, path=(*path, "type"), key=True)
        tag = self._document.shown((*path, "type"), context.get("tag"))
        if tag in NODE_TYPES:
            message = f"a node of type {tag!r} cannot stand here; the types are {types_text}"
        else:
            message = f"there is no node type {tag!r}; the types are {types_text}"
        return self._at((*path, "type"), "unknown_node_type", message, closest(tag, known))

    def _choice(self, path: KeyPath, context: dict[str, Any]) -> Fault:
        expected = str(context.get("expected", ""))
        known = [part.strip(" '") for part in expected.replace(" or ", ", ").split(",")]
        node = self._document.node(path)
        given = str(node.value) if isinstance(node, ScalarNode) else ""
        return self._at(path, "invalid_value", f"must be {expected}", closest(given, known) if given else None)

    def _keys(self, path: KeyPath) -> list[str]:
        """The keys that the mapping at `path` may have."""
        annotation: Any = self._model
        here: Any = self._data
        for part in path:
            model = _model(annotation, here)
            if model is not None:
                annotation = next((f.annotation for n, f in model.model_fields.items() if (f.alias or n) == part), None)
            else:
                arguments = get_args(_bare(annotation))
                annotation = arguments[-1 if isinstance(part, str) else 0] if arguments else None
            here = here[part]
        model = _model(annotation, here)
        return [] if model is None else [field.alias or name for name, field in model.model_fields.items()]

    def _at(
        self,
        place_path: KeyPath,
        code: str,
        message: str,
        suggestion: str | None = None,
        *,
        path: KeyPath | None = None,
        key: bool = False,
    ) -> Fault:
        place = self._document.place(place_path, key=key)
        shown = None if path is None else path_text(path)
        return fault_at(place, code, message, suggestion=suggestion, path=shown)


def _sentence(kind: str, error: Mapping[str, Any], context: dict[str, Any]) -> str:
    if kind in _BOUNDS:
        return _BOUNDS[kind].format_map({name: f"{value:g}" for name, value in context.items()})
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(context["pattern"], f"must match {context['pattern']}")
    if kind in ("too_short", "string_too_short"):
        return "must not be empty"
    if kind in ("too_long", "string_too_long"):
        return f"must have at most {context['max_length']} characters"
    return str(error["msg"]).removeprefix("Value error, ")


def _is_branch(group: list[Mapping[str, Any]]) -> bool:
    """Whether these errors say only that a value is not of one branch of a union."""
    return all(error["type"] in _WANTED for error in group)


def _bare(annotation: Any) -> Any:
    """Without `Annotated` and `| None`."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
            continue
        if get_origin(annotation) in (Union, types.UnionType):
            members = [member for member in get_args(annotation) if member is not type(None)]
            if len(members) == 1:
                annotation = members[0]
                continue
        return annotation


def _model(annotation: Any, data: Any) -> type[BaseModel] | None:
    bare = _bare(annotation)
    if isinstance(bare, type) and issubclass(bare, BaseModel):
        return bare
    if get_origin(bare) in (Union, types.UnionType):
        tag = cast("dict[str, Any]", data).get("type") if isinstance(data, dict) else None
        for member in get_args(bare):
            found = _model(member, data)
            field = None if found is None else found.model_fields.get("type")
            if field is not None and tag in get_args(field.annotation):
                return found
    return None
