"""The ways in which servers like this one go wrong, each with the test that would show it.

| mistake | test |
| --- | --- |
| an offset above zero that returns nothing | here: `test_an_offset_leads_on_to_what_follows` |
| times with and without offset, times compared as strings | `test_history.py`, here: `test_times_...` |
| an empty time range or null content that ends a search | here: `test_null_content_and_empty_ranges_...` |
| silent caps in statistics, searches and exports | here: `test_nothing_is_capped_in_silence` |
| a session's metrics that ignore the time range | `test_analytics.py`: `..._within_a_range_only` |
| a negative success rate | `test_analytics.py`: `test_nothing_is_null_or_zero_and_never_negative` |
| a CSV without header when empty, with Python reprs, with formulas | `test_exports.py` |
| a status filter that reads another field than the one updated | here: `test_the_status_filter_...` |
| sorting with nulls | here: `test_sessions_without_title_price_or_run_are_sorted_...`; `test_sessions.py` |
| metadata that overwrites `session_id` | `test_sessions.py`: `test_metadata_is_merged_and_touches_nothing_else` |
| two updates of which one is lost | `test_sessions.py`, `test_workflow_files.py` |
| a delete that leaves the history, a key, a cached answer | `test_bulk_deletion.py`, here: `test_no_answer_...` |
| a cache filled with an old value by a slow reader, or keyed by the wall clock | `tests/unit/storage/test_cache.py` |
| a cache that hands out what a caller changes | `test_metrics.py`: `..._and_nobody_can_change_them` |
| a path in an id | `test_sessions.py`: `test_a_strange_id_is_not_found`, `test_bulk_deletion.py` |
| exception texts shown to clients; every failure turned into 404 | here: `test_a_broken_database_is_a_500_...` |
"""

import io
import sqlite3
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import orjson
import pytest

from integration.api.product import FILES, Product, serving_product, write_files
from modular_agent.events import Record, RecordType
from modular_agent.storage.unit_of_work import Counters, UnitOfWork


@pytest.fixture
async def product(tmp_path: Path) -> AsyncIterator[Product]:
    write_files(tmp_path / "configs", FILES)
    async with serving_product(tmp_path) as served:
        yield served


def message(content: Any, **more: Any) -> Record:
    return Record(record_type=RecordType.MESSAGE, fields={"message_type": "user", "content": content, **more})


async def write(product: Product, session_id: str, *records: Record) -> None:
    session = await product.runtime.sessions.reference(session_id)
    unit: UnitOfWork[None] = UnitOfWork()
    for record in records:
        unit.record(session, record)
    unit.count(session, Counters(messages=sum(each.record_type is RecordType.MESSAGE for each in records)))
    await product.runtime.database.log.append(unit)


async def session(product: Product, **more: Any) -> str:
    return (await product.json("POST", "/sessions/", status=201, json={"workflow_id": "talk", **more}))["session_id"]


@pytest.mark.parametrize("which", ["messages", "records"])
async def test_an_offset_leads_on_to_what_follows(product: Product, which: str) -> None:
    made = await session(product)
    await write(product, made, *(message(f"m{number}") for number in range(7)))
    path = f"/history/sessions/{made}/{which}"
    everything = (await product.json("GET", path, params={"limit": 500}))[which]
    assert len(everything) == 7
    for order in ("asc", "desc"):
        whole = everything if order == "asc" else everything[::-1]
        for offset in range(9):
            page = await product.json("GET", path, params={"limit": 3, "offset": offset, "order": order})
            assert page[which] == whole[offset : offset + 3]
            assert (page["total"], page["has_next"]) == (7, offset + 3 < 7)


async def test_times_are_compared_as_times(product: Product) -> None:
    made = await session(product)
    await write(product, made, message("one"))
    path = f"/history/sessions/{made}/messages"
    written = (await product.json("GET", path))["messages"][0]["timestamp"]
    at = datetime.fromisoformat(written)
    for hours in (-11, -1, 0, 5.5, 14):  # the same moment; as text, most of them sort on the wrong side
        zone = timezone(timedelta(hours=hours))
        same, later = at.astimezone(zone), (at + timedelta(microseconds=1)).astimezone(zone)
        for moment, start_total, end_total in ((same, 1, 0), (later, 0, 1)):
            for text in (moment.isoformat(), moment.isoformat().replace("T", " ")):
                assert (await product.json("GET", path, params={"start_time": text}))["total"] == start_total, text
                assert (await product.json("GET", path, params={"end_time": text}))["total"] == end_total, text


async def test_null_content_and_empty_ranges_end_no_search(product: Product) -> None:
    made = await session(product)
    await write(product, made, message("a quokka"), message(None), message([]), message({"text": None}), message(""))
    await write(
        product, made, Record(record_type=RecordType.TOOL_CALL, fields={"tool_output": None, "phase": "result"})
    )
    await write(product, made, message("another quokka"))
    for path in ("/history/search", f"/history/sessions/{made}/search"):
        found = (await product.json("GET", path, params={"query": "quokka"}))["results"]
        assert [hit["seq"] for hit in found] == [7, 1]
        moment = "2026-01-01T00:00:00Z"
        empty = await product.json("GET", path, params={"query": "quokka", "start_time": moment, "end_time": moment})
        assert (empty["results"], empty["has_next"]) == ([], False)
    assert (await product.json("GET", f"/history/sessions/{made}/messages"))["total"] == 6


