"""`/analytics/` and the statistics of sessions, as a client sees them."""

import csv
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from servers.live_server import LiveServer

TALK = """\
models: {main: {provider: scripted, script: scripts/test.yaml}}
nodes:
  answer: {type: llm, model: main, prompt: Be brief.}
edges:
  - {from: START, to: answer}
"""
PRICES = "models: {scripted/*: {input: 2, output: 10}}\n"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[LiveServer]:
    server = LiveServer(tmp_path)
    server.workflow(TALK, otherwise={"reply": "Well, well."})
    server.configure({"prices.yaml": PRICES})
    async with server:
        yield server


async def problem(server: LiveServer, path: str, status: int, code: str, **params: Any) -> None:
    answer = await server.client.get(path, params=params)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


async def test_a_run_shows_up_in_every_figure(server: LiveServer) -> None:
    session = await server.session()
    await server.run(session, "Hello!")
    (usage,) = await server.records(session, "token_usage")
    (cost,) = await server.records(session, "cost")
    tokens = await server.get("/analytics/tokens")
    assert tokens["total_tokens"] == usage["total_tokens"] > 0
    assert tokens["by_session"][session]["total_tokens"] == usage["total_tokens"]
    assert tokens == {**(await server.get(f"/analytics/tokens/{session}")), "session_id": None} | {
        "by_session": tokens["by_session"]
    }
    money = await server.get("/analytics/cost")
    assert money["total_cost"] == cost["amount"] > 0  # by the operator's own prices
    assert money["cost_by_workflow"]["test"]["cost"] == cost["amount"]
    assert (await server.get(f"/analytics/cost/{session}"))["total_cost"] == cost["amount"]
    performance = await server.get("/analytics/performance", session_id=session)
    assert (performance["request_count"], performance["error_rate"]) == (1, 0)
    assert performance["min_response_time"] <= performance["p50"] <= performance["max_response_time"]
    assert performance["by_node"].keys() == {"answer"}
    assert performance["resource_usage"]["memory_bytes"] > 0
    one = await server.get(f"/sessions/{session}/statistics")
    assert (one["total_messages"], one["success_rate"], one["total_errors"]) == (3, 100, 0)  # the prompt too
    assert one["duration_seconds"] > 0
    all_of_them = await server.get("/sessions/statistics")
    assert (all_of_them["total_sessions"], all_of_them["success_rate"], all_of_them["ended_runs"]) == (1, 100, 1)
    for metric, count in (("runs", 1), ("sessions", 1), ("tokens", 1), ("errors", 0)):
        for time_range in ("1h", "24h", "7d", "30d", "90d"):
            trend = await server.get("/analytics/trends", metric=metric, time_range=time_range)
            assert trend["points"][-1]["count"] + trend["points"][-2]["count"] == count, (metric, time_range)
            assert sum(point["count"] for point in trend["points"]) == count


async def test_a_deleted_session_is_taken_out(server: LiveServer) -> None:
    kept, deleted = await server.session(), await server.session()
    await server.run(kept, "Hello!")
    before = await server.get("/analytics/cost")
    statistics = await server.get("/sessions/statistics")
    await server.run(deleted, "Hello!")
    assert (await server.get("/analytics/cost")) != before
    assert (await server.client.delete(f"/sessions/{deleted}")).status_code == 200
    assert await server.get("/analytics/cost") == before
    assert await server.get("/sessions/statistics") == {
        **statistics,
        "total_sessions": 1,
        "active_sessions": 0,
        "by_status": {"completed": 1},
    }
    await problem(server, f"/analytics/cost/{deleted}", 404, "session_not_found")


async def test_nothing_is_null_or_zero_and_never_negative(server: LiveServer) -> None:
    assert (await server.get("/sessions/statistics"))["success_rate"] is None
    performance = await server.get("/analytics/performance")
    assert (performance["request_count"], performance["error_rate"], performance["p99"]) == (0, None, None)
    assert (await server.get("/analytics/cost"))["total_cost"] == 0
    trend = await server.get("/analytics/trends", metric="error_rate", time_range="24h")
    assert [point["value"] for point in trend["points"]] == [None] * 24
    trend = await server.get("/analytics/trends", metric="cost")
    assert [point["value"] for point in trend["points"]] == [0] * 168
    assert trend["change"] == {"current": 0, "previous": 0, "percent": None}


async def test_tokens_without_a_price_are_not_free(tmp_path: Path) -> None:
    server = LiveServer(tmp_path)
    server.workflow(TALK, otherwise={"reply": "Well, well."})
    async with server:
        session = await server.session()
        await server.run(session, "Hello!")
        for cost in (await server.get("/analytics/cost"), await server.get(f"/analytics/cost/{session}")):
            assert cost["total_cost"] is None
            assert cost["unpriced_tokens"] == cost["total_tokens"] > 0
            assert [each["cost"] for each in cost["cost_by_model"].values()] == [None]
        assert (await server.get("/sessions/statistics"))["cost"] is None
        report = await server.get("/analytics/report", format="json")
        assert report["cost"]["total_cost"] is None
        text = (await server.client.get("/analytics/report", params={"format": "markdown"})).text
        assert "| Cost (USD) | unpriced |" in text


