"""From YAML events to a tree of nodes, within bounds."""

import json
import re
from collections.abc import Iterator
from typing import Any, Final, cast

import yaml

from modular_agent.engine.spec.errors import WorkflowInvalid
from modular_agent.engine.spec.nodes import (
    Entry,
    MappingNode,
    Mark,
    Node,
    NumberUnusable,
    ScalarNode,
    SequenceNode,
    resolve_plain,
)
from modular_agent.errors import Fault, Text

__all__ = ["MAX_CHARACTERS", "MAX_DEPTH", "MAX_NODES", "Composer"]

MAX_CHARACTERS: Final = 1_000_000
MAX_DEPTH: Final = 64
MAX_NODES: Final = 50_000  # values in all, every alias counted as the copy that it stands for

_CONTROL = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_SURROGATES = re.compile(r"(?<!\\)((?:\\\\)*)\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")
_CORE = "tag:yaml.org,2002:"
_KINDS = {"Scalar": ("str", "int", "float", "bool", "null"), "Sequence": ("seq",), "Mapping": ("map",)}
_SEVERAL: Final = Text("the file holds more than one document", "文件中有多个文档")
_TOO_DEEP: Final = Text(f"the file is nested deeper than {MAX_DEPTH} levels", f"文件的嵌套超过 {MAX_DEPTH} 层")
_TAB: Final = Text("a tab cannot be used for indentation; use spaces", "不能用制表符缩进；请使用空格")
_NO_HINT: Final = Text("", "")


class _Frame:
    """A collection that is being read; `key` is the mapping's key that waits for its value."""

    __slots__ = ("anchor", "expects_key", "key", "merges", "node")

    def __init__(self, node: SequenceNode | MappingNode, anchor: str | None) -> None:
        self.node = node
        self.anchor = anchor
        self.key: tuple[str, Mark] | None = None
        self.expects_key = isinstance(node, MappingNode)
        self.merges: list[Node] = []


