"""Prompts: Jinja2 in a sandbox, compiled once, bounded in what they write and how long they loop.

Variables: the state's keys, `state`, `input` (the text of the last user message), `now` (an aware UTC time) and what
the place adds (the item of a `map`). An absent name is an error. Other prompt files of the workflow can be included
by their path.

    PromptInvalid   the text cannot be compiled
    PromptFailed    it could not be rendered (an absent name, too long)
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, cast

import jinja2
import orjson
from jinja2 import meta, nodes
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from modular_agent.engine.place import Place, closest
from modular_agent.errors import AgentError, Kind, Text

__all__ = ["MAX_OUTPUT", "MAX_ROUNDS", "Prompt", "PromptFailed", "PromptInvalid", "PromptSet"]

MAX_OUTPUT: Final = 1_000_000  # characters
MAX_PARTS: Final = 200_000  # items of one list or mapping that is written, those of its parts counted each time
MAX_ROUNDS: Final = 100_000  # numbers that all uses of range() in one rendering give

_NOTHING: Final[Mapping[str, Any]] = {}
_REMOVED_FILTERS: Final = ("batch", "center", "format", "pprint", "random", "slice", "urlize", "xmlattr")
_WRITING_FILTERS: Final = (  # those that make text of whatever they get
    *("capitalize", "e", "escape", "forceescape", "indent", "join", "lower", "replace", "safe", "string", "striptags"),
    *("title", "tojson", "trim", "truncate", "upper", "urlencode", "wordcount", "wordwrap"),
)
_GROWING_METHODS: Final = frozenset(
    {"center", "expandtabs", "format", "format_map", "join", "ljust", "replace", "rjust", "translate", "zfill"}
)


class PromptInvalid(AgentError):
    """A prompt that cannot be compiled. `line` counts from 1 within its text."""

    code = "prompt_invalid"
    kind = Kind.INVALID
    english = "The prompt {place} cannot be used: {reason}"
    chinese = "提示词 {place} 无法使用：{reason}"

    def __init__(self, *, file: str | None, line: int, reason: Text, suggestion: str | None = None) -> None:
        super().__init__(place=f"{file or 'text'}:{line}", reason=reason)
        self.file = file
        self.line = line
        self.reason = reason
        self.suggestion = suggestion


class PromptFailed(AgentError):
    """A prompt that could not be rendered."""

    code = "prompt_failed"
    kind = Kind.INVALID
    english = "The prompt {place} failed: {reason}"
    chinese = "提示词 {place} 渲染失败：{reason}"

    def __init__(self, *, place: Place, reason: str, suggestion: str | None = None) -> None:
        hint = f" (did you mean {suggestion!r}?)" if suggestion else ""
        super().__init__(place=str(place) or "text", reason=reason + hint)
        self.place = place
        self.suggestion = suggestion


class Prompt:
    """A compiled prompt. Safe to render from several threads.

    `names` are the variables that it reads, `includes` the files that it includes, `text` what it always says, once it
    is known that it has no variables and what it says. Made by `PromptSet`.
    """

    def __init__(
        self,
        template: jinja2.Template,
        *,
        file: str | None,
        place: Place,
        names: frozenset[str],
        includes: frozenset[str],
        is_constant: bool = False,
    ) -> None:
        self.file = file
        self.place = place
        self.names = names
        self.includes = includes
        self._template = template
        self._is_constant = is_constant
        self.text: str | None = None

    def render(self, state: Mapping[str, Any], *, now: datetime, extra: Mapping[str, Any] = _NOTHING) -> str:
        """The text. Raises `PromptFailed` with file and line.

        `state` may hold `messages` (for `input`); `extra` holds the place's own variables and wins.
        """
        text = self._render(state, now=now, extra=extra)
        if self._is_constant:
            self.text = text
        return text

    def _render(self, state: Mapping[str, Any], *, now: datetime, extra: Mapping[str, Any]) -> str:
        variables: dict[str, Any] = {**state, "state": state, "now": now, "range": _Rounds().range}
        if "input" in self.names or self.includes:
            variables["input"] = _last_input(state.get("messages") or ())
        variables.update(extra)
        try:
            return _joined(self._template.generate(variables))
        except jinja2.UndefinedError as error:
            name = _undefined_name(error)
            suggestion = closest(name, [key for key in variables if key != name]) if name else None
            raise self._failed(error, suggestion) from error
        except (jinja2.TemplateError, SecurityError, ArithmeticError, LookupError) as error:
            raise self._failed(error, None) from error
        except (AttributeError, TypeError, ValueError, RecursionError) as error:
            raise self._failed(error, None) from error

    def _failed(self, error: Exception, suggestion: str | None) -> PromptFailed:
        file, line = _last_template_line(error)
        if file is None:
            base = self.place.line
            line = base + line - 1 if base is not None and line is not None else line
            place = Place(self.place.file, line or base, None, self.place.path)
        else:
            place = Place(file, line)
        return PromptFailed(place=place, reason=str(error) or type(error).__name__, suggestion=suggestion)


class PromptSet:
    """Compiles the prompts of one workflow. `read` gives the text of a file that a prompt includes, or None."""

    def __init__(self, read: Callable[[str], str | None]) -> None:
        self._environment = _Sandbox(read)

    def prompt(self, text: str, *, file: str | None = None, place: Place | None = None) -> Prompt:
        """Compiles `text`; `file` is where it comes from, `place` where an inline text begins.

        Raises `PromptInvalid`, also for an included file that is missing or includes itself.
        """
        names: set[str] = set()
        includes: set[str] = set()
        self._collect(text, file, names, includes, ())
        template = self._environment.compiled(text, file)
        where = place or Place(file)
        return Prompt(
            template,
            file=file,
            place=where,
            names=frozenset(names),
            includes=frozenset(includes),
            is_constant=_is_constant(self._environment.tree(text, file)),
        )

    def _collect(
        self, text: str, file: str | None, names: set[str], includes: set[str], above: tuple[str, ...]
    ) -> None:
        tree = self._environment.tree(text, file)
        names |= self._environment.names(tree, file)
        for reference in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
            for name in _included(reference, file):
                if name in (*above, file):
                    reason = Text(f"{name} includes itself", f"{name} 包含了自身")
                    raise PromptInvalid(file=file, line=reference.lineno, reason=reason)
                content = self._environment.read(name)
                if content is None:
                    reason = Text(f"there is no file {name}", f"没有文件 {name}")
                    raise PromptInvalid(file=file, line=reference.lineno, reason=reason)
                includes.add(name)
                self._collect(content, name, names, includes, (*above, *([file] if file else [])))


def _is_constant(tree: nodes.Template) -> bool:
    """Whether a template is nothing but text."""
    return all(
        isinstance(node, nodes.Output) and all(isinstance(part, nodes.TemplateData) for part in node.nodes)
        for node in tree.body
    )


def _syntax(error: jinja2.TemplateSyntaxError) -> Text:
    """The template library's words."""
    message = error.message or "syntax error"
    return Text(message, f"模板语法错误：{message}")


