"""The templates in scripts: Jinja2 in its sandbox, with unknown names as errors."""

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

__all__ = ["ScriptTemplates", "TemplateFailed"]

_EXPRESSION: Final = re.compile(r"\{\{((?:(?!\{\{|\}\}).)*)\}\}", re.DOTALL)


class TemplateFailed(ValueError):
    """A template cannot be rendered; the text says which and why."""


class ScriptTemplates:
    """Renders the texts of one script; each is compiled once."""

    def __init__(self) -> None:
        self._compiled: dict[str, Callable[..., Any]] = {}  # by their text; they take the names
        self._environment: ImmutableSandboxedEnvironment | None = None

    def text(self, source: str, names: Mapping[str, Any]) -> str:
        """`source` rendered; raises `TemplateFailed`."""
        if "{" not in source:
            return source
        return str(self._run(source, names, expression=False))

    def value(self, source: Any, names: Mapping[str, Any]) -> Any:  # any JSON value in, any out
        """`source` with its texts rendered at any depth; a text that is one expression gives that one's value."""
        if isinstance(source, dict):
            mapping = cast("dict[str, Any]", source)
            return {self.text(key, names): self.value(each, names) for key, each in mapping.items()}
        if isinstance(source, list):
            return [self.value(each, names) for each in cast("list[Any]", source)]
        if not isinstance(source, str):
            return source
        if _EXPRESSION.fullmatch(source.strip()):
            return self._run(source.strip()[2:-2], names, expression=True)
        return self.text(source, names)

    def _run(self, source: str, names: Mapping[str, Any], *, expression: bool) -> Any:  # what the expression gives
        from jinja2 import TemplateError, Undefined

        try:
            value = self._compile(source, expression=expression)(**names)
            return str(value) if isinstance(value, Undefined) else value  # str() raises for an unknown name
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            raise TemplateFailed(f"template {source.strip()[:80]!r}: {error}") from error

    def _compile(self, source: str, *, expression: bool) -> Callable[..., Any]:
        key = ("=" if expression else "") + source
        compiled = self._compiled.get(key)
        if compiled is None:
            environment = self._environment or self._open()
            if expression:
                compiled = environment.compile_expression(source, undefined_to_none=False)
            else:
                compiled = environment.from_string(source).render
            self._compiled[key] = compiled
        return compiled

    def _open(self) -> "ImmutableSandboxedEnvironment":
        # Imported here: a server without scripted models never needs it at start-up.
        from jinja2 import StrictUndefined
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        # No HTML is made here, so nothing is escaped.
        self._environment = ImmutableSandboxedEnvironment(
            undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True
        )
        return self._environment
