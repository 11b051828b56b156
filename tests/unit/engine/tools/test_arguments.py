import pytest

from modular_agent.engine.tools.arguments import ArgumentSchema, parse_arguments
from modular_agent.engine.tools.port import ToolOutcome


def failure(text: str) -> str:
    outcome = parse_arguments(text)
    assert isinstance(outcome, ToolOutcome)
    assert not outcome.success
    assert outcome.error_type == "InvalidArguments"
    return outcome.content


def test_an_object_is_parsed_with_exact_numbers() -> None:
    assert parse_arguments('{"a": 123456789012345678901234567890}') == {"a": 123456789012345678901234567890}


@pytest.mark.parametrize("text", ["", "  \n", "{}"])
def test_no_text_means_no_arguments(text: str) -> None:
    assert parse_arguments(text) == {}


def test_broken_json_is_an_outcome_with_its_place() -> None:
    assert "line 1 column 7" in failure('{"a": ')
    assert "NaN is not JSON" in failure('{"a": NaN}')


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