def _included(reference: nodes.Node, file: str | None) -> Iterator[str]:
    target: Any = getattr(reference, "template", None)
    options: list[Any] = target.items if isinstance(target, (nodes.List, nodes.Tuple)) else [target]
    for option in options:
        if not isinstance(option, nodes.Const) or not isinstance(option.value, str):
            reason = Text(
                "an include names its file as text, such as {% include 'prompts/rules.md' %}",
                "include 须以文本给出文件名，如 {% include 'prompts/rules.md' %}",
            )
            raise PromptInvalid(file=file, line=reference.lineno, reason=reason)
        yield option.value


class _Joins(NodeTransformer):
    """Turns `a ~ b` into the join filter, which is bounded."""

    def visit_Concat(self, node: nodes.Concat, *args: Any, **kwargs: Any) -> nodes.Node:  # noqa: N802 (Jinja2's name)
        visited = cast("nodes.Concat", self.generic_visit(node, *args, **kwargs))
        items = nodes.List(visited.nodes, lineno=node.lineno)
        return nodes.Filter(items, "join", [], [], None, None, lineno=node.lineno)


class _Files(jinja2.BaseLoader):
    def __init__(self, read: Callable[[str], str | None]) -> None:
        self._read = read

    def get_source(self, environment: jinja2.Environment, template: str) -> tuple[str, str, Callable[[], bool]]:
        text = self._read(template)
        if text is None:
            raise jinja2.TemplateNotFound(template)
        return text, template, lambda: True


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja2 for prompts: strict, without HTML escapes, and no single operation makes more than `MAX_OUTPUT`."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, read: Callable[[str], str | None]) -> None:
        super().__init__(
            loader=_Files(read), undefined=jinja2.StrictUndefined, autoescape=False, finalize=_measured_value
        )
        self.read = read
        self.globals.pop("lipsum", None)
        for name in _REMOVED_FILTERS:
            self.filters.pop(name, None)
        self.filters |= {"tojson": _to_json, "join": _join, "replace": _replace, "indent": _indent}
        for name in _WRITING_FILTERS:
            self.filters[name] = _measured(self.filters[name])

    def tree(self, text: str, file: str | None) -> nodes.Template:
        """The syntax tree. Raises `PromptInvalid`."""
        try:
            return self.parse(text, file, file)
        except jinja2.TemplateSyntaxError as error:
            raise PromptInvalid(file=file, line=error.lineno, reason=_syntax(error)) from error
        except RecursionError as error:
            raise PromptInvalid(file=file, line=1, reason=Text("nested too deeply", "嵌套过深")) from error

    def names(self, tree: nodes.Template, file: str | None) -> set[str]:
        """The variables that the tree reads. Raises `PromptInvalid` for an unknown filter or test."""
        try:
            return meta.find_undeclared_variables(tree)
        except jinja2.TemplateSyntaxError as error:
            reason = error.message or ""
            word = reason.split("'")[1] if reason.startswith("No ") and reason.count("'") == 2 else None
            known: list[str] = [*cast("dict[str, Any]", self.filters), *cast("dict[str, Any]", self.tests)]
            suggestion = closest(word, known) if word else None
            raise PromptInvalid(file=file, line=error.lineno, reason=_syntax(error), suggestion=suggestion) from error

    def compiled(self, text: str, file: str | None) -> jinja2.Template:
        """The template. Raises `PromptInvalid`."""
        try:
            code = self.compile(text, file, file)
        except jinja2.TemplateSyntaxError as error:
            raise PromptInvalid(file=file, line=error.lineno, reason=_syntax(error)) from error
        return self.template_class.from_code(self, code, self.make_globals(None))

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        return cast("nodes.Template", _Joins().visit(super()._parse(source, name, filename)))

    def concat(self, parts: Iterable[str]) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _joined(parts)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """A key of a mapping wins over its method: `state.items` is the key, if there is one."""
        if isinstance(obj, Mapping) and attribute in obj:
            return cast("Mapping[str, Any]", obj)[attribute]
        return super().getattr(obj, attribute)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, str) and attr in _GROWING_METHODS:
            return False
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> None:
        """Nothing is formatted by str.format: its widths have no bound."""

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "+":
            _bound(_size(left) + _size(right))
        elif operator == "*":
            _bound(_size(left) * _count(right), _size(right) * _count(left))
        elif operator == "**" and (abs(_count(left)) > 1_000_000 or abs(_count(right)) > 64):
            raise SecurityError("the power is too large")
        elif operator == "%" and isinstance(left, str):
            raise SecurityError("formatting with % cannot be used in prompts")
        return super().call_binop(context, operator, left, right)


