"""Search, over HTTP, on a server with a log."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from integration.api.product import FILES, Product, serving_product, write_files
from modular_agent.api.schemas.search import SearchAnswer, SessionSearchAnswer

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def product(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Product]:
    place = tmp_path_factory.mktemp("search")
    write_files(place / "configs", FILES)
    async with serving_product(place) as served:
        yield served


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sessions(product: Product) -> list[str]:
    said = ["今天杭州的天气怎么样？", 'A <b>bold</b> "claim" AND more', "Third: nothing but weather."]
    return [await product.run("talk", text) for text in said]


async def found(product: Product, path: str = "/history/search", **params: Any) -> list[Any]:
    answer = await product.json("GET", path, params=params)
    (SessionSearchAnswer if "sessions" in path else SearchAnswer).model_validate(answer)
    return answer["results"]


@pytest.mark.parametrize("query", ["天气", "杭", "杭州的天气", "？"])
async def test_a_chinese_word_is_found_with_its_place(product: Product, sessions: list[str], query: str) -> None:
    (hit,) = await found(product, query=query)
    assert hit["session_id"] == sessions[0]
    assert (hit["record_type"], hit["message_type"], hit["field"]) == ("message", "user", "content")
    assert [piece["text"] for piece in hit["fragments"] if piece["match"]] == [query]
    assert "".join(piece["text"] for piece in hit["fragments"]) == "今天杭州的天气怎么样？"
    assert f"<mark>{query}</mark>" in hit["snippet"]


async def test_markup_in_a_message_is_escaped_in_its_snippet(product: Product, sessions: list[str]) -> None:
    (hit,) = await found(product, query="<B>bold</b>")
    assert hit["snippet"] == ("A <mark>&lt;b&gt;bold&lt;/b&gt;</mark> &quot;claim&quot; AND more")


@pytest.mark.parametrize("query", ['"claim" and', '"', " AND ", '"claim', 'claim" OR x'])
async def test_quotes_and_operators_are_literal(product: Product, sessions: list[str], query: str) -> None:
    hits = await found(product, query=query)
    assert [hit["session_id"] for hit in hits] == ([] if "OR" in query else [sessions[1]])


async def test_a_session_is_searched_alone(product: Product, sessions: list[str]) -> None:
    everywhere = await found(product, query="friend")
    assert [hit["session_id"] for hit in everywhere] == sessions[::-1]
    (one,) = await found(product, f"/history/sessions/{sessions[1]}/search", query="friend")
    assert one["session_id"] == sessions[1]
    assert await found(product, query="friend", session_id=sessions[1]) == [one]
    assert await found(product, query="friend", workflow_id="rest") == []
    assert len(await found(product, query="friend", workflow_id="talk")) == 3
    assert await found(product, query="friend", record_types="error,tool_call") == []
    assert await found(product, query="friend", end_time=everywhere[-1]["timestamp"]) == []


async def test_pages_follow_by_cursor(product: Product, sessions: list[str]) -> None:
    params: dict[str, Any] = {"query": "friend", "limit": 1}
    seen: list[str] = []
    while True:
        answer = await product.json("GET", "/history/search", params=params)
        assert "total" not in answer
        seen += [hit["session_id"] for hit in answer["results"]]
        assert answer["has_next"] == (answer["cursor"] is not None)
        if not answer["has_next"]:
            break
        params["cursor"] = answer["cursor"]
    assert seen == sessions[::-1]
    first = await product.json("GET", "/history/search", params={"query": "friend", "limit": 1})
    stolen = {"query": "weather", "cursor": first["cursor"]}
    await product.problem("GET", "/history/search", params=stolen, status=422, code="invalid_cursor")


async def test_what_cannot_be_searched_is_refused(product: Product, sessions: list[str]) -> None:
    for path in ("/history/search", f"/history/sessions/{sessions[0]}/search"):
        for params in (
            {},
            {"query": ""},
            {"query": "x" * 10_000},
            {"query": "x", "limit": 0},
            {"query": "x", "limit": 101},
        ):
            await product.problem("GET", path, params=params, status=422, code="invalid_request")
        await product.problem("GET", path, params={"query": " \t"}, status=422, code="search_query_unusable")
        turned = {"query": "x", "start_time": "2026-01-02", "end_time": "2026-01-01"}
        await product.problem("GET", path, params=turned, status=422, code="time_range_reversed")
    path = "/history/sessions/rest-251022-174800-1f73e8/search?query=x"
    await product.problem("GET", path, status=404, code="session_not_found")
    await product.problem("GET", "/history/search?query=x&session_id=none", status=404, code="session_not_found")
    await product.problem("GET", "/history/search?query=x&record_types=step", status=422, code="invalid_request")


async def test_times_beyond_the_calendar_are_answered(product: Product, sessions: list[str]) -> None:
    first, last = "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999-14:00"  # years 0 and 10000 in UTC
    for path in ("/history/search", f"/history/sessions/{sessions[2]}/search"):
        assert len(await found(product, path, query="nothing", start_time=first, end_time=last)) == 1
        assert await found(product, path, query="nothing", start_time=last) == []
        assert await found(product, path, query="nothing", end_time=first) == []


async def test_a_deleted_session_is_found_no_more(product: Product) -> None:
    doomed = await product.run("talk", "ephemeral words")
    assert len(await found(product, query="ephemeral")) == 1
    await product.runtime.database.search.wait_until_indexed()
    assert len(await found(product, query="ephemeral")) == 1
    await product.json("DELETE", f"/sessions/{doomed}")
    assert await found(product, query="ephemeral") == []
