"""Workflow files written through the API, on a real socket and a real folder."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from integration.api.product import FILES, REST, Product, serving_product, write_files
from modular_agent.api.schemas.workflow_files import WORKFLOW_JSON, WORKFLOW_YAML

YAML = {"Content-Type": "application/yaml"}
FRESH = REST.replace("name: rest", "name: fresh")


@pytest.fixture
async def product(tmp_path: Path) -> AsyncIterator[Product]:
    write_files(tmp_path / "configs", FILES)
    async with serving_product(tmp_path, ENVIRONMENT="production", SECRET_KEY="k" * 40) as served:
        yield served


def changed(text: str, number: int) -> str:
    return text.replace("description: Rests, then asks.", f"description: Edit {number}.")


async def put(product: Product, text: str, seen: str | None, *, name: str = "rest") -> Any:
    headers = {**YAML, **({"If-Match": seen} if seen is not None else {})}
    return await product.client.put(f"/workflows/{name}", content=text, headers=headers)


async def test_yaml_text_becomes_a_file_that_sessions_run(product: Product) -> None:
    answer = await product.client.post("/workflows/", content=WORKFLOW_YAML, headers=YAML)
    assert answer.status_code == 201, answer.text
    assert answer.headers["Location"] == "/workflows/pause"
    assert answer.headers["ETag"] == f'"{answer.json()["content_hash"]}"'
    assert (product.root / "workflows" / "pause.yaml").read_text() == WORKFLOW_YAML
    assert list((product.root / "workflows").glob(".*")) == []
    session = await product.run("pause")
    assert (await product.json("GET", f"/sessions/{session}"))["status"] == "completed"


async def test_a_json_object_is_written_as_yaml_that_means_the_same(product: Product) -> None:
    document = {**WORKFLOW_JSON, "description": "0o17 暂停: yes", "version": "1.10"}
    await product.json("POST", "/workflows/", status=201, json=document)
    text = (product.root / "workflows" / "pause.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text) == document
    assert "暂停" in text
    shown = await product.json("GET", "/workflows/pause")
    assert (shown["description"], shown["version"]) == ("0o17 暂停: yes", "1.10")


async def test_a_text_that_yaml_would_read_otherwise_is_kept_as_json(product: Product) -> None:
    await product.json("POST", "/workflows/", status=201, json={**WORKFLOW_JSON, "description": "0o17"})
    assert (await product.json("GET", "/workflows/pause"))["description"] == "0o17"


async def test_an_invalid_workflow_is_refused_with_every_fault_and_nothing_is_written(product: Product) -> None:
    bad = FRESH.replace("to: ask}", "to: aks}")
    told = await product.problem("POST", "/workflows/", content=bad, headers=YAML, status=400, code="workflow_invalid")
    assert any(fault["path"] == "edges[1].to" and fault["line"] for fault in told["errors"])
    assert not (product.root / "workflows" / "fresh.yaml").exists()


async def test_a_name_that_is_taken_is_a_conflict(product: Product) -> None:
    taken: dict[str, Any] = {"headers": YAML, "status": 409, "code": "workflow_exists"}
    await product.problem("POST", "/workflows/", content=REST, **taken)
    talk = FILES["workflows/nested/talk.yml"]
    await product.problem("POST", "/workflows/", content=talk, **taken)  # held by a file elsewhere
    write_files(product.root, {"workflows/fresh.yaml": "not loaded"})
    await product.problem("POST", "/workflows/", content=FRESH, **taken)
    assert (product.root / "workflows" / "fresh.yaml").read_text() == "not loaded"


@pytest.mark.parametrize("name", ["../evil", "a/b", "..", "a\\0b", "x" * 300])
async def test_a_name_never_leaves_the_folder(product: Product, name: str) -> None:
    document = {**WORKFLOW_JSON, "name": name}
    await product.problem("POST", "/workflows/", json=document, status=400, code="workflow_invalid")
    assert sorted(each.name for each in product.root.parent.iterdir()) == ["configs", "data"]


async def test_a_folder_that_leads_outside_is_not_written_to(product: Product, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (product.root / "workflows").rename(outside)
    (product.root / "workflows").symlink_to(outside)
    await product.problem("POST", "/workflows/", content=FRESH, headers=YAML, status=400, code="path_outside_root")
    assert not (outside / "fresh.yaml").exists()


async def test_an_update_makes_a_version_and_sessions_keep_theirs(product: Product) -> None:
    session = await product.json("POST", "/sessions/", status=201, json={"workflow_id": "rest"})
    seen = (await product.client.get("/workflows/rest")).headers["ETag"]
    answer = await put(product, changed(REST, 1), seen)
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    assert (shown["description"], len(shown["versions"])) == ("Edit 1.", 2)
    assert answer.headers["ETag"] == f'"{shown["content_hash"]}"' != seen
    kept = await product.json("GET", f"/sessions/{session['session_id']}")
    assert f'"{kept["workflow_version"]}"' == seen


async def test_of_concurrent_updates_exactly_one_wins(product: Product) -> None:
    seen = (await product.client.get("/workflows/rest")).headers["ETag"]
    answers = await asyncio.gather(*(put(product, changed(REST, number), seen) for number in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200, *[409] * 7]
    winner = next(number for number, answer in enumerate(answers) if answer.status_code == 200)
    assert (product.root / "workflows" / "rest.yaml").read_text() == changed(REST, winner)
    current = answers[winner].json()["content_hash"]
    for answer in answers:
        if answer.status_code == 409:
            assert answer.json()["code"] == "workflow_changed"
            assert current in answer.json()["detail"]
            assert answer.json()["current_version"] == current


async def test_a_file_that_was_edited_meanwhile_is_not_overwritten(product: Product) -> None:
    seen = (await product.client.get("/workflows/rest")).headers["ETag"]
    write_files(product.root, {"workflows/rest.yaml": changed(REST, 7)})  # nobody watches it here
    answer = await put(product, changed(REST, 8), seen)
    assert (answer.status_code, answer.json()["code"]) == (409, "workflow_changed")
    assert (product.root / "workflows" / "rest.yaml").read_text() == changed(REST, 7)
    source = await product.client.get("/workflows/rest/source")
    assert source.json()["content"] == changed(REST, 7)
    assert (await put(product, changed(REST, 8), source.headers["ETag"])).status_code == 200


async def test_a_broken_file_is_mended_by_who_has_seen_it(product: Product) -> None:
    seen = (await product.client.get("/workflows/rest")).headers["ETag"]
    write_files(product.root, {"workflows/rest.yaml": "broken: ["})
    assert (await put(product, changed(REST, 1), seen)).status_code == 409
    source = await product.client.get("/workflows/rest/source")
    assert source.json()["content"] == "broken: ["
    assert (await put(product, changed(REST, 1), source.headers["ETag"])).status_code == 200


async def test_a_prompt_that_changed_makes_another_version_too(product: Product) -> None:
    seen = (await product.client.get("/workflows/talk")).headers["ETag"]
    write_files(product.root, {"prompts/talk.md": "Be long.\n"})
    text = FILES["workflows/nested/talk.yml"] + "description: New.\n"
    assert (await put(product, text, seen, name="talk")).status_code == 409


async def test_an_update_has_to_say_what_it_was_made_from(product: Product) -> None:
    answer = await put(product, changed(REST, 1), None)
    assert (answer.status_code, answer.json()["code"]) == (428, "precondition_missing")
    answer = await put(product, changed(REST, 1), '"*"')
    assert answer.status_code == 409
    assert (product.root / "workflows" / "rest.yaml").read_text() == REST


async def test_an_update_keeps_its_name_and_needs_a_workflow(product: Product) -> None:
    seen = (await product.client.get("/workflows/rest")).headers["ETag"]
    assert (await put(product, FRESH, seen)).json()["code"] == "workflow_name_differs"
    assert (await put(product, REST, seen, name="none")).status_code == 404
    answer = await product.client.get("/workflows/none/source")
    assert (answer.status_code, answer.json()["code"]) == (404, "workflow_not_found")


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"", "application/yaml", 422),
        (b"\xff\xfe\xff", "application/yaml", 422),
        (b"[1]", "application/json", 422),
        (b"{", "application/json", 422),
        (b"x", "image/png", 415),
        (b"{}", "application/json", 400),
        (b"[" * 5000, "application/yaml", 400),
    ],
)
async def test_bad_bodies_are_told_apart(product: Product, content: bytes, kind: str, status: int) -> None:
    answer = await product.client.post("/workflows/", content=content, headers={"Content-Type": kind})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


async def test_what_a_crash_left_beside_the_file_is_in_nobody_s_way(product: Product) -> None:
    write_files(product.root, {"workflows/.fresh.yaml.tmp": "half a fi"})
    answer = await product.client.post("/workflows/", content=FRESH, headers=YAML)
    assert answer.status_code == 201
    assert (product.root / "workflows" / "fresh.yaml").read_text() == FRESH
    assert list((product.root / "workflows").glob(".*")) == []