async def test_nothing_is_capped_in_silence(product: Product) -> None:
    count = 10_050
    made = await session(product)
    for start in range(0, count, 2_010):
        await write(product, made, *(message(f"wombat {number}") for number in range(start, start + 2_010)))
    assert (await product.json("GET", f"/sessions/{made}/statistics"))["total_messages"] == count
    assert (await product.json("GET", f"/sessions/{made}"))["usage"]["messages"] == count
    page = await product.json("GET", f"/history/sessions/{made}/messages", params={"offset": count - 1})
    assert (page["total"], [each["content"] for each in page["messages"]]) == (count, [f"wombat {count - 1}"])
    lines = (await product.client.get(f"/history/sessions/{made}/export", params={"format": "jsonl"})).content
    assert [orjson.loads(line)["seq"] for line in io.BytesIO(lines)] == list(range(1, count + 1))
    found: list[int] = []
    cursor: str | None = None
    while cursor is not None or not found:
        params = {"query": "wombat", "limit": 100, **({"cursor": cursor} if cursor else {})}
        answer = await product.json("GET", f"/history/sessions/{made}/search", params=params)
        found += [hit["seq"] for hit in answer["results"]]
        cursor = answer["cursor"] if answer["has_next"] else None
    assert found == list(range(count, 0, -1))


async def test_the_status_filter_reads_what_a_run_changes(product: Product) -> None:
    made = await session(product)

    async def listed() -> list[str]:
        statuses = ("active", "paused", "completed", "error", "stopped")
        totals = {each: await product.json("GET", "/sessions/", params={"status": each}) for each in statuses}
        return [each for each, page in totals.items() if page["sessions"]]

    assert await listed() == ["active"]
    over = {"limits": {"max_tokens": 1, "on_exceed": "pause"}, "message": "x" * 200, "mode": "wait"}
    await product.json("POST", f"/sessions/{made}/runs", json=over)
    assert await listed() == ["paused"]
    await product.json("POST", f"/sessions/{made}/stop", params={"wait": True})
    assert await listed() == ["stopped"]
    await product.json(
        "POST", f"/sessions/{made}/runs", json={**over, "limits": {"max_tokens": 1, "on_exceed": "fail"}}
    )
    assert await listed() == ["error"]
    await product.json("POST", f"/sessions/{made}/runs", json={"message": "Hi", "mode": "wait"})
    assert await listed() == ["completed"]


@pytest.mark.parametrize("key", ["created_at", "updated_at", "status", "session_id", "cost", "tokens"])
async def test_sessions_without_title_price_or_run_are_sorted_among_the_others(product: Product, key: str) -> None:
    made = [await session(product), await product.run("talk", "Hello!"), await session(product, title="t")]
    for order in ("asc", "desc"):
        params = {"sort_by": key, "sort_order": order}
        whole = [each["session_id"] for each in (await product.json("GET", "/sessions/", params=params))["sessions"]]
        assert sorted(whole) == sorted(made)
        paged = [
            (await product.json("GET", "/sessions/", params={**params, "page_size": 1, "page": page}))["sessions"][0]
            for page in (1, 2, 3)
        ]
        assert [each["session_id"] for each in paged] == whole


async def test_no_answer_about_a_deleted_session_is_kept(product: Product) -> None:
    made = await product.run("talk", "Hello!")
    paths = [
        *(f"/sessions/{made}{rest}" for rest in ("", "/statistics", "/state", "/runs", "/checkpoints", "/history")),
        *(f"/analytics/{kind}/{made}" for kind in ("tokens", "cost")),
        *(f"/history/sessions/{made}/{kind}" for kind in ("messages", "records")),
        *(f"/analytics/{kind}?session_id={made}" for kind in ("performance", "errors")),
    ]
    for path in paths * 2:  # twice, so that it is kept
        assert (await product.client.get(path)).status_code == 200, path
    await product.json("DELETE", f"/sessions/{made}")
    for path in paths:
        assert (await product.client.get(path)).status_code == 404, path
    for path in ("/sessions/", "/analytics/tokens", "/analytics/cost", "/errors", "/interrupts", "/history/bookmarks"):
        assert made not in (await product.client.get(path)).text, path
    assert (await product.json("GET", "/analytics/tokens"))["total_tokens"] == 0


async def test_a_broken_database_is_a_500_without_a_word_of_it(product: Product, tmp_path: Path) -> None:
    made = await product.run("talk", "Hello!")
    database = next((tmp_path / "data").glob("*.db"))
    with sqlite3.connect(database, timeout=10) as connection:
        connection.execute("ALTER TABLE runs RENAME TO runs_gone")
    connection.close()
    try:
        for path in (f"/sessions/{made}/runs", f"/sessions/{made}/runs/run_1", f"/sessions/{made}/state"):
            answer = await product.client.get(path)
            assert answer.status_code == 500, (path, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"
            for inside in ("runs_gone", "no such table", "SELECT", "Traceback", str(tmp_path), ".py"):
                assert inside.lower() not in answer.text.lower(), (path, inside)
    finally:
        with sqlite3.connect(database, timeout=10) as connection:
            connection.execute("ALTER TABLE runs_gone RENAME TO runs")
        connection.close()
    assert (await product.client.get(f"/sessions/{made}/runs")).status_code == 200