class _Rounds:
    """The budget of range() in one rendering."""

    def __init__(self) -> None:
        self._left = MAX_ROUNDS

    def range(self, *bounds: int) -> range:
        numbers = range(*bounds)
        self._left -= len(numbers)
        if self._left < 0:
            raise SecurityError(f"range() gives at most {MAX_ROUNDS} numbers in one prompt")
        return numbers


def _joined(parts: Iterable[str]) -> str:
    collected: list[str] = []
    size = 0
    for part in parts:
        size += len(part)
        _bound(size)
        collected.append(part)
    return "".join(collected)


def _bound(*sizes: int) -> None:
    if max(sizes) > MAX_OUTPUT:
        raise SecurityError(f"the prompt is longer than {MAX_OUTPUT} characters")


def _measured_value(value: Any) -> Any:
    """The value, unless it holds too many parts: lists of the same lists grow fast."""
    waiting = [value]
    parts = 0
    while waiting:
        part = waiting.pop()
        if isinstance(part, (list, tuple, dict)):
            container = cast("dict[Any, Any] | Sequence[Any]", part)
            inner = list(container.values()) if isinstance(container, dict) else container
            parts += len(inner)
            if parts > MAX_PARTS:
                raise SecurityError(f"the value holds more than {MAX_PARTS} parts")
            waiting.extend(inner)
    return value


