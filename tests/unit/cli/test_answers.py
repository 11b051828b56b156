from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modular_agent.cli.answers import Unusable, hint, parse


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        ("y", {"type": "boolean"}, True),
        ("No", {"type": "boolean"}, False),
        ("是", {"type": "boolean"}, True),
        ("7", {"type": "integer"}, 7),
        ("-0.5", {"type": "number"}, -0.5),
        (" text ", {"type": "string"}, "text"),
        ("123", {"type": "string"}, "123"),
        ("2", {"enum": ["done", "not_done"]}, "not_done"),
        ("done", {"enum": ["done", "not_done"]}, "done"),
        ("3", {"enum": [3, 1]}, 3),
        ('{"a": [1]}', {"type": "object"}, {"a": [1]}),
        ("[1, 2]", {"type": "array"}, [1, 2]),
        ("anything", {}, "anything"),
        ("[1]", {}, [1]),
    ],
)
def test_what_is_typed_becomes_the_fields_value(text: str, schema: dict[str, Any], value: object) -> None:
    assert parse(text, schema) == value
    assert type(parse(text, schema)) is type(value)


@pytest.mark.parametrize(
    ("text", "kind"), [("maybe", "boolean"), ("1.5", "integer"), ("nan", "number"), ("x", "number"), ("{", "object")]
)
def test_what_is_no_value_of_the_field_is_refused(text: str, kind: str) -> None:
    with pytest.raises(Unusable):
        parse(text, {"type": kind})


def test_a_choice_that_is_not_there_is_refused() -> None:
    with pytest.raises(Unusable):
        parse("3", {"enum": ["a", "b"]})


@given(st.lists(st.text(min_size=1).map(str.strip).filter(bool), min_size=1, unique=True))
def test_every_choice_can_be_made_by_its_text(choices: list[str]) -> None:
    assert [parse(choice, {"enum": choices}) for choice in choices] == choices


@given(st.recursive(st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(), st.lists, max_leaves=5))
def test_any_json_can_be_given_where_json_is_asked_for(value: Any) -> None:
    assert parse(orjson.dumps([value]).decode(), {"type": "array"}) == [value]


def test_the_hint_says_what_may_be_typed() -> None:
    assert hint({"enum": ["a", "b"]}, "en") == "1=a, 2=b"
    assert hint({"type": "boolean"}, "en") == "y/n"
    assert hint({"type": "integer"}, "zh") == "整数"
    assert hint({"type": "string"}, "en") == ""
    assert hint({"type": "object"}, "en") == "JSON"
