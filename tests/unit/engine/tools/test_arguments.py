import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modular_agent.engine.tools.arguments import ArgumentSchema, parse_arguments
from modular_agent.engine.tools.port import ToolOutcome


def failure(text: str) -> str:
    outcome = parse_arguments(text)
    assert isinstance(outcome, ToolOutcome)
    assert not outcome.success
    assert outcome.error_type == "InvalidArguments"
    return outcome.content


def test_an_object_is_parsed_with_exact_numbers() -> None:
    numbers = [2**63, 2**64 - 1, -(2**63), 1.5]
    assert parse_arguments(f'{{"a": {numbers}}}') == {"a": numbers}


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**40])
def test_a_number_that_nothing_here_can_store_is_an_outcome(number: int) -> None:
    assert "send it as a string" in failure(f'{{"a": [{number}]}}')


def test_half_a_character_is_an_outcome() -> None:
    assert "not valid JSON" in failure('{"a": "\\ud800"}')
    assert parse_arguments('{"a": "\\ud83d\\ude00"}') == {"a": "😀"}


@settings(deadline=None)
@given(st.text(alphabet='{}[]":,0123456789eE+-.\\ud8 ntrfalse', max_size=60))
def test_whatever_is_accepted_can_be_stored(text: str) -> None:
    parsed = parse_arguments(text)
    if not isinstance(parsed, ToolOutcome):
        orjson.dumps(parsed)


@pytest.mark.parametrize("text", ["", "  \n", "{}"])
def test_no_text_means_no_arguments(text: str) -> None:
    assert parse_arguments(text) == {}


def test_broken_json_is_an_outcome_with_its_place() -> None:
    assert "line 1 column 7" in failure('{"a": ')
    assert "line 1 column 7" in failure('{"a": NaN}')


@pytest.mark.parametrize(
    ("text", "kind"), [("[1]", "an array"), ('"x"', "a string"), ("3", "a number"), ("null", "null")]
)
def test_what_is_not_an_object_is_an_outcome(text: str, kind: str) -> None:
    assert kind in failure(text)


def test_absurd_nesting_is_an_outcome() -> None:
    assert "not valid JSON" in failure('{"a":' * 100_000)


def test_a_schema_names_every_fault() -> None:
    schema = ArgumentSchema(
        {
            "type": "object",
            "properties": {"a": {"type": "integer"}},
            "required": ["a", "b"],
            "additionalProperties": False,
        }
    )
    assert schema.check({"a": 1, "b": 2}) is not None
    outcome = schema.check({"a": "x"})
    assert outcome is not None
    assert "- a: 'x' is not of type 'integer'" in outcome.content
    assert "'b' is a required property" in outcome.content


def test_arguments_that_fit_pass() -> None:
    assert ArgumentSchema({"type": "object", "properties": {"a": {"type": "integer"}}}).check({"a": 1}) is None


def test_a_reference_to_another_document_is_not_fetched() -> None:
    outcome = ArgumentSchema({"properties": {"a": {"$ref": "http://127.0.0.1:9/x.json"}}}).check({"a": 1})
    assert outcome is not None
    assert "could not be checked" in outcome.content


def test_a_broken_schema_checks_nothing() -> None:
    assert ArgumentSchema({"type": "nonsense"}).check({"a": 1}) is None
