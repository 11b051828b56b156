"""YAML or JSON text as data that knows where each key and value stands.

The text is read as a stream of events, never by a recursive composer, so depth and size are bounded while it is read
and an alias costs what its copy would.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from modular_agent.engine.place import KeyPath, Place, fault_at, path_text
from modular_agent.engine.spec.compose import Composer
from modular_agent.engine.spec.interpolation import interpolate
from modular_agent.engine.spec.nodes import (
    Entry,
    MappingNode,
    Mark,
    Node,
    ScalarNode,
    SequenceNode,
    resolve_plain,
    to_data,
)
from modular_agent.errors import Fault, Text

__all__ = ["Document", "read_document"]

_PREFIX = re.compile(r"(?:[&!][^\s]*\s+)+")
_ESCAPE = re.compile(r"\\(?:x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)")
_CONTINUATION = re.compile(r"(?:\\\r?\n[ \t]*)+")  # in double quotes, a line that goes on: no character at all


class Document:
    """A text that was read: `data()` for its content, `place(path)` for where a key path stands.

    `root` is None for an empty text. Values have their `${env.NAME}` filled in. `faults` holds what is wrong with
    single keys and values: doubled keys, keys that are not text, numbers out of range, missing variables.
    """

    def __init__(self, text: str, root: Node | None, *, file: str | None) -> None:
        self.text = text
        self.file = file
        self.root = root
        self.faults: list[Fault] = []

    def data(self) -> Any:  # JSON: what the models validate
        """The content as plain dicts, lists and scalars."""
        return None if self.root is None else to_data(self.root)

    def node(self, path: KeyPath) -> Node | None:
        """The node at `path`, or None."""
        node = self.root
        for part in path:
            entry = _child(node, part)
            if entry is None:
                return None
            node = entry.node
        return node

    def place(self, path: KeyPath, *, key: bool = False, offset: int | None = None) -> Place:
        """Where the value at `path` stands (`key`: its key); for a path that is not there, the nearest one above it.

        `offset` counts characters into a text value; quotes, escapes, indentation and folding are accounted for.
        """
        node, mark = self.root, Mark(1, 1, 0) if self.root is None else self.root.start
        for depth, part in enumerate(path):
            entry = _child(node, part)
            if entry is None:
                break
            node = entry.node
            mark = entry.key if key and depth == len(path) - 1 else node.start
        else:
            if offset is not None and not key and isinstance(node, ScalarNode) and not node.interpolated:
                mark = _inside(self.text, node, offset)
        return Place(self.file, mark.line, mark.column, path_text(path))

    def key_place(self, path: KeyPath) -> Place:
        """Where the last key of `path` stands."""
        return self.place(path, key=True)

    def shown(self, path: KeyPath, value: object) -> str:
        """`value` for a message: as the file says it, so that nothing of the environment is told."""
        node = self.node(path)
        return node.raw if isinstance(node, ScalarNode) and node.interpolated else str(value)

    def flip(self, paths: Iterable[KeyPath]) -> bool:
        """Takes the other reading of the interpolated values at `paths`; False if there is none.

        A value that stands at several paths through aliases is turned once.
        """
        nodes = {id(node): node for path in paths if isinstance(node := self.node(path), ScalarNode)}
        turned = [node for node in nodes.values() if node.interpolated and node.value != node.alternative]
        for node in turned:
            node.value, node.alternative = node.alternative, node.value
        return bool(turned)


def read_document(text: str, *, file: str | None = None, environment: Mapping[str, str] | None = None) -> Document:
    """Reads `text`; with an `environment`, fills `${env.NAME}` in from it.

    Raises `WorkflowInvalid` for what stops the reading (the first syntax error, a bound that is passed); what does not
    is in the document's `faults`.
    """
    composer = Composer(text, file=file)
    document = Document(text, composer.compose(), file=file)
    document.faults += composer.faults
    if environment is not None:
        document.faults += _interpolate(document, environment)
    return document


def not_a_mapping(document: Document) -> Fault:
    """What is wrong with a document whose root is no mapping."""
    place = document.place(())
    if document.data() is None:
        return fault_at(place, "empty_file", Text("the file is empty", "文件为空"))
    return fault_at(place, "wrong_type", Text("the file must be a mapping", "文件必须是映射"))


def _interpolate(document: Document, environment: Mapping[str, str]) -> Iterator[Fault]:
    for path, node in _scalars(document.root):
        if node.interpolated or not isinstance(node.value, str) or "${" not in node.value:
            continue
        result = interpolate(node.value, environment=environment)
        place = document.place(path)
        for name in result.missing:
            text = Text(
                f"the environment variable {name} is not set; set it, or write ${{env.{name}:-default}}",
                f"环境变量 {name} 未设置；请设置它，或写成 ${{env.{name}:-默认值}}",
            )
            yield fault_at(place, "missing_environment_variable", text)
        if result.malformed:
            text = Text(
                "write ${env.NAME} or ${env.NAME:-default}; $${ stands for ${",
                "请写成 ${env.NAME} 或 ${env.NAME:-默认值}；$${ 表示 ${",
            )
            yield fault_at(place, "bad_interpolation", text)
        _fill(node, result.text, used=result.used)


def _fill(node: ScalarNode, text: str, *, used: bool) -> None:
    if not used:
        node.value, node.interpolated = text, True
        node.alternative = text
        return
    try:
        resolved = resolve_plain(text)
    except ValueError:
        resolved = text
    node.interpolated = True
    node.value, node.alternative = (resolved, text) if node.plain else (text, resolved)


def _scalars(root: Node | None) -> Iterator[tuple[KeyPath, ScalarNode]]:
    """Every scalar once, an aliased one at its first place, in file order."""
    seen: set[int] = set()
    stack: list[tuple[KeyPath, Node]] = [] if root is None else [((), root)]
    while stack:
        path, node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, ScalarNode):
            yield path, node
        elif isinstance(node, SequenceNode):
            stack += [((*path, index), item) for index, item in reversed(list(enumerate(node.items)))]
        else:
            stack += [((*path, key), entry.node) for key, entry in reversed(node.entries.items())]


def _child(node: Node | None, part: str | int) -> Entry | None:
    if isinstance(node, MappingNode) and isinstance(part, str):
        return node.entries.get(part)
    if isinstance(node, SequenceNode) and isinstance(part, int) and 0 <= part < len(node.items):
        item = node.items[part]
        return Entry(item.start, item)
    return None


def _inside(text: str, node: ScalarNode, offset: int) -> Mark:
    """The place of the character `offset` of the node's value, found by walking value and source side by side."""
    source, value = text[node.start.index : node.end.index], node.raw
    prefix = _PREFIX.match(source)
    position = prefix.end() if prefix else 0
    quote = source[position : position + 1] if not node.plain else ""
    if quote in ("|", ">"):
        position = source.find("\n", position) + 1
    elif quote:
        position += 1
    for wanted in value[:offset]:
        position = _advance(source, position, wanted, quote)
    following = value[offset : offset + 1]
    if following and not following.isspace():
        position = _skip_space(source, position, quote)
    return _shift(node.start, source[:position])


def _advance(source: str, position: int, wanted: str, quote: str) -> int:
    if not wanted.isspace():
        position = _skip_space(source, position, quote)
    elif quote == '"' and (continued := _CONTINUATION.match(source, position)):
        position = continued.end()
    if quote == '"' and source[position : position + 1] == "\\":
        match = _ESCAPE.match(source, position)
        return match.end() if match else position + 1
    if quote == "'" and wanted == "'":
        return position + 2
    if wanted.isspace() and not source[position : position + 1].isspace():
        return position  # a line break that folding made
    return position + 1


def _skip_space(source: str, position: int, quote: str) -> int:
    while True:
        if source[position : position + 1].isspace():
            position += 1
        elif quote == '"' and (continued := _CONTINUATION.match(source, position)):
            position = continued.end()
        else:
            return position


def _shift(start: Mark, passed: str) -> Mark:
    lines = passed.count("\n")
    column = len(passed) - passed.rfind("\n") if lines else start.column + len(passed)
    return Mark(start.line + lines, column, start.index + len(passed))
