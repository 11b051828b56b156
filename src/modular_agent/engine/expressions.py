"""Conditions and expressions of a workflow, in CEL (https://cel.dev), compiled once.

Variables: `state` (its keys), `has_tool_calls`, `last_message`, `message_count`, and what the place adds (`input` for
approvals, the item's name in the body of a `map`). CEL's extensions strings, math, bindings and optional are on, so
`state.?score.orValue(0.0)` reads a key that may be absent.

    ExpressionInvalid     the text cannot be compiled; `problems` says why, each with line and column in the text
    ExpressionFailed      it could not be evaluated (an absent key, a wrong type)
    └── ConditionFailed   the same of a condition
"""

import base64
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

import orjson
from cel_expr_python import cel
from cel_expr_python.ext import ext_bindings, ext_math, ext_optional, ext_strings

from modular_agent.engine.cel_tree import reads
from modular_agent.engine.place import Place, closest
from modular_agent.errors import AgentError, Kind, Text
from modular_agent.kit.dataclass import dataclass

__all__ = [
    "MAX_EXPRESSION",
    "VARIABLES",
    "Condition",
    "ConditionFailed",
    "Expression",
    "ExpressionFailed",
    "ExpressionInvalid",
    "ExpressionProblem",
    "Expressions",
]

VARIABLES: Final = ("state", "has_tool_calls", "last_message", "message_count")
MAX_EXPRESSION: Final = 4_000  # characters

_NOTHING: Final[Mapping[str, Any]] = {}
_NO_PLACE: Final = Place()
_ERROR = re.compile(
    r"ERROR: <input>:(-?\d+):(-?\d+): (.*?)(?=\nERROR: <input>:|\n \||\s*\[INVALID_ARGUMENT\]|\Z)", re.DOTALL
)
_STATUS = re.compile(r"^[A-Z_]+: ")
_ABSENT = re.compile(r'Key not found in map : "(.*)"')
_UNDECLARED = re.compile(r"undeclared reference to '([^']*)' \(in container '[^']*'\)")


@dataclass(frozen=True, slots=True)
class ExpressionProblem:
    """What is wrong with an expression; line and column (characters, from 1) are within its text."""

    line: int
    column: int
    text: Text
    suggestion: str | None = None


class ExpressionInvalid(AgentError):
    """An expression that cannot be compiled."""

    code = "expression_invalid"
    kind = Kind.INVALID
    english = "The expression {expression} cannot be used: {reason}"
    chinese = "表达式 {expression} 无法使用：{reason}"

    def __init__(self, expression: str, problems: Sequence[ExpressionProblem]) -> None:
        super().__init__(expression=expression, reason=_together(problems))
        self.problems = tuple(problems)


def _together(problems: Sequence[ExpressionProblem]) -> Text:
    return Text("; ".join(each.text.english for each in problems), "；".join(each.text.chinese for each in problems))


class ExpressionFailed(AgentError):
    """An expression that could not be evaluated."""

    code = "expression_failed"
    kind = Kind.INVALID
    english = "The expression {expression} ({place}) failed: {reason}"
    chinese = "表达式 {expression}（{place}）求值失败：{reason}"

    def __init__(self, expression: str, *, place: Place, reason: str) -> None:
        super().__init__(expression=expression, place=str(place) or "-", reason=reason)
        self.place = place


class ConditionFailed(ExpressionFailed):
    """A condition that could not be evaluated, or is neither true nor false."""

    code = "condition_failed"
    english = "The condition {expression} ({place}) failed: {reason}"
    chinese = "条件 {expression}（{place}）求值失败：{reason}"


