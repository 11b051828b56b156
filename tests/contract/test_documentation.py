"""What the description of the API says is complete, and its examples do what they say."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from jsonschema import Draft202012Validator, ValidationError

from contract.starter_server import StarterServer
from modular_agent.server import create_app
from modular_agent.settings import load_settings

CONTRACT: dict[str, Any] = create_app(load_settings({}, env_file=None)).openapi()
# Needs a state that another call destroys, or an answer that no example can know: tested in tests/integration/api.
STREAMS = ("/sessions/{session_id}/events",)
# What an example's operation may answer besides success, because it is about the state of something.
CONFLICTS = (404, 409, 412, 428)


class Operation(NamedTuple):
    method: str
    path: str
    told: dict[str, Any]


class Example(NamedTuple):
    """A request; `declared` are the statuses of its operation."""

    operation: Operation
    name: str
    body: Any
    media_type: str | None


def operations() -> Iterator[Operation]:
    for path, methods in CONTRACT["paths"].items():
        for method, told in methods.items():
            yield Operation(method.upper(), path, told)


OPERATIONS = tuple(operations())


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        return CONTRACT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    for choice in schema.get("anyOf", ()):
        if "$ref" in choice:
            return resolved(choice)
    return schema


def examples_of(content: dict[str, Any]) -> list[Any]:
    """The examples of a media type: its own, else those of its schema."""
    if "example" in content:
        return [content["example"]]
    if "examples" in content:
        return [each["value"] for each in content["examples"].values()]
    return list(resolved(content.get("schema", {})).get("examples", []))


def named(operation: Operation) -> str:
    return f"{operation.method} {operation.path}"


@pytest.mark.parametrize("operation", OPERATIONS, ids=named)
def test_an_operation_says_what_it_is_for(operation: Operation) -> None:
    told = operation.told
    assert told.get("summary")
    assert len(told.get("description", "")) > 10
    assert len(told["tags"]) == 1
    assert told["tags"][0] in {tag["name"] for tag in CONTRACT["tags"]}


@pytest.mark.parametrize("operation", OPERATIONS, ids=named)
def test_an_operation_shows_its_requests_and_answers(operation: Operation) -> None:
    for media_type, content in operation.told.get("requestBody", {}).get("content", {}).items():
        assert examples_of(content), f"a request of {media_type}"
    for status, answer in operation.told["responses"].items():
        for media_type, content in answer.get("content", {}).items():
            assert examples_of(content), f"{status} {media_type}"


@pytest.mark.parametrize("operation", OPERATIONS, ids=named)
def test_an_operation_declares_its_problems(operation: Operation) -> None:
    told = operation.told
    for status, answer in told["responses"].items():
        if status >= "400":
            assert list(answer["content"]) == ["application/problem+json"], status
    if "{session_id}" in operation.path or "{workflow_id}" in operation.path:
        assert "404" in told["responses"] or operation.path == "/workflows/{workflow_id}/load"
    if told.get("parameters") or "requestBody" in told:
        assert "422" in told["responses"]


def test_every_operation_has_a_name_of_its_own() -> None:
    names = [operation.told["operationId"] for operation in OPERATIONS]
    assert len(names) == len(set(names))


def test_the_examples_of_answers_have_the_declared_shape() -> None:
    for operation in OPERATIONS:
        for status, answer in operation.told["responses"].items():
            content = answer.get("content", {}).get("application/json")
            if content is None:
                continue
            schema = {**content.get("schema", {}), "components": CONTRACT["components"]}
            for example in examples_of(content):
                found = Draft202012Validator(schema).iter_errors(example)
                faults = [error.message for error in found if not is_a_null_left_out(error)]
                assert not faults, f"{named(operation)} {status}: {faults[:3]}"


def is_a_null_left_out(error: ValidationError) -> bool:
    """The framework leaves null values out of the examples of shapes, also deep inside of one of several."""
    if error.validator == "anyOf":
        return any(is_a_null_left_out(inner) for inner in error.context or ())
    return error.validator == "required"


def test_the_kept_contract_is_the_code_s() -> None:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "scripts/openapi.py", "--check"], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]


def examples() -> Iterator[Example]:
    for operation in OPERATIONS:
        if operation.path in STREAMS or operation.method == "DELETE":
            continue
        contents = operation.told.get("requestBody", {}).get("content")
        if contents is None:
            yield Example(operation, "", None, None)
            continue
        for media_type, content in contents.items():
            for number, body in enumerate(examples_of(content), start=1):
                yield Example(operation, f"{media_type} {number}", body, media_type)


@pytest.mark.parametrize("example", list(examples()), ids=lambda each: f"{named(each.operation)} {each.name}".strip())
def test_an_example_does_what_it_says(example: Example, server: StarterServer) -> None:
    operation = example.operation
    path = operation.path
    query: dict[str, Any] = {}
    for parameter in operation.told.get("parameters", ()):
        name, place = parameter["name"], parameter["in"]
        if place == "path":
            path = path.replace(f"{{{name}}}", server.ids.get(name) or str(example_of(parameter)))
        elif place == "query" and (parameter.get("required") or name == "message_id"):
            query[name] = example_of(parameter)
    headers = {} if example.media_type is None else {"Content-Type": example.media_type}
    if isinstance(example.body, str):
        request: dict[str, Any] = {"content": example.body}
    else:
        request = {} if example.body is None else {"json": example.body}
    answer = server.client.request(operation.method, path, params=query, headers=headers, **request)
    assert str(answer.status_code) in operation.told["responses"], answer.text
    assert answer.is_success or answer.status_code in CONFLICTS, answer.text


def example_of(parameter: dict[str, Any]) -> Any:
    """The first example of a parameter; a name that nothing has, if there is none."""
    if "examples" in parameter:
        return next(iter(parameter["examples"].values()))["value"]
    schema = parameter["schema"]
    return (parameter.get("example") or [*schema.get("examples", ()), schema.get("default"), "none"][0]) or "none"
