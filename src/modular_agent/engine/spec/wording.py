"""Pydantic's errors of a workflow file in plain words, each once, with its place and the likely name."""

import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Final, Union, cast, get_args, get_origin

from pydantic import BaseModel

from modular_agent.engine.place import KeyPath, closest, fault_at, path_text
from modular_agent.engine.spec.document import Document
from modular_agent.engine.spec.model import NodeSpec, WorkflowSpec
from modular_agent.engine.spec.nodes import MappingNode, ScalarNode, SequenceNode
from modular_agent.errors import Fault, Text
from modular_agent.validation import own_words

__all__ = ["NODE_TYPES", "Wording"]

NODE_TYPES: Final = tuple(
    get_args(model.model_fields["type"].annotation)[0] for model in get_args(get_args(NodeSpec)[0])
)

_TEXT: Final = Text("text", "文本")
_WANTED: Final = {
    "string_type": _TEXT,
    "int_type": Text("a whole number", "整数"),
    "int_from_float": Text("a whole number", "整数"),
    "float_type": Text("a number", "数字"),
    "bool_type": Text("true or false", "true 或 false"),
    "dict_type": Text("a mapping", "映射"),
    "model_type": Text("a mapping", "映射"),
    "model_attributes_type": Text("a mapping", "映射"),
    "tuple_type": Text("a list", "列表"),
    "list_type": Text("a list", "列表"),
}
_PATTERNS: Final = {
    "^[a-z0-9][a-z0-9-]*$": Text(
        "must consist of a-z, 0-9 and '-', and start with a letter or digit",
        "须由 a-z、0-9 与“-”组成，并以字母或数字开头",
    ),
    "^[A-Za-z_][A-Za-z0-9_]*$": Text(
        "must be a name: letters, digits and '_', not starting with a digit",
        "须为名称：由字母、数字与“_”组成，不以数字开头",
    ),
    r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$": Text(
        "must be Python code as module:attribute, such as tools.tickets:fetch",
        "须为 Python 代码的引用 module:attribute，如 tools.tickets:fetch",
    ),
}
_BOUNDS: Final = {
    "greater_than": Text("must be more than {gt}", "必须大于 {gt}"),
    "greater_than_equal": Text("must be at least {ge}", "不得小于 {ge}"),
    "less_than": Text("must be less than {lt}", "必须小于 {lt}"),
    "less_than_equal": Text("must be at most {le}", "不得大于 {le}"),
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
            return self._at(path[:-1], "missing_key", _missing(path[-1]), path=path, key=True)
        if kind == "extra_forbidden":
            suggestion = closest(str(path[-1]), self._keys(path[:-1]))
            text = Text(f"there is no key {path[-1]!r} here", f"此处没有键 {path[-1]!r}")
            return self._at(path, "unknown_key", text, suggestion, key=True)
        if kind in ("union_tag_invalid", "union_tag_not_found"):
            return self._node_type(path, kind, context)
        if kind in ("literal_error", "enum"):
            return self._choice(path, context)
        is_key = error["loc"][-1] == "[key]"
        return self._at(path, "bad_name" if is_key else "invalid_value", _sentence(kind, error, context), key=is_key)

    def _wrong_type(self, path: KeyPath, wanted: list[Text]) -> Fault:
        node = self._document.node(path)
        english, chinese = " or ".join(each.english for each in wanted), "或".join(each.chinese for each in wanted)
        text = Text(f"must be {english}", f"必须是{chinese}")
        if _TEXT in wanted and isinstance(node, ScalarNode) and node.plain and node.value is not None:
            raw = self._document.shown(path, node.raw)
            text = Text(f"must be {english}: put {raw!r} in quotes", f"必须是{chinese}：请给 {raw!r} 加上引号")
        elif isinstance(node, ScalarNode) and not node.plain and not node.interpolated and _TEXT not in wanted:
            text = Text(f"must be {english}, and is text", f"必须是{chinese}，却是文本")
        return self._at(path, "wrong_type", text)

    def _node_type(self, path: KeyPath, kind: str, context: dict[str, Any]) -> Fault:
        known = [name.strip(" '") for name in str(context.get("expected_tags", "")).split(",") if name]
        types_text = ", ".join(known or NODE_TYPES)
        if kind == "union_tag_not_found":
            text = Text(f"the key 'type' is missing: one of {types_text}", f"缺少键 'type'：可用的有 {types_text}")
            return self._at(path, "missing_key", text, path=(*path, "type"), key=True)
        tag = self._document.shown((*path, "type"), context.get("tag"))
        if tag in NODE_TYPES:
            text = Text(
                f"a node of type {tag!r} cannot stand here; the types are {types_text}",
                f"{tag!r} 类型的节点不能放在此处；可用的类型有 {types_text}",
            )
        else:
            text = Text(
                f"there is no node type {tag!r}; the types are {types_text}",
                f"没有节点类型 {tag!r}；可用的类型有 {types_text}",
            )
        return self._at((*path, "type"), "unknown_node_type", text, closest(tag, known))

    def _choice(self, path: KeyPath, context: dict[str, Any]) -> Fault:
        expected = str(context.get("expected", ""))
        known = [part.strip(" '") for part in expected.replace(" or ", ", ").split(",")]
        node = self._document.node(path)
        given = str(node.value) if isinstance(node, ScalarNode) else ""
        text = Text(f"must be {expected}", f"必须是以下之一：{expected.replace(' or ', ', ')}")
        return self._at(path, "invalid_value", text, closest(given, known) if given else None)

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
        text: Text,
        suggestion: str | None = None,
        *,
        path: KeyPath | None = None,
        key: bool = False,
    ) -> Fault:
        place = self._document.place(place_path, key=key)
        shown = None if path is None else path_text(path)
        return fault_at(place, code, text, suggestion=suggestion, path=shown)


def _sentence(kind: str, error: Mapping[str, Any], context: dict[str, Any]) -> Text:
    if kind in _BOUNDS:
        return _BOUNDS[kind].filled(**{name: f"{value:g}" for name, value in context.items()})
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(context["pattern"]) or Text(
            f"must match {context['pattern']}", f"必须匹配 {context['pattern']}"
        )
    if kind in ("too_short", "string_too_short"):
        return Text("must not be empty", "不得为空")
    if kind in ("too_long", "string_too_long"):
        limit = context["max_length"]
        return Text(f"must have at most {limit} characters", f"最多 {limit} 个字符")
    return own_words(error)


def _missing(key: str | int) -> Text:
    return Text(f"the key {key!r} is missing", f"缺少键 {key!r}")


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