class Composer:
    """Reads one text. `faults` holds what is wrong but did not stop the reading; `compose` raises what did."""

    def __init__(self, text: str, *, file: str | None) -> None:
        self.file = file
        self.faults: list[Fault] = []
        self._text = text
        self._shifts: list[tuple[int, int]] = []  # (line, column in the replaced text) where 2 characters went away
        self._anchors: dict[str, Node] = {}
        self._stack: list[_Frame] = []
        self._root: Node | None = None
        self._nodes = 0

    def compose(self) -> Node | None:
        """The root node, None for an empty text. Raises `WorkflowInvalid`."""
        text = self._checked()
        loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C parser where the wheel has it
        documents = 0
        try:
            for event in self._events(text, loader):
                if isinstance(event, yaml.DocumentStartEvent):
                    documents += 1
                    if documents > 1:
                        raise self._stop("several_documents", _SEVERAL, event)
                else:
                    self._take(event)
        except yaml.MarkedYAMLError as error:
            raise self._syntax(error) from None
        except yaml.YAMLError as error:
            raise WorkflowInvalid([self._fault("yaml_syntax", _yaml(str(error), _NO_HINT), Mark(1, 1, 0))]) from None
        return self._root

    def _events(self, text: str, loader: Any) -> Iterator[Any]:  # the stubs know no types
        parse = cast("Any", yaml.parse)  # pyright: ignore[reportUnknownMemberType]
        yield from parse(text, Loader=loader)

    def _checked(self) -> str:
        if len(self._text) > MAX_CHARACTERS:
            text = Text(f"the file is longer than {MAX_CHARACTERS} characters", f"文件超过 {MAX_CHARACTERS} 个字符")
            raise WorkflowInvalid([self._fault("file_too_large", text, Mark(1, 1, 0))])
        bad = _CONTROL.search(self._text)
        if bad:
            before = self._text[: bad.start()]
            mark = Mark(before.count("\n") + 1, bad.start() - before.rfind("\n"), bad.start())
            name = f"U+{ord(bad[0]):04X}"
            text = Text(f"the character {name} cannot be used", f"不能使用字符 {name}")
            raise WorkflowInvalid([self._fault("yaml_syntax", text, mark)])
        return self._json_as_yaml() if self._text.lstrip()[:1] in ("{", "[") else self._text

    def _json_as_yaml(self) -> str:
        r"""What YAML reads otherwise than JSON: tabs between values, and characters beyond U+FFFF as two `\u` escapes.

        A tab becomes a space (JSON has none inside of texts), two escapes one `\U` of 8 digits.
        """
        if "\t" not in self._text and not _SURROGATES.search(self._text):
            return self._text
        try:
            json.loads(self._text)
        except (ValueError, RecursionError):
            return self._text
        lines: list[str] = []
        for number, line in enumerate(self._text.replace("\t", " ").split("\n"), start=1):
            lines.append(self._joined_line(line, number))
        return "\n".join(lines)

    def _joined_line(self, line: str, number: int) -> str:
        removed = 0

        def join(match: re.Match[str]) -> str:
            nonlocal removed
            code = 0x10000 + ((int(match[2], 16) - 0xD800) << 10) + int(match[3], 16) - 0xDC00
            self._shifts.append((number, match.end() - removed - 2))
            removed += 2
            return f"{match[1]}\\U{code:08X}"

        return _SURROGATES.sub(join, line)

    def _mark(self, mark: Any) -> Mark:  # yaml.Mark, or the C parser's class of the same attributes
        line, column = mark.line + 1, mark.column + 1
        before = sum(2 for at, end in self._shifts if at < line or (at == line and end < column))
        same = sum(2 for at, end in self._shifts if at == line and end < column)
        return Mark(line, column + same, mark.index + before)

    def _take(self, event: Any) -> None:  # the events have no common typed base
        if isinstance(event, yaml.ScalarEvent):
            self._place(self._scalar(event), event)
        elif isinstance(event, yaml.AliasEvent):
            node = self._anchors.get(event.anchor)
            if node is None:
                name = f"&{event.anchor}"
                text = Text(f"there is no anchor {name} before this alias", f"此别名之前没有锚点 {name}")
                raise self._stop("unknown_alias", text, event)
            self._place(node, event)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._open(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._close(event)

    def _open(self, event: Any) -> None:
        mark = self._mark(event.start_mark)
        mapping = isinstance(event, yaml.MappingStartEvent)
        self._check_tag(event, "Mapping" if mapping else "Sequence")
        if self._stack and self._stack[-1].expects_key:
            raise self._stop("key_not_text", Text("a key must be text", "键必须是文本"), event)
        if len(self._stack) >= MAX_DEPTH:
            raise self._stop("too_deep", _TOO_DEEP, event)
        self._stack.append(_Frame(MappingNode(mark) if mapping else SequenceNode(mark), event.anchor))

    def _close(self, event: Any) -> None:
        frame = self._stack.pop()
        node = frame.node
        if isinstance(node, MappingNode):
            self._merge(node, frame.merges, event)
        children = list(_children(node))
        node.size = 1 + sum(child.size for child in children)
        node.depth = 1 + max((child.depth for child in children), default=0)
        if node.depth > MAX_DEPTH:
            raise self._stop("too_deep", _TOO_DEEP, event)
        if frame.anchor:
            self._anchors[frame.anchor] = node
        self._place(node, event)

    def _place(self, node: Node, event: Any) -> None:
        self._nodes += node.size if isinstance(event, yaml.AliasEvent) else 1
        if self._nodes > MAX_NODES:
            text = Text(f"the file holds more than {MAX_NODES} values", f"文件中的值超过 {MAX_NODES} 个")
            raise self._stop("too_many_values", text, event)
        if not self._stack:
            self._root = node
            return
        frame = self._stack[-1]
        if isinstance(frame.node, SequenceNode):
            frame.node.items.append(node)
        elif frame.expects_key:
            frame.key, frame.expects_key = self._key(node, event), False
        else:
            self._entry(frame, frame.node, node)
            frame.key, frame.expects_key = None, True

    def _entry(self, frame: _Frame, mapping: MappingNode, node: Node) -> None:
        if frame.key is None:
            return  # its key was a fault
        name, mark = frame.key
        if name == "<<":
            frame.merges.append(node)
        elif name in mapping.entries:
            first = mapping.entries[name].key
            text = Text(
                f"the key {name!r} is here a second time (first in line {first.line})",
                f"键 {name!r} 重复出现（首次在第 {first.line} 行）",
            )
            self.faults.append(self._fault("duplicate_key", text, mark))
        else:
            mapping.entries[name] = Entry(mark, node)

    def _key(self, node: Node, event: Any) -> tuple[str, Mark] | None:
        mark = self._mark(event.start_mark)
        if isinstance(node, ScalarNode) and isinstance(node.value, str):
            return node.value, mark
        text = Text("a key must be text", "键必须是文本")
        if isinstance(node, ScalarNode) and node.raw:
            text = Text(f"a key must be text: put {node.raw!r} in quotes", f"键必须是文本：请给 {node.raw!r} 加上引号")
        self.faults.append(self._fault("key_not_text", text, mark))
        return None

    def _merge(self, mapping: MappingNode, merges: list[Node], event: Any) -> None:
        """YAML's `<<`: the keys of other mappings, where this one does not have them itself."""
        for merge in merges:
            for source in merge.items if isinstance(merge, SequenceNode) else [merge]:
                if not isinstance(source, MappingNode):
                    raise self._stop(
                        "bad_merge",
                        Text("<< takes a mapping, or a list of mappings", "<< 后须为映射或映射的列表"),
                        event,
                    )
                for name, entry in source.entries.items():
                    mapping.entries.setdefault(name, entry)

    def _scalar(self, event: Any) -> ScalarNode:
        self._check_tag(event, "Scalar")
        start, end = self._mark(event.start_mark), self._mark(event.end_mark)
        plain = not event.style
        node = ScalarNode(start, end, event.value, plain, event.value)
        if plain and (event.tag is None or event.tag in ("?", "!")) and event.implicit[0]:
            try:
                node.value = resolve_plain(event.value)
            except NumberUnusable as error:
                self.faults.append(self._fault("bad_number", error.text, start))
        elif event.tag and event.tag not in ("!", f"{_CORE}str"):
            self._retag(node, event.tag.removeprefix(_CORE))
        if event.anchor:
            self._anchors[event.anchor] = node
        return node

    def _retag(self, node: ScalarNode, kind: str) -> None:
        wanted: Any = {"int": int, "float": (int, float), "bool": bool, "null": type(None)}[kind]
        try:
            value = resolve_plain(node.raw)
        except ValueError:
            value = node.raw
        if not isinstance(value, wanted) or (isinstance(value, bool) and kind != "bool"):
            self.faults.append(
                self._fault("bad_tag", Text(f"this is not of the type !!{kind}", f"这不是 !!{kind} 类型"), node.start)
            )
        node.value = float(value) if kind == "float" and isinstance(value, int) else value

    def _check_tag(self, event: Any, kind: str) -> None:
        if event.tag and event.tag not in ("!", "?") and event.tag not in [_CORE + name for name in _KINDS[kind]]:
            raise self._stop(
                "unsupported_tag", Text(f"the tag {event.tag} cannot be used", f"不能使用标签 {event.tag}"), event
            )

    def _syntax(self, error: yaml.MarkedYAMLError) -> WorkflowInvalid:
        problem: str = error.problem or error.context or "this is not YAML"
        mark = self._mark(error.problem_mark or error.context_mark)
        lines = self._text.split("\n")
        line = lines[mark.line - 1] if mark.line <= len(lines) else ""
        indentation = line[: len(line) - len(line.lstrip())]
        if "\t" in indentation:
            mark = Mark(mark.line, indentation.index("\t") + 1, mark.index)
            return WorkflowInvalid([self._fault("yaml_syntax", _TAB, mark)])
        hint = _NO_HINT
        if problem == "mapping values are not allowed in this context":
            hint = Text(" (text with ': ' in it needs quotes)", "（含“: ”的文本需要加引号）")
        elif "${" in line and "did not find expected" in problem:
            hint = Text(" (${...} needs quotes inside { } and [ ])", "（{ } 与 [ ] 内的 ${...} 需要加引号）")
        elif problem == "found character that cannot start any token":
            hint = Text(" (text that starts with %, @ or ` needs quotes)", "（以 %、@ 或 ` 开头的文本需要加引号）")
        return WorkflowInvalid([self._fault("yaml_syntax", _yaml(problem, hint), mark)])

    def _stop(self, code: str, text: Text, event: Any) -> WorkflowInvalid:
        return WorkflowInvalid([*self.faults, self._fault(code, text, self._mark(event.start_mark))])

    def _fault(self, code: str, text: Text, mark: Mark) -> Fault:
        return Fault(code=code, text=text, file=self.file, line=mark.line, column=mark.column)


def _yaml(problem: str, hint: Text) -> Text:
    """The parser's words, and what may help."""
    return Text(f"{problem}{hint.english}", f"不是有效的 YAML：{problem}{hint.chinese}")


def _children(node: SequenceNode | MappingNode) -> Iterator[Node]:
    if isinstance(node, SequenceNode):
        yield from node.items
    else:
        yield from (entry.node for entry in node.entries.values())
