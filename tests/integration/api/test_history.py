import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from integration.api.product import FILES, Product, serving_product, write_files
from modular_agent.api.schemas.history import MessageList, RecordList

pytestmark = pytest.mark.asyncio(loop_scope="module")  # nothing here changes anything: one server does


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def product(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Product]:
    place = tmp_path_factory.mktemp("history")
    write_files(place / "configs", FILES)
    async with serving_product(place) as served:
        yield served


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def session_id(product: Product) -> str:
    return await product.run("talk", "Hello!")


async def test_the_conversation_comes_oldest_first(product: Product, session_id: str) -> None:
    page = await product.json("GET", f"/history/sessions/{session_id}/messages")
    MessageList.model_validate(page)
    assert [(m["message_type"], m["content"]) for m in page["messages"] if m["message_type"] != "system"] == [
        ("user", "Hello!"),
        ("assistant", "你好, friend."),
    ]
    assert {key: page[key] for key in ("session_id", "limit", "offset", "page", "page_size", "has_next", "cursor")} == {
        "session_id": session_id,
        "limit": 50,
        "offset": 0,
        "page": 1,
        "page_size": 50,
        "has_next": False,
        "cursor": None,
    }
    assert page["total"] == len(page["messages"])


async def test_records_are_exactly_the_lines_of_the_log(product: Product, session_id: str) -> None:
    await product.runtime.database.mirror.wait_until_mirrored()
    (file,) = (product.root.parent / "data" / "history").rglob(f"{session_id}.jsonl")
    answer = await product.client.get(f"/history/sessions/{session_id}/records?limit=500")
    lines = file.read_bytes().splitlines()
    assert b'"records":[' + b",".join(lines) + b"]" in answer.content
    assert [record["seq"] for record in answer.json()["records"]] == list(range(1, len(lines) + 1))


async def test_message_types_may_be_given_in_both_ways(product: Product, session_id: str) -> None:
    path = f"/history/sessions/{session_id}/messages?message_types="
    for types in ("user,assistant", "user&message_types=assistant", "%20user%20,assistant,"):
        page = await product.json("GET", path + types)
        assert [message["message_type"] for message in page["messages"]] == ["user", "assistant"]
    page = await product.json("GET", path + "assistant")
    assert page["total"] == 1


async def test_records_are_chosen_by_kind_node_run_and_place(product: Product, session_id: str) -> None:
    path = f"/history/sessions/{session_id}/records"
    page = await product.json("GET", path, params={"limit": 500})
    RecordList.model_validate(page)
    everything = page["records"]
    run_id = next(record["run_id"] for record in everything if record["run_id"])

    async def chosen(**params: Any) -> list[int]:
        page = await product.json("GET", path, params={"limit": 500, **params})
        assert page["total"] == len(page["records"])
        return [record["seq"] for record in page["records"]]

    steps = [r["seq"] for r in everything if r["record_type"] in ("step", "run")]
    assert await chosen(record_types="step,run") == steps
    assert await chosen(node="answer") == [r["seq"] for r in everything if r["node"] == "answer"]
    assert await chosen(run_id=run_id) == [r["seq"] for r in everything if r["run_id"] == run_id]
    assert await chosen(run_id="none") == []
    assert await chosen(after_seq=3) == [r["seq"] for r in everything if r["seq"] > 3]
    assert await chosen(order="desc") == [r["seq"] for r in everything][::-1]


async def test_a_cursor_leads_through_all_records(product: Product, session_id: str) -> None:
    path = f"/history/sessions/{session_id}/records"
    total = (await product.json("GET", path))["total"]
    seen: list[int] = []
    params: dict[str, Any] = {"limit": 3}
    while True:
        page = await product.json("GET", path, params=params)
        seen += [record["seq"] for record in page["records"]]
        assert page["total"] == total
        if not page["has_next"]:
            break
        params["cursor"] = page["cursor"]
    assert seen == list(range(1, total + 1))
    await product.problem("GET", path, params={"cursor": "x"}, status=422, code="invalid_cursor")
    params["order"] = "desc"
    await product.problem("GET", path, params=params, status=422, code="invalid_cursor")


async def test_a_range_includes_its_start_and_excludes_its_end(product: Product, session_id: str) -> None:
    path = f"/history/sessions/{session_id}/records"
    records = (await product.json("GET", path))["records"]
    at = records[-1]["timestamp"]
    before = [record["seq"] for record in records if record["timestamp"] < at]
    ended = await product.json("GET", path, params={"end_time": at})
    assert [record["seq"] for record in ended["records"]] == before
    begun = await product.json("GET", path, params={"start_time": at})
    assert [record["seq"] for record in begun["records"]] == [r["seq"] for r in records if r["timestamp"] >= at]
    nothing = await product.json("GET", path, params={"start_time": at, "end_time": at})
    assert nothing["records"] == []


async def test_a_time_without_offset_means_utc(product: Product, session_id: str) -> None:
    path = f"/history/sessions/{session_id}/records?end_time="
    at = (await product.json("GET", path.partition("?")[0]))["records"][0]["timestamp"]
    date, hour, rest = re.fullmatch(r"(.*T)(\d\d)(.*)Z", at).groups()  # pyright: ignore
    for same in (f"{date}{hour}{rest}", f"{date}{hour}{rest}+00:00", at):
        assert (await product.json("GET", path + quote(same)))["total"] == 0
    # An hour to the east is an hour earlier; a plus that was not encoded is understood.
    west = f"{date}{hour}{rest}-01:00"
    assert (await product.json("GET", path + quote(west)))["total"] > 0
    assert (await product.json("GET", f"{path}{date}{hour}{rest}+01:00"))["total"] == 0


@pytest.mark.parametrize("which", ["messages", "records"])
async def test_what_cannot_be_asked_is_malformed(product: Product, session_id: str, which: str) -> None:
    path = f"/history/sessions/{session_id}/{which}"
    backwards = {"start_time": "2025-01-02T00:00:00", "end_time": "2025-01-01T00:00:00Z"}
    told = await product.problem("GET", path, params=backwards, status=422, code="time_range_reversed")
    assert [fault["path"] for fault in told["errors"]] == ["end_time"]
    for params in (
        {"limit": 0},
        {"limit": 501},
        {"offset": -1},
        {"start_time": "yesterday"},
        {"order": "up"},
        {"message_types" if which == "messages" else "record_types": "nonsense"},
    ):
        await product.problem("GET", path, params=params, status=422, code="invalid_request")


@pytest.mark.parametrize("which", ["messages", "records"])
async def test_an_unknown_session_is_not_found(product: Product, which: str) -> None:
    path = f"/history/sessions/rest-251022-174800-1f73e8/{which}"
    await product.problem("GET", path, status=404, code="session_not_found")
