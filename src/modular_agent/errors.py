"""The root of every error this product raises on purpose.

    AgentError                 code, kind, parameters; text in English and Chinese; knows no HTTP
    ├── InvalidInput           bad input with the place of each fault (`errors[]`)
    └── ...                    each layer's own, in its `errors.py`

An error class declares what it says as data; an instance carries only the parameters. The HTTP status of a kind
is the business of `api/errors.py`.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, ClassVar, Final, Literal, TypeAlias

from modular_agent.kit.dataclass import dataclass

__all__ = [
    "AgentError",
    "CursorInvalid",
    "Fault",
    "IllegalTransition",
    "InvalidInput",
    "Kind",
    "Language",
    "ServerStopping",
    "Text",
]

Language: TypeAlias = Literal["en", "zh"]


class Kind(StrEnum):
    """What sort of failure an error is; the transport maps each to its own status."""

    INVALID = "invalid"  # understood, but cannot be used: a path, a workflow, a state
    MALFORMED = "malformed"  # does not have the declared shape
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    TOO_LARGE = "too_large"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class Text:
    """What a person reads, in each language."""

    english: str
    chinese: str

    def message(self, language: Language = "en") -> str:
        """The text in `language`."""
        return self.chinese if language == "zh" else self.english

    def filled(self, **parameters: object) -> "Text":
        """With the parameters in place of `{name}`."""
        return Text(self.english.format_map(parameters), self.chinese.format_map(parameters))


_LIKELY: Final = Text(" (did you mean {name}?)", "（是否想用 {name}？）")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing wrong with an input, and where.

    `path` is the key path (`nodes.think.model`); `file` is relative to the configs root; `line` and `column` count
    from 1 and are None where the input is not a file. `suggestion` is the likely name for a typo.
    """

    code: str
    text: Text
    path: str = ""
    file: str | None = None
    line: int | None = None
    column: int | None = None
    suggestion: str | None = None

    def fields(self, language: Language = "en") -> dict[str, Any]:
        """As JSON: `code`, `message`, `path`, and what else there is or None."""
        return {
            "code": self.code,
            "message": self.text.message(language),
            "path": self.path,
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "suggestion": self.suggestion,
        }

    def told(self, language: Language = "en") -> str:
        """A line for a person: the place, what is wrong there, the likely name."""
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        where = " ".join(part for part in (place, self.path) if part)
        hint = _LIKELY.filled(name=repr(self.suggestion)).message(language) if self.suggestion else ""
        message = f"{self.text.message(language)}{hint}"
        return f"{where}: {message}" if where else message

    def __str__(self) -> str:
        return self.told()


class AgentError(Exception):
    """An error with a stable code, a kind, and a text in each language.

    Subclasses set `code`, `kind`, `english`, `chinese` (format strings over the keyword parameters, of which one that
    is a `Text` follows the language).
    `retry_after` is in seconds and is set by those that pass by themselves.
    """

    code: ClassVar[str] = "internal_error"
    kind: ClassVar[Kind] = Kind.INTERNAL
    english: ClassVar[str] = "Something went wrong inside the server."
    chinese: ClassVar[str] = "服务器内部出错。"

    def __init__(self, *, retry_after: float | None = None, **parameters: object) -> None:
        super().__init__()
        self.parameters = parameters
        self.retry_after = retry_after

    def details(self) -> Mapping[str, Any]:
        """What a program may want to know besides the code, as JSON."""
        return {}

    def message(self, language: Language = "en") -> str:
        """The text for a person, in `language`."""
        template = self.chinese if language == "zh" else self.english
        said = {
            key: value.message(language) if isinstance(value, Text) else str(value)
            for key, value in self.parameters.items()
        }
        return template.format_map(said)

    @property
    def text(self) -> Text:
        """The message in both languages, for a fault that tells the same."""
        return Text(self.message("en"), self.message("zh"))

    def __str__(self) -> str:
        return self.message()


class InvalidInput(AgentError):
    """Input that cannot be used, with every fault found in it."""

    code = "invalid_input"
    kind = Kind.INVALID
    english = "The input has {count} fault(s)."
    chinese = "输入有 {count} 处错误。"

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__(count=len(faults))
        self.faults = tuple(faults)

    def __str__(self) -> str:
        return "\n".join([self.message(), *(str(fault) for fault in self.faults)])


class IllegalTransition(AgentError):
    """A status change that the transition table does not hold."""

    code = "illegal_transition"
    kind = Kind.CONFLICT
    english = "A {noun} that is {status} cannot become {target}."
    chinese = "状态为 {status} 的{noun}不能变为 {target}。"


class CursorInvalid(AgentError):
    """A list's cursor that was mangled, or given out for another list or order."""

    code = "invalid_cursor"
    kind = Kind.MALFORMED
    english = "The cursor cannot be used: take it unchanged from the former answer to the same list and order."
    chinese = "游标无法使用：请原样使用同一列表、同一排序的上一次响应中的值。"


class ServerStopping(AgentError):
    """New work while the server ends what it has; another process, or this one after its restart, takes it."""

    code = "server_stopping"
    kind = Kind.UNAVAILABLE
    english = "The server is stopping and takes no new work."
    chinese = "服务器正在停止，不接受新的任务。"
