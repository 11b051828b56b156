"""What a callable's own code says of its parameters; light enough for a worker's first call."""

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any, Final

__all__ = ["BadArguments", "context_parameter", "hints", "is_async"]

CONTEXT: Final = "context"
CONTEXT_TYPE: Final = "ToolContext"


class BadArguments(ValueError):
    """Arguments that do not fit a callable; the text is for the model."""


def is_async(function: Callable[..., Any]) -> bool:
    """True when calling `function` gives a coroutine, as far as its own code says."""
    target: Any = function
    while isinstance(target, functools.partial):
        target = typing.cast(functools.partial[Any], target).func
    if inspect.iscoroutinefunction(target):
        return True
    return not inspect.isroutine(target) and inspect.iscoroutinefunction(_call_method(target))


def _call_method(target: object) -> object:
    return getattr(type(target), "__call__", None)  # noqa: B004  # the method itself is wanted


def context_parameter(function: Callable[..., Any]) -> inspect.Parameter | None:
    """The parameter that is named `context` or annotated `ToolContext` (or a class of that name)."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):  # some callables written in C have no signature
        return None
    return next((parameter for parameter in parameters if _is_context(parameter)), None)


def hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of `function` with text resolved; names that cannot be resolved are left out."""
    target: Any = inspect.unwrap(function)
    if inspect.isclass(target):
        target = target.__init__
    elif not inspect.isroutine(target):
        target = target.func if isinstance(target, functools.partial) else type(target).__call__
    try:
        return typing.get_type_hints(target, include_extras=True)
    except (NameError, TypeError, AttributeError):
        # Names that exist under TYPE_CHECKING only: take what is not text.
        raw: dict[str, Any] = getattr(target, "__annotations__", {})
        return {name: hint for name, hint in raw.items() if not isinstance(hint, str)}


def _is_context(parameter: inspect.Parameter) -> bool:
    if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
        return False
    annotation = parameter.annotation
    name = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return parameter.name == CONTEXT or str(name).strip("'\"").rpartition(".")[2] == CONTEXT_TYPE
