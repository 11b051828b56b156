"""The schema that `/docs` shows: complete, and true of what the server answers."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from servers.live_server import LiveServer

ECHO = """
models: {main: {provider: scripted, script: scripts/test.yaml}}
nodes: {answer: {type: llm, model: main}}
edges: [{from: START, to: answer}, {from: answer, to: END}]
"""
OURS = (
    "SessionAnswer", "SessionList", "CreateSession", "UpdateSession", "Message", "HistoryAnswer", "StateAnswer",
    "StartRun", "RunWorkflow", "RunAnswer", "RunList", "AnswerInterrupt", "InterruptList",
)  # fmt: skip
VERBS = ("get", "post", "put", "patch", "delete")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[LiveServer]:
    server = LiveServer(tmp_path)
    server.workflow(ECHO, otherwise={"reply": "You said: {{ input }}"})
    async with server:
        yield server


def operations(schema: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in schema["paths"].items():
        for verb in VERBS:
            if verb in item:
                yield verb, path, item[verb]


async def test_every_operation_is_explained_and_says_its_errors(server: LiveServer) -> None:
    schema = await server.get("/openapi.json")
    names: list[str] = []
    for verb, path, operation in operations(schema):
        place = f"{verb} {path}"
        names.append(operation["operationId"])
        assert operation["summary"], place
        assert operation["description"], place
        assert operation["tags"], place
        for parameter in operation.get("parameters", []):
            assert "schema" in parameter, place
        if "{session_id}" in path:
            assert "404" in operation["responses"], place
        for status, response in operation["responses"].items():
            assert response["description"], place
            if int(status) >= 400:
                assert list(response["content"]) == ["application/problem+json"], place
                content = response["content"]["application/problem+json"]
                assert content["examples"], place
    assert len(names) == len(set(names))


async def test_bodies_and_answers_have_examples_that_are_valid(server: LiveServer) -> None:
    schema = await server.get("/openapi.json")
    bare: set[str] = set()
    for _, _, operation in operations(schema):
        contents = [operation.get("requestBody", {}).get("content", {}).get("application/json")]
        contents += [
            response.get("content", {}).get("application/json")
            for status, response in operation["responses"].items()
            if int(status) < 300
        ]
        for content in contents:
            if content is None or "$ref" not in content.get("schema", {}):
                continue
            name = content["schema"]["$ref"].rpartition("/")[2]
            model = schema["components"]["schemas"][name]
            examples = content.get("examples") or content.get("example") or model.get("examples")
            if not examples:
                bare.add(name)
            validator = Draft202012Validator({**model, "components": schema["components"]})
            for example in examples if name in OURS and isinstance(examples, list) else []:
                # The framework leaves nulls out of examples.
                errors = [error.message for error in validator.iter_errors(example) if error.validator != "required"]
                assert errors == [], name
    assert {name for name in bare if name in OURS} == set()


async def test_answers_are_what_the_schema_declares(server: LiveServer) -> None:
    schema = await server.get("/openapi.json")
    session_id = await server.session(metadata={"a": 1})
    run = await server.run(session_id, "hello")
    calls = [
        ("get", "/sessions/", "/sessions/", None),
        ("post", "/sessions/", "/sessions/", {"workflow_id": "test"}),
        ("get", "/sessions/{session_id}", f"/sessions/{session_id}", None),
        ("put", "/sessions/{session_id}", f"/sessions/{session_id}", {"title": "x"}),
        ("get", "/sessions/{session_id}/history", f"/sessions/{session_id}/history", None),
        ("get", "/sessions/{session_id}/state", f"/sessions/{session_id}/state", None),
        ("get", "/sessions/{session_id}/runs", f"/sessions/{session_id}/runs", None),
        ("post", "/sessions/{session_id}/runs", f"/sessions/{session_id}/runs", {"message": "x", "mode": "wait"}),
        ("get", "/sessions/{session_id}/runs/{run_id}", f"/sessions/{session_id}/runs/{run['run_id']}", None),
        ("get", "/sessions/{session_id}/interrupts", f"/sessions/{session_id}/interrupts", None),
        ("post", "/sessions/{session_id}/pause", f"/sessions/{session_id}/pause", None),
        ("post", "/workflows/{workflow_id}/run", "/workflows/test/run", {"message": "x"}),
        ("get", "/sessions/{session_id}", "/sessions/none", None),
        ("get", "/sessions/", "/sessions/?page=0", None),
        ("delete", "/sessions/{session_id}", f"/sessions/{session_id}", None),
    ]
    for verb, path, url, body in calls:
        answer = await server.client.request(verb.upper(), url, json=body)
        response = schema["paths"][path][verb]["responses"][str(answer.status_code)]
        media = answer.headers["content-type"].partition(";")[0]
        declared = response["content"][media]["schema"]
        validator = Draft202012Validator({**declared, "components": schema["components"]})
        assert [error.message for error in validator.iter_errors(answer.json())] == [], (verb, url)


async def test_both_pages_of_documentation_are_there(server: LiveServer) -> None:
    for path in ("/docs", "/redoc"):
        answer = await server.client.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/html")
        assert "/openapi.json" in answer.text