async def test_a_session_is_asked_about_within_a_range_only(server: LiveServer) -> None:
    session = await server.session()
    await server.run(session, "Hello!")
    (usage,) = await server.records(session, "token_usage")
    at = usage["timestamp"]
    for path in (f"/analytics/tokens/{session}", "/analytics/tokens"):
        assert (await server.get(path, start_time=at))["total_tokens"] == usage["total_tokens"]
        assert (await server.get(path, end_time=at))["total_tokens"] == 0
    offset = {"start_time": "2020-01-01T08:00:00+08:00", "end_time": "2020-01-01T00:00:00"}  # the same moment
    assert (await server.get("/analytics/performance", **offset))["request_count"] == 0


@pytest.mark.parametrize(
    ("path", "params", "code"),
    [
        ("trends", {"metric": "beauty"}, "metric_unknown"),
        ("trends", {"metric": "tokens", "time_range": "2h"}, "time_range_unknown"),
        ("trends", {}, "invalid_request"),
        ("report", {"format": "pdf"}, "report_format_unknown"),
        ("report", {"start_time": "2026-01-02", "end_time": "2026-01-01"}, "time_range_reversed"),
        ("performance", {"start_time": "2026-01-02", "end_time": "2026-01-01"}, "time_range_reversed"),
        ("cost", {"start_time": "yesterday"}, "invalid_request"),
        ("tokens", {"end_time": "2026-13-01"}, "invalid_request"),
        ("cost", {"top": "0"}, "invalid_request"),
    ],
)
async def test_bad_input_has_its_own_code(server: LiveServer, path: str, params: dict[str, str], code: str) -> None:
    await problem(server, f"/analytics/{path}", 422, code, **params)


async def test_unknown_sessions_and_reports_are_not_found(server: LiveServer) -> None:
    for path in ("/analytics/tokens/none", "/analytics/cost/none", "/sessions/none/statistics"):
        await problem(server, path, 404, "session_not_found")
    for path in ("/analytics/performance", "/analytics/errors"):
        await problem(server, path, 404, "session_not_found", session_id="none")
    await problem(server, "/analytics/trends", 404, "session_not_found", metric="tokens", session_id="none")
    await problem(server, "/analytics/reports/none", 404, "report_not_found")
    await problem(server, "/analytics/reports/none", 422, "report_format_unknown", format="exe")


async def test_far_away_times_are_answered(server: LiveServer) -> None:
    for start, end in (("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"), ("1960-01-01", "1969-01-01")):
        for path in ("performance", "tokens", "cost", "errors", "report"):
            answer = await server.client.get(f"/analytics/{path}", params={"start_time": start, "end_time": end})
            assert answer.status_code == 200, answer.text


async def test_a_report_can_be_kept_as_it_stood(server: LiveServer) -> None:
    session = await server.session()
    await server.run(session, "Hello!")
    kept = await server.post("/analytics/reports", {"title": "=First | week"}, status=201)
    assert (await server.client.delete(f"/sessions/{session}")).status_code == 200
    path = f"/analytics/reports/{kept['report_id']}"
    listed = await server.get("/analytics/reports")
    assert (listed["reports"], listed["total"], listed["has_next"]) == ([kept], 1, False)
    newer = await server.post("/analytics/reports", {"title": "Newer"}, status=201)
    first = await server.get("/analytics/reports", page_size=1)
    second = await server.get("/analytics/reports", page_size=1, cursor=first["cursor"])
    assert (first["reports"], second["reports"], second["cursor"]) == ([newer], [kept], None)
    figures = await server.get(path, format="json")
    assert figures["runs"]["completed"] == 1
    assert session in figures["cost"]["cost_by_session"]
    text = await server.client.get(path)
    assert text.headers["content-type"] == "text/markdown; charset=utf-8"
    assert text.text.startswith("# =First \\| week\n")
    page = await server.client.get(path, params={"format": "html"})
    assert page.headers["content-disposition"] == f'attachment; filename="{kept["report_id"]}.html"'
    assert "<h1>=First | week</h1>" in page.text
    rows = list(csv.DictReader(io.StringIO((await server.client.get(path, params={"format": "csv"})).text)))
    assert {"section": "Summary", "name": "Model calls", "figure": "value", "value": "1"} in rows
    assert (await server.client.delete(path)).status_code == 200
    await problem(server, path, 404, "report_not_found")
