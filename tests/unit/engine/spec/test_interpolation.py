import pytest
from hypothesis import given
from hypothesis import strategies as st

from modular_agent.engine.spec.document import read_document
from modular_agent.engine.spec.interpolation import interpolate
from modular_agent.engine.spec.shape import read_shape

ENVIRONMENT = {"A": "one", "B": "two", "EMPTY": "", "N": "7", "T": "true", "LOOP": "${env.A}"}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("${env.A}", "one"),
        ("x${env.A}-${env.B}y", "xone-twoy"),
        ("${env.NONE:-a b:c}", "a b:c"),
        ("${env.NONE:-}", ""),
        ("${env.EMPTY}", ""),
        ("${env.EMPTY:-default}", "default"),
        ("$${env.A}", "${env.A}"),
        ("$$${env.A}", "$${env.A}"),
        ("cost $5 ${other} {env.A} $env.A", "cost $5 ${other} {env.A} $env.A"),
        ("${env.LOOP}", "${env.A}"),
    ],
)
def test_variables_are_filled_in_once(text: str, filled: str) -> None:
    result = interpolate(text, environment=ENVIRONMENT)
    assert (result.text, result.missing, result.malformed) == (filled, (), False)


def test_every_missing_variable_is_named() -> None:
    assert interpolate("${env.X} ${env.A} ${env.Y}", environment=ENVIRONMENT).missing == ("X", "Y")


@pytest.mark.parametrize("text", ["${env.}", "${env.A", "${env.A-B}", "${env.A:default}", "${env.1}"])
def test_what_is_not_well_formed_is_told(text: str) -> None:
    assert interpolate(text, environment=ENVIRONMENT).malformed


@given(st.text())
def test_text_without_a_dollar_brace_is_left_alone(text: str) -> None:
    plain = text.replace("${", "")
    assert interpolate(plain, environment={}).text == plain


@given(st.text())
def test_an_escaped_text_comes_back(text: str) -> None:
    plain = text.replace("$", "")
    assert interpolate(plain.replace("{", "$${"), environment={}).text == plain.replace("{", "${")


def test_a_value_is_read_as_its_place_asks() -> None:
    text = """
schema: modular-agent/v1
name: x
models: {m: {provider: openai, model: "${env.N}", temperature: "${env.N:-1}.5", max_tokens: "${env.N}"}}
nodes: {say: {type: llm, model: m, parameters: {plain: PLAIN, quoted: "${env.N}", flag: "${env.T}"}}}
edges: [{from: START, to: say}]
limits: {max_seconds: "${env.N}m"}
version: ${env.N}
""".replace('temperature: "${env.N:-1}.5"', 'temperature: "0.${env.N}"').replace("{plain: PLAIN, ", "{")
    shape = read_shape(read_document(text, environment=ENVIRONMENT))
    assert shape.faults == ()
    assert shape.spec is not None
    model, node = shape.spec.models["m"], shape.spec.nodes["say"]
    assert (model.model, model.temperature, model.max_tokens) == ("7", 0.7, 7)
    assert node.parameters == {"quoted": "7", "flag": "true"}  # pyright: ignore[reportAttributeAccessIssue]
    assert (shape.spec.version, shape.spec.limits.max_seconds) == ("7", 420.0)


def test_a_plain_value_in_an_open_place_is_read_as_yaml_would() -> None:
    document = read_document("a: ${env.N}\nb: '${env.N}'\nc: ${env.T}\nd: ${env.NONE:-}", environment=ENVIRONMENT)
    assert document.data() == {"a": 7, "b": "7", "c": True, "d": None}


def test_keys_are_not_filled_in() -> None:
    assert read_document('{"${env.A}": 1}', environment=ENVIRONMENT).data() == {"${env.A}": 1}
