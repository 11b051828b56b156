from __future__ import annotations

import dataclasses
import enum
import functools
import typing
from typing import Annotated, Any, Literal, Optional, TypedDict

import pytest
import typing_extensions
from pydantic import BaseModel, Field

from modular_agent.engine.tools.errors import SignatureUnsupported
from modular_agent.engine.tools.parameters import BadArguments
from modular_agent.engine.tools.signature import Signature

if typing.TYPE_CHECKING:
    from modular_agent.engine.tools.port import ToolContext


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Point:
    x: int
    y: float = 1.0


class Query(TypedDict, total=False):
    text: typing.Required[str]
    tags: list[str]


class Customer(BaseModel):
    name: str = Field(description="The full name")


def schema_of(function: Any) -> dict[str, Any]:
    return Signature(function).parameters


def test_types_defaults_and_required_parameters() -> None:
    def tool(a: int, b: str, c: float = 1.5, d: bool = False, e: list[int] = [], f: dict[str, int] | None = None): ...  # noqa: B006

    schema = schema_of(tool)
    assert schema["type"] == "object"
    assert schema["required"] == ["a", "b"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["a"] == {"type": "integer"}
    assert schema["properties"]["c"] == {"type": "number", "default": 1.5}
    assert schema["properties"]["e"] == {"type": "array", "items": {"type": "integer"}, "default": []}


def test_literal_enum_optional_and_structures() -> None:
    def tool(
        mode: Literal["fast", "slow"],
        colour: Colour,
        point: Point,
        query: Query,
        customer: Customer,
        maybe: Optional[int] = None,  # noqa: UP045
    ): ...

    schema = schema_of(tool)
    assert schema["properties"]["mode"] == {"enum": ["fast", "slow"], "type": "string"}
    assert schema["$defs"]["Colour"]["enum"] == ["red", "blue"]
    assert schema["$defs"]["Point"]["required"] == ["x"]
    assert schema["$defs"]["Query"]["required"] == ["text"]
    assert schema["$defs"]["Customer"]["properties"]["name"]["description"] == "The full name"
    assert {"type": "null"} in schema["properties"]["maybe"]["anyOf"]


def test_typed_dicts_of_either_module_work_at_any_depth() -> None:
    class Modern(typing_extensions.TypedDict):
        inner: int

    namespace: dict[str, Any] = {"Query": Query, "Modern": Modern, "Annotated": Annotated}

    def tool(a, b, c, d): ...

    tool.__annotations__ = {
        "a": list[Query],
        "b": dict[str, Query] | None,
        "c": Annotated[Query, "what"],
        "d": typing.Optional[Modern],  # noqa: UP045
    }
    assert namespace
    schema = schema_of(tool)
    assert schema["$defs"]["Query"]["properties"]["tags"]["type"] == "array"
    bound = Signature(tool).bind(
        {"a": [{"text": "x"}], "b": None, "c": {"text": "y"}, "d": {"inner": "1"}}, context=None
    )
    assert bound.keywords["a"] == [{"text": "x"}]
    assert bound.keywords["d"] == {"inner": 1}


def test_descriptions_come_from_annotations_and_the_docstring() -> None:
    def tool(city: Annotated[str, "Where"], days: int, limit: Annotated[int, Field(ge=1, description="Most")] = 3):
        """Tells the weather.

        It is never wrong.

        Args:
            city: Not this one.
            days (int): How far
                ahead to look.
            limit: Not this one.

        Returns:
            days: nothing of the above.
        """

    signature = Signature(tool)
    assert signature.description == "Tells the weather.\n\nIt is never wrong."
    properties = signature.parameters["properties"]
    assert properties["city"]["description"] == "Where"
    assert properties["days"]["description"] == "How far ahead to look."
    assert properties["limit"] == {"type": "integer", "minimum": 1, "default": 3, "description": "Most"}


def test_the_context_is_injected_and_not_shown() -> None:
    def by_name(a: int, context): ...
    def by_type(a: int, *, told: ToolContext): ...
    def first(context: ToolContext, /, a: int): ...

    for tool in (by_name, by_type, first):
        assert list(schema_of(tool)["properties"]) == ["a"]
    assert Signature(by_name).bind({"a": 1}, context="C").keywords == {"a": 1, "context": "C"}
    assert Signature(by_type).bind({"a": 1}, context="C").keywords == {"a": 1, "told": "C"}
    assert Signature(first).bind({"a": 1}, context="C").positional == ["C"]


def test_arguments_are_coerced() -> None:
    def tool(a: int, point: Point, colour: Colour, b: int = 5): ...

    bound = Signature(tool).bind({"a": "3", "point": {"x": 1}, "colour": "red"}, context=None)
    assert bound.keywords == {"a": 3, "point": Point(1, 1.0), "colour": Colour.RED}


def test_parameters_may_have_any_name() -> None:
    def tool(schema: int, json: int, model_config: int, _x: int, copy: int = 1): ...

    values = {"schema": 1, "json": 2, "model_config": 3, "_x": 4}
    assert Signature(tool).bind(values, context=None).keywords == values


def test_every_fault_of_arguments_is_told() -> None:
    def tool(a: int, b: str): ...

    with pytest.raises(BadArguments) as caught:
        Signature(tool).bind({"a": "x", "c": 1}, context=None)
    text = str(caught.value)
    assert "- a: " in text
    assert "- b: required, and missing" in text
    assert "- c: there is no such argument" in text


def test_keyword_parameters_take_anything() -> None:
    def tool(a: int, **rest: Any): ...

    assert schema_of(tool)["additionalProperties"] is True
    assert Signature(tool).bind({"a": 1, "b": 2}, context=None).keywords == {"a": 1, "b": 2}


def test_defaults_that_are_not_json_are_left_out() -> None:
    marker = object()

    def tool(a: Any = marker): ...

    assert schema_of(tool)["properties"]["a"] == {}
    assert Signature(tool).bind({}, context=None).keywords == {}


def test_a_parameter_without_a_json_form_is_refused_with_its_reason() -> None:
    class Strange: ...

    def tool(a): ...

    tool.__annotations__ = {"a": Strange}
    with pytest.raises(SignatureUnsupported, match="Strange"):
        Signature(tool)


def test_methods_partials_and_callable_objects_work() -> None:
    class Adder:
        """Adds."""

        def __call__(self, a: int) -> int:
            return a

        def add(self, a: int, b: int) -> int:
            return a + b

        async def later(self, a: int) -> int:
            return a

    assert list(schema_of(Adder())["properties"]) == ["a"]
    assert list(schema_of(Adder().add)["properties"]) == ["a", "b"]
    partial = functools.partial(Adder().add, 1)
    assert list(schema_of(partial)["properties"]) == ["b"]
    assert Signature(Adder().later).is_async
    assert not Signature(Adder()).is_async
