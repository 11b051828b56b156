"""Errors over HTTP: lists, groups that are resolved and come back, retries, and failures of the server itself."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from integration.api.product import FILES, Product, serving_product, write_files
from modular_agent.api.schemas.errors import ErrorAnswer, ErrorList, GroupAnswer, GroupList, RetryAnswer
from modular_agent.domain.error_reports.server_errors import PER_MINUTE, ServerErrors
from modular_agent.kit.redaction import Redactor

LIMITS = {"max_tokens": 1, "on_exceed": "fail"}
ASKED = {"message": "A question of more than one token, surely.", "mode": "wait"}


@pytest.fixture
async def product(tmp_path: Path) -> AsyncIterator[Product]:
    write_files(tmp_path / "configs", FILES)
    async with serving_product(tmp_path) as served:
        yield served


async def fail(product: Product, count: int = 1) -> list[str]:
    """Sessions whose run has failed of the same cause."""
    await product.json("PUT", "/config/default_limits", json={"value": LIMITS})
    sessions: list[str] = []
    for _ in range(count):
        session = await product.json("POST", "/sessions/", status=201, json={"workflow_id": "talk"})
        run = await product.json("POST", f"/sessions/{session['session_id']}/runs", json=ASKED)
        assert run["status"] == "failed"
        sessions.append(session["session_id"])
    return sessions


async def group(product: Product) -> dict[str, Any]:
    found = await product.json("GET", "/errors/groups")
    GroupList.model_validate(found)
    (only,) = found["groups"]
    return only


async def test_a_failed_run_is_in_the_list_with_what_it_was(product: Product) -> None:
    (session,) = await fail(product)
    found = await product.json("GET", "/errors")
    ErrorList.model_validate(found)
    (error,) = found["errors"]
    assert (error["session_id"], error["workflow_id"], error["node"]) == (session, "talk", "answer")
    assert (error["severity"], error["status"]) == ("error", "open")
    shown = await product.json("GET", f"/errors/{error['error_id']}")
    ErrorAnswer.model_validate(shown)
    assert shown == error
    assert "stack_trace" not in shown
    await product.problem("GET", "/errors/err_none", status=404, code="error_not_found")


async def test_a_trace_is_kept_and_shown_in_debug_only(tmp_path: Path) -> None:
    write_files(tmp_path / "configs", FILES)
    async with serving_product(tmp_path) as product:
        await fail(product)
        (error,) = (await product.json("GET", "/errors"))["errors"]
    async with serving_product(tmp_path, DEBUG="true") as product:
        shown = await product.json("GET", f"/errors/{error['error_id']}")
        assert "Traceback" in shown["stack_trace"]


async def test_every_filter_filters(product: Product) -> None:
    first, second = await fail(product, 2)
    (newest, oldest) = (await product.json("GET", "/errors"))["errors"]
    assert (newest["session_id"], oldest["session_id"]) == (second, first)

    async def found(**query: Any) -> list[str]:
        return [each["session_id"] for each in (await product.json("GET", "/errors", params=query))["errors"]]

    assert await found(session_id=first) == [first]
    assert await found(run_id=newest["run_id"]) == [second]
    assert await found(error_type=newest["error_type"]) == [second, first]
    assert await found(error_type="other") == []
    assert await found(severity="warning") == []
    assert await found(fingerprint=newest["fingerprint"], status="open") == [second, first]
    assert await found(status="resolved") == []
    assert await found(start_time=newest["timestamp"]) == [second]  # the start is in the range
    assert await found(end_time=newest["timestamp"]) == [first]  # the end is not
    assert await found(session_id="no-such-session") == []


async def test_pages_and_cursors_show_each_error_once(product: Product) -> None:
    sessions = await fail(product, 5)
    seen: list[str] = []
    query: dict[str, Any] = {"page_size": 2}
    while True:
        page = await product.json("GET", "/errors", params=query)
        assert page["total"] == 5
        seen += [each["session_id"] for each in page["errors"]]
        if not page["has_next"]:
            break
        query["cursor"] = page["cursor"]
    assert seen == sessions[::-1]
    third = await product.json("GET", "/errors", params={"page": 3, "page_size": 2})
    assert [each["session_id"] for each in third["errors"]] == sessions[:1]


async def test_bad_queries_are_told(product: Product) -> None:
    for path in ("/errors", "/errors/groups"):
        for query in ({"page": 0}, {"page_size": 101}, {"severity": "x"}, {"status": "x"}, {"start_time": "x"}):
            await product.problem("GET", path, params=query, status=422, code="invalid_request")
        await product.problem("GET", path, params={"cursor": "x"}, status=422, code="invalid_cursor")
        reversed_range = {"start_time": "2026-01-02T00:00:00Z", "end_time": "2026-01-01T00:00:00Z"}
        await product.problem("GET", path, params=reversed_range, status=422, code="time_range_reversed")
    missing: dict[str, Any] = {"status": 404, "code": "error_group_not_found"}
    await product.problem("GET", "/errors/groups/0000", **missing)
    for verb in ("resolve", "reopen", "retry"):
        await product.problem("POST", f"/errors/groups/0000/{verb}", **missing)
    for body in ({"limit": 0}, {"limit": 101}, {"limits": 1}):
        await product.problem("POST", "/errors/groups/0000/retry", json=body, status=422, code="invalid_request")


async def test_errors_of_one_cause_are_one_group(product: Product) -> None:
    sessions = await fail(product, 3)
    found = await group(product)
    GroupAnswer.model_validate(found)
    assert (found["count"], found["open_count"], found["session_count"], found["run_count"]) == (3, 3, 3, 3)
    assert found["sessions"] == sessions[::-1]
    assert found["first_seen"] < found["last_seen"] == found["sample"]["timestamp"]
    assert (found["status"], found["regressed"]) == ("open", False)
    assert await product.json("GET", f"/errors/groups/{found['fingerprint']}") == found


async def test_a_resolved_group_opens_again_when_it_happens_again(product: Product) -> None:
    await fail(product, 2)
    mark = (await group(product))["fingerprint"]
    resolved = await product.json("POST", f"/errors/groups/{mark}/resolve", json={"note": "Raised the limit."})
    assert (resolved["status"], resolved["open_count"], resolved["note"]) == ("resolved", 0, "Raised the limit.")
    assert resolved["resolved_by"].startswith("address:")
    assert (await product.json("GET", "/errors", params={"status": "open"}))["total"] == 0
    assert (await product.json("GET", "/errors/groups", params={"status": "open"}))["groups"] == []
    assert (await product.json("GET", "/errors/groups", params={"status": "resolved"}))["total"] == 1
    await fail(product)
    again = await group(product)
    assert (again["status"], again["regressed"], again["count"], again["open_count"]) == ("open", True, 3, 1)
    reopened = await product.json("POST", f"/errors/groups/{mark}/reopen")
    assert (reopened["status"], reopened["regressed"], reopened["open_count"]) == ("open", False, 3)


async def test_the_runs_of_a_group_are_retried_within_a_bound(product: Product) -> None:
    sessions = await fail(product, 3)
    await product.json("DELETE", "/config/default_limits")
    mark = (await group(product))["fingerprint"]
    answer = await product.json("POST", f"/errors/groups/{mark}/retry", json={"limit": 2})
    RetryAnswer.model_validate(answer)
    assert (answer["retried"], answer["remaining"]) == (2, 1)
    assert [run["session_id"] for run in answer["runs"]] == sessions[:2]  # the oldest first
    for run in answer["runs"]:
        await product.runtime.runs.wait(run["run_id"])
        ended = await product.json("GET", f"/sessions/{run['session_id']}/runs/{run['run_id']}")
        assert ended["status"] == "completed"
    rest = await product.json("POST", f"/errors/groups/{mark}/retry")
    assert (rest["retried"], rest["remaining"]) == (1, 0)
    await product.runtime.runs.wait(rest["runs"][0]["run_id"])
    assert (await product.json("POST", f"/errors/groups/{mark}/retry"))["runs"] == []


async def test_a_run_that_its_session_has_left_behind_is_not_retried(product: Product) -> None:
    (session,) = await fail(product)
    await product.json("DELETE", "/config/default_limits")
    run = await product.json("POST", f"/sessions/{session}/runs", json=ASKED)
    assert run["status"] == "completed"
    mark = (await group(product))["fingerprint"]
    assert (await product.json("POST", f"/errors/groups/{mark}/retry"))["runs"] == []


async def test_a_deleted_session_takes_its_errors_along(product: Product) -> None:
    first, second = await fail(product, 2)
    await product.json("DELETE", f"/sessions/{first}")
    assert (await group(product))["sessions"] == [second]
    await product.json("DELETE", f"/sessions/{second}")
    assert (await product.json("GET", "/errors/groups"))["total"] == 0
    assert (await product.json("GET", "/errors"))["total"] == 0


def broken(secret: str) -> Exception:
    try:
        raise ZeroDivisionError(f"with api_key={secret}")
    except ZeroDivisionError as error:
        return error


async def test_a_failure_of_the_server_is_an_error_without_a_session(product: Product) -> None:
    structlog.stdlib.get_logger("test").info("only what carries an exception counts")
    runtime = product.runtime
    taker = ServerErrors(runtime.database, clock=runtime.clock, redactor=Redactor(["abcdefgh"]))
    async with taker:
        for _ in range(PER_MINUTE + 5):
            taker.take(broken("abcdefgh"), "a background task", "run_1")
    found = await product.json("GET", "/errors")
    assert 1 <= found["total"] <= 2 * PER_MINUTE  # a flood of one cause is cut, in each minute
    error = found["errors"][0]
    assert (error["session_id"], error["run_id"], error["error_type"]) == (None, "run_1", "ZeroDivisionError")
    assert error["error_message"] == "with api_key=***"
    traces = await runtime.database.readers.query("SELECT stack_trace FROM error_traces LIMIT 1")
    assert "ZeroDivisionError" in traces[0][0]
    assert "abcdefgh" not in traces[0][0]
    assert (await group(product))["session_count"] == 0


async def test_when_storage_fails_the_failure_is_not_taken_up_again(tmp_path: Path) -> None:
    write_files(tmp_path / "configs", FILES)
    async with serving_product(tmp_path) as product:
        taker = ServerErrors(product.runtime.database, clock=product.runtime.clock, redactor=Redactor())
    async with taker:  # the writer is closed by now
        taker.take(broken("x"), "a request")
        await asyncio.wait_for(asyncio.sleep(0.05), 1)
