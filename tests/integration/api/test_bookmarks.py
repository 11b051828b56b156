from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from integration.api.product import FILES, Product, serving_product, write_files

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def product(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Product]:
    place = tmp_path_factory.mktemp("bookmarks")
    write_files(place / "configs", FILES)
    async with serving_product(place) as served:
        yield served


async def talk(product: Product) -> tuple[str, str]:
    """A session and one of its messages."""
    session_id = await product.run("talk", "Hello!")
    messages = (await product.json("GET", f"/history/sessions/{session_id}/messages"))["messages"]
    return session_id, messages[-1]["record_id"]


async def test_a_bookmark_is_made_listed_changed_and_deleted(product: Product) -> None:
    session_id, message_id = await talk(product)
    path = f"/history/sessions/{session_id}/bookmarks"
    made = await product.json("POST", path, status=201, params={"message_id": message_id, "note": "看这里"})
    assert {key: made[key] for key in ("session_id", "message_id", "note")} == {
        "session_id": session_id,
        "message_id": message_id,
        "note": "看这里",
    }
    other = await product.json("POST", path, status=201, json={"message_id": message_id})
    assert other["note"] == ""
    listed = await product.json("GET", "/history/bookmarks", params={"session_id": session_id})
    assert listed == [other, made]
    changed = await product.json("PATCH", f"/history/bookmarks/{made['bookmark_id']}", json={"note": "again"})
    assert (changed["note"], changed["created_at"]) == ("again", made["created_at"])
    answer = await product.json("DELETE", f"/history/bookmarks/{other['bookmark_id']}")
    assert answer["message"]
    assert await product.json("GET", "/history/bookmarks", params={"session_id": session_id}) == [changed]
    assert changed in await product.json("GET", "/history/bookmarks")
    await product.json("DELETE", f"/sessions/{session_id}")
    assert changed not in await product.json("GET", "/history/bookmarks")
    gone = f"/history/bookmarks/{changed['bookmark_id']}"
    await product.problem("PATCH", gone, json={"note": ""}, status=404, code="bookmark_not_found")


async def test_what_is_not_there_is_said_by_its_own_code(product: Product) -> None:
    session_id, message_id = await talk(product)
    path = f"/history/sessions/{session_id}/bookmarks"
    await product.problem("POST", path, json={"message_id": "rec_none"}, status=404, code="message_not_found")
    records = (await product.json("GET", f"/history/sessions/{session_id}/records"))["records"]
    run = next(record["record_id"] for record in records if record["record_type"] == "run")
    await product.problem("POST", path, json={"message_id": run}, status=404, code="message_not_found")
    other, _ = await talk(product)
    stranger = f"/history/sessions/{other}/bookmarks"
    await product.problem("POST", stranger, json={"message_id": message_id}, status=404, code="message_not_found")
    missing = "/history/sessions/none/bookmarks"
    await product.problem("POST", missing, json={"message_id": message_id}, status=404, code="session_not_found")
    await product.problem("GET", "/history/bookmarks?session_id=none", status=404, code="session_not_found")
    await product.problem("DELETE", "/history/bookmarks/none", status=404, code="bookmark_not_found")
    await product.problem("POST", path, status=422, code="invalid_request")
    for body in ({"message_id": 3}, {"message_id": ""}, {"note": "x"}, {"message_id": message_id, "colour": "red"}, []):
        await product.problem("POST", path, json=body, status=422, code="invalid_request")
    await product.problem(
        "POST", path, json={"message_id": message_id, "note": "x" * 10_001}, status=422, code="invalid_request"
    )
