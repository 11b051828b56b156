from typing import Any

import httpx
import pytest
import structlog

from modular_agent.api.errors import status_of
from modular_agent.errors import AgentError, Kind


async def get(calling: Any, path: str, **options: Any) -> httpx.Response:
    async with calling(**options.pop("app", {})) as client:
        return await client.get(path, **options)


async def test_an_error_is_a_problem_document_with_its_stable_code(calling: Any) -> None:
    answer = await get(calling, "/teapot?token=x", headers={"X-Request-ID": "abc"})
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "urn:modular-agent:problem:teapot_test",
        "title": "Not available now",
        "status": 503,
        "detail": "Pot is a teapot.",
        "instance": "/teapot",
        "code": "teapot_test",
        "request_id": "abc",
    }


async def test_the_retry_after_of_an_error_is_a_header_in_whole_seconds_rounded_up(calling: Any) -> None:
    assert (await get(calling, "/teapot")).headers["retry-after"] == "2"


async def test_detail_and_title_follow_the_language(calling: Any) -> None:
    answer = await get(calling, "/teapot", headers={"Accept-Language": "fr, zh-CN;q=0.9, en;q=0.5"})
    assert answer.json()["detail"] == "Pot 是一个茶壶。"
    assert answer.json()["title"] == "暂时不可用"
    assert answer.headers["content-language"] == "zh"
    assert "Accept-Language" in answer.headers["vary"]


async def test_faults_become_errors_with_their_places(calling: Any) -> None:
    answer = await get(calling, "/workflow")
    assert answer.status_code == 400
    assert answer.json()["errors"] == [
        {
            "code": "unknown_key",
            "message": "unknown key",
            "path": "nodes.x",
            "file": "a.yaml",
            "line": 3,
            "column": 5,
            "suggestion": "y",
        }
    ]


async def test_an_unknown_path_is_404(calling: Any) -> None:
    answer = await get(calling, "/nowhere")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert "/nowhere" in answer.json()["detail"]


async def test_a_wrong_method_is_405_and_says_which_are_right(calling: Any) -> None:
    async with calling() as client:
        answer = await client.delete("/teapot")
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "GET"


async def test_the_framework_s_own_refusals_keep_status_and_headers(calling: Any) -> None:
    answer = await get(calling, "/forbidden")
    assert (answer.status_code, answer.json()["code"], answer.headers["x-why"]) == (410, "request_refused", "age")


async def test_an_unexpected_exception_tells_nothing_of_the_inside_but_is_logged(calling: Any) -> None:
    with structlog.testing.capture_logs() as lines:
        answer = await get(calling, "/crash")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "secret" not in answer.text
    assert "home" not in answer.text
    assert answer.headers["x-request-id"] == answer.json()["request_id"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert [type(line["exc_info"]) for line in lines if line["log_level"] == "error"] == [LookupError]


async def test_debug_shows_the_trace(calling: Any) -> None:
    answer = await get(calling, "/crash", app={"debug": True})
    assert "LookupError" in answer.json()["trace"]


async def test_an_internal_error_of_ours_is_logged_and_told_by_its_own_text(calling: Any) -> None:
    with structlog.testing.capture_logs() as lines:
        answer = await get(calling, "/broken")
    assert (answer.status_code, answer.json()["detail"]) == (500, "The inside broke.")
    assert "trace" not in answer.json()
    assert [line["code"] for line in lines if line["log_level"] == "error"] == ["broken_test"]


async def test_a_mangled_cursor_is_422(calling: Any) -> None:
    answer = await get(calling, "/orders/?cursor=abc")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_cursor")


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_has_a_status(kind: Kind) -> None:
    class Some(AgentError):
        code = "some_error_of_a_test"

    Some.kind = kind
    assert 400 <= status_of(Some) < 600
