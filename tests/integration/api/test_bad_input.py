"""Whatever is sent: a clear error of one shape, in the caller's language, and nothing of the server's inside."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from modular_agent.api.problem import Problem
from servers.live_server import LiveServer

ECHO = """
models: {main: {provider: scripted, script: scripts/test.yaml}}
nodes: {answer: {type: llm, model: main}}
edges: [{from: START, to: answer}, {from: answer, to: END}]
"""
HEAD = "schema: modular-agent/v1\nname: bad\n"
MODEL = "models: {main: {provider: scripted, script: scripts/test.yaml}}\n"
BAD_WORKFLOWS: dict[str, str] = {
    "broken YAML": HEAD + "nodes: {a: [\n",
    "an unknown node type": HEAD + MODEL + "nodes: {a: {type: lmm, model: main}}\n"
    "edges: [{from: START, to: a}, {from: a, to: END}]\n",
    "an edge to nowhere": HEAD + MODEL + "nodes: {a: {type: llm, model: main}}\n"
    "edges: [{from: START, to: a}, {from: a, to: b}]\n",
    "an unreachable node": HEAD + MODEL + "nodes: {a: {type: llm, model: main}, b: {type: llm, model: main}}\n"
    "edges: [{from: START, to: a}, {from: a, to: END}, {from: b, to: END}]\n",
    "a cycle without an exit": HEAD + MODEL + "nodes: {a: {type: llm, model: main}, b: {type: llm, model: main}}\n"
    "edges: [{from: START, to: a}, {from: a, to: b}, {from: b, to: a}]\n",
    "a reference outside the allow list": HEAD + "nodes: {a: {type: function, ref: 'os:getcwd'}}\n"
    "edges: [{from: START, to: a}, {from: a, to: END}]\n",
    "a missing variable": HEAD + "models: {main: {provider: openai, model: '${env.NO_SUCH_VARIABLE_HERE}'}}\n"
    "nodes: {a: {type: llm, model: main}}\nedges: [{from: START, to: a}, {from: a, to: END}]\n",
    "a script outside the root": HEAD + "models: {main: {provider: scripted, script: ../../etc/passwd}}\n"
    "nodes: {a: {type: llm, model: main}}\nedges: [{from: START, to: a}, {from: a, to: END}]\n",
    "no workflow at all": "just text\n",
    "another schema": "schema: modular-agent/v9\nname: bad\n",
}  # fmt: skip


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[LiveServer]:
    server = LiveServer(tmp_path, MAX_BODY_BYTES="20000", MAX_JSON_DEPTH="16")
    server.workflow(ECHO, otherwise={"reply": "You said: {{ input }}"})
    async with server:
        yield server


def problem_of(answer: httpx.Response, server: LiveServer) -> dict[str, Any]:
    """The problem document, which must be one, and must give nothing away."""
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    Problem.model_validate(problem)
    assert problem["status"] == answer.status_code
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert problem["type"].endswith(problem["code"])
    for hidden in ("Traceback", 'File "', str(server.path), "/site-packages/", "sqlite"):
        assert hidden not in answer.text
    return problem


async def test_each_bad_workflow_has_an_error_of_its_own_and_makes_nothing(server: LiveServer) -> None:
    said: dict[str, str] = {}
    for name, text in BAD_WORKFLOWS.items():
        server.configure({"workflows/bad.yaml": text})
        answer = await server.client.post("/sessions/", json={"workflow_config_path": "workflows/bad.yaml"})
        assert answer.status_code == 400, name
        problem = problem_of(answer, server)
        assert problem["code"] == "workflow_invalid", name
        for fault in problem["errors"]:
            assert fault["file"] == "workflows/bad.yaml", name
            assert fault["line"], name
            assert fault["message"], name
        said[name] = problem["errors"][0]["code"]
    assert len(set(said.values())) >= len(said) - 2, said
    assert (await server.get("/sessions/"))["total"] == 0
    answer = await server.client.post("/sessions/", json={"workflow_id": "bad"})
    assert problem_of(answer, server)["code"] == "workflow_not_found"


BODIES: list[tuple[str, bytes, str, int, str]] = [
    ("no body", b"", "application/json", 422, "invalid_request"),
    ("not JSON", b"{", "application/json", 422, "invalid_json"),
    ("NaN", b'{"metadata": {"x": NaN}}', "application/json", 422, "invalid_json"),
    ("half a character", b'{"title": "\\ud800"}', "application/json", 422, "invalid_json"),
    ("not UTF-8", b'{"title": "\xff"}', "application/json", 422, "invalid_json"),
    ("a list", b"[]", "application/json", 422, "invalid_request"),
    ("text", b'"x"', "application/json", 422, "invalid_request"),
    ("null", b"null", "application/json", 422, "invalid_request"),
    ("deep", b'{"metadata": ' + b'{"x":' * 20 + b"1" + b"}" * 21, "application/json", 422, "json_too_deep"),
    ("an integer", b'{"metadata": {"x": 18446744073709551616}}', "application/json", 422, "json_number_too_large"),
    ("too large", b'{"title": "' + b"x" * 30_000 + b'"}', "application/json", 413, "body_too_large"),
    ("a form", b"workflow_id=test", "application/x-www-form-urlencoded", 422, "invalid_request"),
    ("plain text", b'{"workflow_id": "test"}', "text/plain", 422, "invalid_request"),
    ("multipart", b"--x\r\n\r\n--x--", "multipart/form-data; boundary=x", 422, "invalid_request"),
]


async def test_a_body_that_cannot_be_read_says_what_is_wrong_with_it(server: LiveServer) -> None:
    session_id = await server.session()
    calls = [("POST", "/sessions/"), ("PUT", f"/sessions/{session_id}"), ("POST", f"/sessions/{session_id}/runs")]
    for name, body, media, status, code in BODIES:
        for method, url in calls:
            if status == 413 or name != "no body":
                answer = await server.client.request(method, url, content=body, headers={"Content-Type": media})
                problem = problem_of(answer, server)
                assert (problem["status"], problem["code"]) == (status, code), (name, url, problem)
    assert (await server.get("/sessions/"))["total"] == 1
    assert (await server.get(f"/sessions/{session_id}"))["last_seq"] == 0


async def test_an_integer_that_would_become_a_float_is_shown_where_it_is(server: LiveServer) -> None:
    body = b'{"workflow_id": "test", "metadata": {"order": {"ids": [1, -9223372036854775809]}}}'
    headers = {"Content-Type": "application/json", "Accept-Language": "zh"}
    problem = problem_of(await server.client.post("/sessions/", content=body, headers=headers), server)
    assert problem["errors"][0]["path"] == "/body/metadata/order/ids/1"
    assert "64" in problem["detail"]
    kept = {"most": 2**64 - 1, "least": -(2**63), "text": "1" * 30}
    session = await server.client.post("/sessions/", json={"workflow_id": "test", "metadata": kept})
    assert session.json()["metadata"] == kept


async def test_a_search_for_a_null_character_finds_nothing(server: LiveServer) -> None:
    await server.session()
    for search in ("\0", "t\0", "\0t"):
        for path in ("/sessions/", "/workflows/"):
            assert (await server.get(path))["total"] == 1
            assert (await server.get(path, search=search))["total"] == 0


async def test_routes_and_methods_that_do_not_exist(server: LiveServer) -> None:
    session_id = await server.session()
    for url in ("/nowhere", "/sessions/a/b/c", "/session", "/sessions/x/runs/y/z", "/../etc/passwd", "/%00"):
        answer = await server.client.get(url)
        assert problem_of(answer, server)["code"] == "not_found", url
    for method, url in (
        ("PATCH", "/sessions/"), ("DELETE", "/sessions/"), ("POST", f"/sessions/{session_id}"),
        ("GET", f"/sessions/{session_id}/pause"), ("PUT", f"/sessions/{session_id}/runs"),
        ("POST", f"/sessions/{session_id}/events"),
    ):  # fmt: skip
        answer = await server.client.request(method, url)
        problem = problem_of(answer, server)
        assert (answer.status_code, problem["code"]) == (405, "method_not_allowed"), (method, url)
        assert method not in answer.headers["allow"]


async def test_chinese_is_answered_in_chinese(server: LiveServer) -> None:
    headers = {"Accept-Language": "zh-CN,zh;q=0.9,en;q=0.5"}
    session_id = await server.session()
    for method, url, body in (
        ("GET", "/sessions/none", None), ("GET", "/sessions/?page=0", None), ("GET", "/nowhere", None),
        ("POST", "/sessions/", {}), ("POST", f"/sessions/{session_id}/pause", None),
        ("POST", f"/sessions/{session_id}/runs", {"message": "x", "input": "y"}),
        ("PUT", f"/sessions/{session_id}", {"status": "completed"}),
    ):  # fmt: skip
        answer = await server.client.request(method, url, json=body, headers=headers)
        problem = problem_of(answer, server)
        assert answer.headers["content-language"] == "zh"
        for text in (problem["title"], problem["detail"], *(fault["message"] for fault in problem.get("errors", []))):
            assert any("一" <= letter <= "鿿" for letter in text), text


async def test_hostile_values_are_kept_or_refused_but_never_break_anything(server: LiveServer) -> None:
    session_id = await server.session()
    texts = [
        "\0",
        "'; DROP TABLE sessions; --",
        "{{ 7 * 7 }}",
        "${env.HOME}",
        "\u202e",
        "😀" * 50,
        "%s%n",
        "../../x",
        "\r\nX: y",
    ]
    for text in texts:
        body = {"metadata": {text: text}, "title": text, "tags": [text]}
        answer = await server.client.put(f"/sessions/{session_id}", json=body)
        assert answer.status_code == 200
        assert (answer.json()["title"], answer.json()["tags"]) == (text, [text])
        assert (await server.get("/sessions/", search=text))["total"] == 1, text
        run = await server.run(session_id, text)
        assert run["result"]["output"] == f"You said: {text}"
    numbers = [2**53 + 1, -(2**63), 2**64 - 1, 1e308, 0.1]
    answer = await server.client.put(f"/sessions/{session_id}", json={"metadata": {"n": numbers}})
    assert answer.json()["metadata"]["n"] == numbers
    for key in ("", "x" * 201, "a\u0007b"):
        headers = {"Idempotency-Key": key.encode()}
        answer = await server.client.post("/sessions/", json={"workflow_id": "test"}, headers=headers)
        assert answer.status_code in (201, 400, 422), key


async def test_requests_that_are_no_http_are_refused(server: LiveServer) -> None:
    for request in (
        b"\x16\x03\x01\x02\x00",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 200_000,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request)
        writer.write_eof()
        async with asyncio.timeout(5):
            answer = await reader.read()
        assert not answer or b"400" in answer.splitlines()[0], answer[:100]
        writer.close()
    assert (await server.client.get("/sessions/")).status_code == 200
