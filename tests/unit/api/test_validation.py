from typing import Any

import pytest


async def faults(calling: Any, body: Any, *, language: str = "en") -> dict[str, tuple[str, str]]:
    async with calling() as client:
        answer = await client.post("/orders/", json=body, headers={"Accept-Language": language})
    assert answer.status_code == 422, answer.text
    assert answer.json()["code"] == "invalid_request"
    return {fault["path"]: (fault["code"], fault["message"]) for fault in answer.json()["errors"]}


async def test_every_fault_is_named_with_its_place(calling: Any) -> None:
    found = await faults(calling, {"items": [{"name": "x", "kind": "c"}, {"nam": "xy"}], "extra": 1})
    assert found == {
        "/body/items/0/name": ("too_short", "must have at least 2 characters"),
        "/body/items/0/kind": ("invalid_choice", "must be one of a, b"),
        "/body/items/1/name": ("missing", "is required"),
        "/body/items/1/nam": ("unknown_field", "is not a known field"),
        "/body/extra": ("unknown_field", "is not a known field"),
    }


async def test_faults_follow_the_language(calling: Any) -> None:
    found = await faults(calling, {"items": [{"name": 7}]}, language="zh")
    assert found == {"/body/items/0/name": ("wrong_type", "必须是字符串")}


async def test_the_names_of_python_types_are_in_no_place(calling: Any) -> None:
    found = await faults(calling, {"items": [{"name": "ab", "size": []}]})
    assert set(found) == {"/body/items/0/size"}


async def test_keys_are_escaped_as_in_a_json_pointer(calling: Any) -> None:
    assert set(await faults(calling, {"items": [], "a/b~c": 1})) == {"/body/a~1b~0c"}


async def test_a_validator_of_ours_keeps_its_code_and_texts(calling: Any) -> None:
    body = {"items": [{"name": "ab"}] * 4}
    assert await faults(calling, body) == {"/body": ("too_many_items", "has too many items")}
    assert await faults(calling, body, language="zh") == {"/body": ("too_many_items", "项目太多")}


@pytest.mark.parametrize("body", [[], "text", 3, None])
async def test_a_body_that_is_no_object_is_said_to_be_none(calling: Any, body: Any) -> None:
    found = await faults(calling, body)
    assert list(found) == ["/body"]


async def test_query_and_headers_have_places_too(calling: Any) -> None:
    async with calling() as client:
        answer = await client.get("/orders/?page_size=101", headers={"X-Limit": "many"})
    places = {fault["path"]: fault["message"] for fault in answer.json()["errors"]}
    assert places == {"/query/page_size": "must be at most 100", "/header/X-Limit": "must be a whole number"}


async def test_an_answer_names_neither_the_validator_nor_its_site(calling: Any) -> None:
    async with calling() as client:
        answer = await client.post("/orders/", json={"items": [{"name": 1, "size": "x"}]})
    assert "pydantic" not in answer.text
    assert "Input should" not in answer.text


@pytest.mark.parametrize(
    ("body", "line", "column"),
    [('{"items": [}', 1, 12), ('{\n  "items": tru\n}', 2, 12), ('{"items": [NaN]}', 1, 12), ("{", 1, 2)],
)
async def test_what_is_not_json_is_told_with_line_and_column(calling: Any, body: str, line: int, column: int) -> None:
    async with calling() as client:
        answer = await client.post("/orders/", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_json")
    (fault,) = answer.json()["errors"]
    assert fault["line"] == line
    assert abs(fault["column"] - column) <= 4  # where a parser notices, not where a person would point


@pytest.mark.parametrize("body", [b'{"items": "\xff"}', b'{"items": ["\\ud800"]}'])
async def test_half_characters_are_not_json(calling: Any, body: bytes) -> None:
    async with calling() as client:
        answer = await client.post("/orders/", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_json")


async def test_a_body_that_nests_too_deep_is_refused(calling: Any) -> None:
    async with calling() as client:
        answer = await client.post(
            "/orders/", content="[" * 5000 + "]" * 5000, headers={"Content-Type": "application/json"}
        )
    assert (answer.status_code, answer.json()["code"]) == (422, "json_too_deep")