class Expression:
    """A compiled expression. Safe to evaluate from several threads.

    `state_keys` are the keys of the state that it reads, `names` the variables, `result` CEL's name of the result's
    type (`dyn` when only the evaluation tells). Made by `Expressions`.

    The commonest of all, `has_tool_calls` alone, is answered without a conversion for CEL.
    """

    failure: type[ExpressionFailed] = ExpressionFailed

    def __init__(self, text: str, program: cel.Expression, *, variables: tuple[str, ...], place: Place) -> None:
        self.text = text
        self.place = place
        found = reads(program.serialize(), root="state")
        self.state_keys = frozenset(found.keys)
        self.names = frozenset(found.names)
        self.uses_whole_state = found.whole
        self.result = program.return_type().name().lower()
        self._program = program
        self._keys = tuple(sorted(found.keys))
        self._extra = tuple(name for name in variables if name in found.names)
        self._reads_state = "state" in found.names
        self._reads_last = "last_message" in found.names
        self._reads_calls = "has_tool_calls" in found.names
        self._reads_count = "message_count" in found.names
        self._asks_for_calls = text.strip() == "has_tool_calls"

    def evaluate(self, state: Mapping[str, Any], *, extra: Mapping[str, Any] = _NOTHING) -> Any:
        """The value as JSON (times as RFC 3339 text, durations as seconds). Raises `ExpressionFailed`.

        `state` needs `messages` for the variables about messages; `extra` holds the place's own variables. Only the
        keys that the expression names are looked at.
        """
        if self._asks_for_calls:
            return _has_tool_calls(_last(state))
        try:
            value = self._program.eval(data=self._view(state, extra))
            if value.type() == cel.Type.ERROR:
                raise self._failed(str(value.value()))
            return _json(value.plain_value())
        except (RuntimeError, TypeError, ValueError) as error:
            raise self._failed(str(error)) from error

    def _view(self, state: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
        view: dict[str, Any] = {}
        if self._reads_state:
            view["state"] = {key: _plain(state[key]) for key in self._keys if key in state}
        for name in self._extra:
            if name in extra:
                view[name] = _plain(extra[name])
        if self._reads_count or self._reads_last or self._reads_calls:
            last = _last(state)
            if self._reads_count:
                view["message_count"] = len(state.get("messages") or ())
            if self._reads_last:
                view["last_message"] = _plain(last)
            if self._reads_calls:
                view["has_tool_calls"] = _has_tool_calls(last)
        return view

    def _failed(self, reason: str) -> ExpressionFailed:
        reason = _STATUS.sub("", reason.strip().strip("'"))
        absent = _ABSENT.search(reason)
        if "Unable to convert function return value" in reason:
            reason = "it gives an optional value; end it with .orValue(...)"
        elif absent:
            key = absent[1]
            reason = f"there is no key {key!r}"
            if key in self.state_keys:
                reason += f" in the state; write has(state.{key}) && ..., or state.?{key}.orValue(...)"
        return self.failure(self.text, place=self.place, reason=reason)


class Condition(Expression):
    """An expression that is true or false."""

    failure = ConditionFailed

    def evaluate(self, state: Mapping[str, Any], *, extra: Mapping[str, Any] = _NOTHING) -> bool:
        """Raises `ConditionFailed`, also when the value is neither true nor false."""
        value = super().evaluate(state, extra=extra)
        if not isinstance(value, bool):
            raise self._failed(f"it must be true or false, and is {type(value).__name__}")
        return value


class Expressions:
    """Compiles expressions. Holds one CEL environment for each set of variables."""

    def __init__(self) -> None:
        self._environments: dict[tuple[str, ...], cel.Env] = {}

    def expression(self, text: str, *, variables: Iterable[str] = (), place: Place = _NO_PLACE) -> Expression:
        """Compiles `text`; `variables` are those that the place adds. Raises `ExpressionInvalid`."""
        names = tuple(variables)
        program = self._compile(text, names)
        return _checked(Expression(text, program, variables=names, place=place))

    def condition(self, text: str, *, variables: Iterable[str] = (), place: Place = _NO_PLACE) -> Condition:
        """Compiles `text`, which must be true or false. Raises `ExpressionInvalid`."""
        names = tuple(variables)
        program = self._compile(text, names)
        if program.return_type() not in (cel.Type.BOOL, cel.Type.DYN):
            given = program.return_type().name().lower()
            said = Text(f"a condition must be true or false; this gives {given}", f"条件须为真或假；此处得出 {given}")
            raise ExpressionInvalid(text, [ExpressionProblem(1, 1, said)])
        return _checked(Condition(text, program, variables=names, place=place))

    def _compile(self, text: str, names: tuple[str, ...]) -> cel.Expression:
        if len(text) > MAX_EXPRESSION:
            said = Text(f"an expression has at most {MAX_EXPRESSION} characters", f"表达式最多 {MAX_EXPRESSION} 个字符")
            raise ExpressionInvalid(text[:100], [ExpressionProblem(1, 1, said)])
        try:
            program = self._environment(names).compile(text)
        except (RuntimeError, ValueError) as error:
            raise ExpressionInvalid(text, list(_problems(str(error), text, (*VARIABLES, *names)))) from error
        if program.return_type().name().startswith("optional_type"):
            said = Text(
                "this gives an optional value; end it with .orValue(...)", "此处得出可选值；请以 .orValue(...) 结尾"
            )
            raise ExpressionInvalid(text, [ExpressionProblem(1, 1, said)])
        return program

    def _environment(self, names: tuple[str, ...]) -> cel.Env:
        if names not in self._environments:
            text_map = cel.Type.Map(cel.Type.STRING, cel.Type.DYN)
            variables = {"state": text_map, "last_message": text_map}
            variables |= {"has_tool_calls": cel.Type.BOOL, "message_count": cel.Type.INT}
            variables |= dict.fromkeys(names, cel.Type.DYN)
            extensions = [ext_strings.ExtStrings(), ext_math.ExtMath()]
            extensions += [ext_bindings.ExtBindings(), ext_optional.ExtOptional()]
            self._environments[names] = cel.NewEnv(variables=variables, extensions=extensions)
        return self._environments[names]


def _last(state: Mapping[str, Any]) -> Mapping[str, Any]:
    messages: Sequence[Mapping[str, Any]] = state.get("messages") or ()
    return messages[len(messages) - 1] if messages else _NOTHING


def _has_tool_calls(message: Mapping[str, Any]) -> bool:
    return message.get("role") == "assistant" and bool(message.get("tool_calls"))


def _checked(expression: Any) -> Any:  # an Expression or a Condition, the same comes back
    if expression.uses_whole_state:
        said = Text(
            "name the keys of the state that are meant: state.KEY or state['KEY']",
            "请指明所用的状态键：state.KEY 或 state['KEY']",
        )
        raise ExpressionInvalid(expression.text, [ExpressionProblem(1, 1, said)])
    return expression


def _problems(report: str, text: str, names: Sequence[str]) -> Iterator[ExpressionProblem]:
    """Google's compiler writes `ERROR: <input>:LINE:COLUMN: MESSAGE` and a drawing of the place, for each error."""
    found = list(_ERROR.finditer(report))
    if not found:
        yield ExpressionProblem(1, 1, _of_compiler(_STATUS.sub("", report).strip()))
    for match in found:
        line, column, message = max(int(match[1]), 1), max(int(match[2]), 1), match[3].strip()
        undeclared = _UNDECLARED.search(message)
        if undeclared is None:
            yield ExpressionProblem(line, column, _of_compiler(message))
            continue
        name = undeclared[1].partition(".")[0]
        before = (text.split("\n")[line - 1 : line] or [""])[0][: column - 1]
        if before.endswith(name):  # the compiler points behind a name that is called or selected from
            column -= len(name)
        said = Text(f"there is no variable or function {name!r}", f"没有变量或函数 {name!r}")
        yield ExpressionProblem(line, column, said, closest(name, names))


def _of_compiler(message: str) -> Text:
    """The compiler's words, without the list of everything that its parser would have taken."""
    short = message.partition(" expecting {")[0].removeprefix("Syntax error: ")
    ended = "mismatched input '<EOF>'"
    return Text(
        short.replace(ended, "the expression ends too early"), f"无法编译：{short.replace(ended, '表达式不完整')}"
    )


def _plain(value: Any) -> Any:
    """A value that the binding takes: its own dict or list in place of any other mapping or sequence.

    The binding cuts texts at a NUL character, without a word; each becomes U+FFFD.
    """
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if value is None or isinstance(value, (int, float)):
        return value
    plain: Any = value
    if isinstance(value, Mapping) and not isinstance(value, dict):
        plain = dict(cast("Mapping[str, Any]", value))
    elif isinstance(value, Sequence) and not isinstance(value, (list, bytes, bytearray)):
        plain = list(cast("Sequence[Any]", value))
    return _without_nul(plain) if _may_hold_nul(plain) else plain


def _may_hold_nul(value: Any) -> bool:
    try:
        return b"\\u0000" in orjson.dumps(value)
    except TypeError:
        return True  # no JSON: looked through in Python, then refused by the binding


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, dict):
        entries = cast("dict[Any, Any]", value)
        return {_without_nul(key): _without_nul(item) for key, item in entries.items()}
    if isinstance(value, list):
        return [_without_nul(item) for item in cast("list[Any]", value)]
    return value


def _json(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        entries = cast("dict[Any, Any]", value)
        return {_key(key): _json(item) for key, item in entries.items()}
    if isinstance(value, list):
        return [_json(item) for item in cast("list[Any]", value)]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    raise ValueError("the value is no JSON")


def _key(key: object) -> str:
    if isinstance(key, str):
        return key
    raise ValueError("a map must have text keys")
