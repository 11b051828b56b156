"""`typing.TypedDict` classes made into `typing_extensions` ones, which is what pydantic takes before Python 3.12."""

import types
import typing
from typing import Annotated, Any, Literal, Union

import typing_extensions

__all__ = ["modernised"]


def modernised(annotation: Any) -> Any:  # an annotation is any object
    """`annotation` with every `typing.TypedDict` in it, at any depth, replaced by its equivalent."""
    if typing.is_typeddict(annotation):
        return _modern_class(annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if not arguments or origin is Literal:
        return annotation
    if origin is Annotated:
        return Annotated[(modernised(arguments[0]), *annotation.__metadata__)]
    changed = tuple(modernised(part) if _is_type(part) else part for part in arguments)
    if changed == arguments:
        return annotation
    if origin is types.UnionType:
        return Union[changed]  # noqa: UP007  # the parts are known at run time only
    return annotation.copy_with(changed) if hasattr(annotation, "copy_with") else origin[changed]


def _is_type(part: Any) -> bool:
    return part is not Ellipsis and not isinstance(part, list | str)


def _modern_class(annotation: Any) -> Any:
    if hasattr(annotation, "__mutable_keys__"):  # typing_extensions' own already
        return annotation
    hints = typing.get_type_hints(annotation, include_extras=True)
    required: frozenset[str] = annotation.__required_keys__
    fields: dict[str, Any] = {}
    for name, hint in hints.items():
        qualifier = typing.get_origin(hint)
        qualified = qualifier in (typing.Required, typing.NotRequired)
        plain = modernised(typing.get_args(hint)[0] if qualified else hint)
        # With `from __future__ import annotations` the class itself has not seen the qualifiers.
        needed = qualifier is typing.Required if qualified else name in required
        fields[name] = typing_extensions.Required[plain] if needed else typing_extensions.NotRequired[plain]
    make: Any = typing_extensions.TypedDict  # the functional form with computed fields has no static type
    modern = make(annotation.__name__, fields)
    modern.__doc__ = annotation.__doc__
    return modern
