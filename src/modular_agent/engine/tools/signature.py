"""A Python callable as a model sees it: the JSON Schema of its parameters, and arguments made into what it takes.

Types, defaults, `Annotated` descriptions and constraints, `Optional`, `Literal`, enums, lists, dicts, `TypedDict`,
dataclasses and pydantic models are pydantic's business (`create_model`); descriptions may also stand in the
docstring's `Args:`. A parameter that is named `context` or annotated `ToolContext` is injected and not shown.
"""

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, ValidationError, create_model
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.json_schema import GenerateJsonSchema

from modular_agent.engine.tools.docstring import Docstring
from modular_agent.engine.tools.errors import SignatureUnsupported
from modular_agent.engine.tools.parameters import BadArguments, context_parameter, hints, is_async
from modular_agent.engine.tools.typed_dicts import modernised
from modular_agent.kit.dataclass import dataclass

__all__ = ["Bound", "Signature"]


@dataclass(frozen=True, slots=True)
class Bound:
    """Arguments ready for the call: `function(*positional, **keywords)`."""

    positional: list[Any]
    keywords: dict[str, Any]


class _Schema(GenerateJsonSchema):
    """Without warnings for defaults that JSON cannot hold: they are left out of the schema, which is enough."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012  # pydantic's own shape


class Signature:
    """The parameters of one callable. Raises `SignatureUnsupported` for a parameter without a JSON Schema."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.name = getattr(function, "__name__", type(function).__name__)
        docstring = Docstring.parse(inspect.getdoc(function))
        self.description = docstring.text
        self.is_async = is_async(function)
        self._positional: list[str] = []
        self._fields: dict[str, str] = {}
        self._context: tuple[str, bool] | None = None
        self._extra = False
        self._model = self._build(function, docstring)
        self.parameters = self._json_schema()

    def bind(self, arguments: Mapping[str, Any], *, context: object) -> Bound:
        """`arguments` validated and coerced, with `context` put in where it is asked for. Raises `BadArguments`."""
        try:
            values = self._model.model_validate(dict(arguments), by_alias=True)
        except ValidationError as error:
            raise BadArguments(_explain(error)) from error
        set_fields = values.model_fields_set
        bound = Bound([], {})
        for field, name in self._fields.items():
            if name in self._positional:
                bound.positional.append(getattr(values, field))
            elif field in set_fields:
                bound.keywords[name] = getattr(values, field)
        if self._extra:
            bound.keywords.update(values.model_extra or {})
        return self._inject(bound, context)

    def _inject(self, bound: Bound, context: object) -> Bound:
        if self._context is not None:
            name, positional_only = self._context
            if positional_only:
                bound.positional.insert(self._positional.index(name), context)
            else:
                bound.keywords[name] = context
        return bound

    def _build(self, function: Callable[..., Any], docstring: Docstring) -> type[BaseModel]:
        fields: dict[str, Any] = {}  # what create_model takes
        annotations = hints(function)
        context = context_parameter(function)
        for parameter in _parameters(function):
            annotation = annotations.get(parameter.name, parameter.annotation)
            if context is not None and parameter.name == context.name:
                positional_only = parameter.kind is parameter.POSITIONAL_ONLY
                if positional_only:
                    self._positional.append(parameter.name)
                self._context = (parameter.name, positional_only)
            elif parameter.kind is parameter.VAR_KEYWORD:
                self._extra = True
            elif parameter.kind is not parameter.VAR_POSITIONAL:
                if parameter.kind is parameter.POSITIONAL_ONLY:
                    self._positional.append(parameter.name)
                # Field names of our own: a parameter may be called `schema` or `_x`, a pydantic field may not.
                field = f"p{len(fields)}"
                self._fields[field] = parameter.name
                fields[field] = _field(parameter, annotation, docstring.parameters.get(parameter.name))
        extra = "allow" if self._extra else "forbid"
        config = ConfigDict(extra=extra, use_attribute_docstrings=False, validate_default=False)
        try:
            return create_model(self.name, __config__=config, **fields)
        except (PydanticUserError, NameError, TypeError) as error:
            raise SignatureUnsupported(name=self.name, reason=_first_line(error)) from error

    def _json_schema(self) -> dict[str, Any]:
        try:
            schema = self._model.model_json_schema(by_alias=True, schema_generator=_Schema)
        except (PydanticInvalidForJsonSchema, PydanticUserError) as error:
            raise SignatureUnsupported(name=self.name, reason=_first_line(error)) from error
        schema.pop("description", None)
        return _without_titles(schema)


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except (ValueError, TypeError) as error:
        name = getattr(function, "__name__", type(function).__name__)
        raise SignatureUnsupported(name=name, reason=_first_line(error)) from error


def _field(parameter: inspect.Parameter, annotation: Any, description: str | None) -> tuple[Any, Any]:
    kind = Any if annotation is inspect.Parameter.empty else modernised(annotation)
    options: dict[str, Any] = {"alias": parameter.name}
    if description := _annotated_description(kind, description):
        options["description"] = description
    if parameter.default is inspect.Parameter.empty:
        return kind, Field(**options)
    return kind, Field(default=parameter.default, **options)


def _annotated_description(annotation: Any, documented: str | None) -> str | None:
    """The text in `Annotated[int, "text"]`; else what the docstring says; None where pydantic's `Field` says it."""
    for item in getattr(annotation, "__metadata__", ()):
        if isinstance(item, str):
            return item
        if getattr(item, "description", None):
            return None
    return documented


def _without_titles(schema: Any) -> Any:
    """`schema` without the titles that pydantic derives from names: they cost tokens and say nothing."""
    if isinstance(schema, dict):
        mapping = typing.cast(dict[str, Any], schema)
        return {
            key: {name: _without_titles(part) for name, part in value.items()}
            if key in ("properties", "$defs")
            else _without_titles(value)
            for key, value in mapping.items()
            if not (key == "title" and isinstance(value, str))
        }
    if isinstance(schema, list):
        return [_without_titles(part) for part in typing.cast(list[Any], schema)]
    return schema


def _explain(error: ValidationError) -> str:
    lines: list[str] = []
    for fault in error.errors(include_url=False, include_context=False):
        place = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "missing":
            lines.append(f"- {place}: required, and missing")
        elif fault["type"] == "extra_forbidden":
            lines.append(f"- {place}: there is no such argument")
        else:
            lines.append(f"- {place}: {fault['msg']} (got {fault['input']!r:.100})")
    return "The arguments are not valid:\n" + "\n".join(lines)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
