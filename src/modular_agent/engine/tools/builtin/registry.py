"""The built-in tools by name, `builtin.NAME`."""

import difflib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from pydantic import ValidationError

from modular_agent.engine.tools.builtin.calculator import CalculatorOptions, calculator
from modular_agent.engine.tools.builtin.current_time import CurrentTimeOptions, current_time
from modular_agent.engine.tools.builtin.http_fetch_options import HttpFetchOptions
from modular_agent.engine.tools.builtin.read_file import ReadFileOptions, read_file
from modular_agent.engine.tools.builtin.search_files import SearchFilesOptions, search_files
from modular_agent.engine.tools.builtin.tool import BuiltinTool, Options, Setup
from modular_agent.errors import Fault, InvalidInput, Text
from modular_agent.kit.dataclass import dataclass
from modular_agent.validation import own_words

__all__ = ["BUILTINS", "Builtin", "build_builtin", "builtin_faults"]

PREFIX: Final = "builtin."


@dataclass(frozen=True, slots=True)
class Builtin:
    """A built-in tool: the model of its options, and what makes it (`make(options, setup)`)."""

    options: type[Options]
    make: Callable[[Any, Setup], BuiltinTool]


def _http_fetch(options: HttpFetchOptions, setup: Setup) -> BuiltinTool:
    from modular_agent.engine.tools.builtin.http_fetch import http_fetch  # and aiohttp

    return http_fetch(options, setup)


BUILTINS: Final[Mapping[str, Builtin]] = MappingProxyType(
    {
        "calculator": Builtin(CalculatorOptions, calculator),
        "current_time": Builtin(CurrentTimeOptions, current_time),
        "http_fetch": Builtin(HttpFetchOptions, _http_fetch),
        "read_file": Builtin(ReadFileOptions, read_file),
        "search_files": Builtin(SearchFilesOptions, search_files),
    }
)


def builtin_faults(use: str, options: Mapping[str, Any], *, path: str = "") -> list[Fault]:
    """What is wrong with `{use: ..., options...}` at the key `path`; empty when nothing is."""
    return _checked(use, options, path)[1]


def build_builtin(use: str, options: Mapping[str, Any], setup: Setup, *, path: str = "") -> BuiltinTool:
    """The tool `use` (`builtin.NAME`). Raises `InvalidInput`."""
    model, faults = _checked(use, options, path)
    if model is None:
        raise InvalidInput(faults)
    return BUILTINS[use.removeprefix(PREFIX)].make(model, setup)


def _checked(use: str, options: Mapping[str, Any], path: str) -> tuple[Options | None, list[Fault]]:
    builtin = BUILTINS.get(use.removeprefix(PREFIX)) if use.startswith(PREFIX) else None
    if builtin is None:
        names = [PREFIX + name for name in BUILTINS]
        close = difflib.get_close_matches(use, names, n=1)
        known = ", ".join(names)
        text = Text(
            f"There is no built-in tool {use!r}; there are {known}.", f"没有内置工具 {use!r}；可用的有 {known}。"
        )
        likely = close[0] if close else None
        return None, [Fault(code="builtin_unknown", text=text, path=_key(path, "use"), suggestion=likely)]
    try:
        return builtin.options.model_validate(dict(options)), []
    except ValidationError as error:
        known = list(builtin.options.model_fields)
        return None, [_fault(found, known, path) for found in error.errors()]


def _fault(error: Mapping[str, Any], known: list[str], path: str) -> Fault:
    place: tuple[int | str, ...] = error["loc"]
    where = _key(path, *(str(part) for part in place))
    if error["type"] != "extra_forbidden":
        return Fault(code="option_invalid", text=own_words(error), path=where)
    close = difflib.get_close_matches(str(place[-1]), known, n=1)
    text = Text(f"There is no option {place[-1]!r}.", f"没有选项 {place[-1]!r}。")
    if known:
        names = ", ".join(known)
        text = Text(
            f"There is no option {place[-1]!r}; there are {names}.", f"没有选项 {place[-1]!r}；可用的有 {names}。"
        )
    return Fault(code="option_unknown", text=text, path=where, suggestion=close[0] if close else None)


def _key(path: str, *parts: str) -> str:
    return ".".join(part for part in (path, *parts) if part)
