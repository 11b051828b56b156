from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from jsonschema.validators import Draft202012Validator

from modular_agent.engine.tools.plain_schema import fitting, is_fitting

NAMES = st.sampled_from(["a", "b", "c"])
VALUES = st.one_of(
    *(st.none(), st.booleans(), st.integers(-2, 2), st.sampled_from([0.0, 1.0, 1.5]), st.sampled_from(["", "x", "y"])),
    *(st.just([]), st.just({})),
)
TYPES = st.sampled_from(["string", "integer", "number", "boolean", "null", "array", "object", ["string", "null"]])
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "type": TYPES,
        "enum": st.lists(st.sampled_from(["x", "y", 1]), min_size=1, max_size=2, unique=True),
        "description": st.just("says nothing"),
        "minimum": st.just(1),
        "minLength": st.just(1),
    },
)
SCHEMAS = st.fixed_dictionaries(
    {"type": st.sampled_from(["object", "object", "object", "string"])},
    optional={
        "properties": st.dictionaries(NAMES, st.one_of(FIELDS, st.booleans())),
        "required": st.lists(NAMES, unique=True),
        "additionalProperties": st.booleans(),
        "minProperties": st.just(2),
    },
)


@given(schema=SCHEMAS, arguments=st.dictionaries(NAMES, VALUES))
def test_what_fits_for_certain_has_no_fault(schema: dict[str, Any], arguments: dict[str, Any]) -> None:
    plain = fitting(schema)
    if plain is not None and is_fitting(arguments, plain):
        assert Draft202012Validator(schema).is_valid(arguments)


def test_the_usual_calls_of_the_usual_tools_fit_for_certain() -> None:
    plain = fitting(
        {
            "type": "object",
            "properties": {
                "expression": {"type": "string", "description": "For example: 1 + 1"},
                "places": {"type": "number", "default": 2},
                "unit": {"type": "string", "enum": ["km", "mi"]},
            },
            "required": ["expression"],
            "additionalProperties": False,
        }
    )
    assert plain is not None
    assert is_fitting({"expression": "17 * 23", "places": 3, "unit": "km"}, plain)
    for wrong in ({}, {"expression": 1}, {"expression": "1", "unit": "m"}, {"expression": "1", "places": True}):
        assert not is_fitting(wrong, plain)