def _measured(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        for argument in arguments:
            _measured_value(argument)
        return function(*arguments, **options)

    return call


def _size(value: Any) -> int:
    return len(cast("Sequence[Any]", value)) if isinstance(value, (str, list, tuple)) else 0


def _count(value: Any) -> int:
    return int(value) if isinstance(value, (int, float)) else 0


def _to_json(value: Any, indent: int | None = None) -> str:
    """JSON as a model reads it: no HTML escapes, no ASCII escapes."""
    if isinstance(value, jinja2.Undefined):
        str(value)  # raises, as any use of an absent name does
    option = orjson.OPT_INDENT_2 if indent else 0
    text = orjson.dumps(value, default=_plain, option=option).decode()
    _bound(len(text))
    return text


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, Any]", value))
    if isinstance(value, Iterable):
        return list(cast("Iterable[Any]", value))
    raise TypeError("the value is no JSON")


def _join(value: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
    def texts() -> Iterator[str]:
        for index, item in enumerate(value):
            if index:
                yield d
            yield str(item if attribute is None else item[attribute])

    return _joined(texts())


def _replace(value: str, old: str, new: str, count: int | None = None) -> str:
    text = str(value)
    rounds = text.count(old) if count is None else min(text.count(old), count)
    _bound(len(text) + rounds * len(new))
    return text.replace(old, new, -1 if count is None else count)


def _indent(value: str, width: int = 4, first: bool = False, blank: bool = False) -> str:
    padding = " " * min(max(width, 0), 80)
    lines = str(value).splitlines()
    indented = [padding + line if (line or blank) and (index or first) else line for index, line in enumerate(lines)]
    return _joined("\n".join(indented))


def _last_input(messages: Sequence[Mapping[str, Any]]) -> str:
    for message in reversed(messages):
        if message.get("role") == "user":
            content: Any = message.get("content")
            if isinstance(content, str):
                return content
            parts = cast("list[dict[str, Any]]", content or [])
            return "".join(str(part.get("text", "")) for part in parts if part.get("type") == "text")
    return ""


def _undefined_name(error: jinja2.UndefinedError) -> str | None:
    message = str(error)
    return message.split("'")[1] if message.count("'") >= 2 and message.endswith("is undefined") else None


def _last_template_line(error: Exception) -> tuple[str | None, int | None]:
    """File and line of the innermost template frame; Jinja2 rewrites tracebacks to the lines of the templates."""
    file, line = None, None
    trace = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        if "__jinja_exception__" in frame.f_globals:
            name = frame.f_code.co_filename
            file, line = (None if name == "<template>" else name), trace.tb_lineno
        trace = trace.tb_next
    return file, line
