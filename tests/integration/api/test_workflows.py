import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from integration.api.product import FILES, REST, Product, serving_product, write_files
from modular_agent.api.schemas.workflows import (
    DifferenceAnswer,
    DrawingAnswer,
    LoadAnswer,
    ValidationAnswer,
    VersionList,
    WorkflowAnswer,
    WorkflowList,
)

BAD = REST.replace("to: ask}", "to: aks}").replace("name: rest", "name: bad")


@pytest.fixture
async def product(tmp_path: Path) -> AsyncIterator[Product]:
    write_files(tmp_path / "configs", FILES)
    async with serving_product(tmp_path) as served:
        yield served


async def test_the_workflow_files_are_there_from_the_first_request_on(product: Product) -> None:
    page = await product.json("GET", "/workflows/")
    WorkflowList.model_validate(page)
    assert [each["workflow_id"] for each in page["workflows"]] == ["rest", "talk"]
    assert {key: page[key] for key in ("total", "page", "page_size", "has_next", "cursor", "broken")} == {
        "total": 2,
        "page": 1,
        "page_size": 20,
        "has_next": False,
        "cursor": None,
        "broken": [],
    }


async def test_a_list_is_cut_and_searched(product: Product) -> None:
    first = await product.json("GET", "/workflows/", params={"page_size": 1})
    assert (first["has_next"], first["total"]) == (True, 2)
    second = await product.json("GET", "/workflows/", params={"page_size": 1, "cursor": first["cursor"]})
    assert [each["name"] for each in second["workflows"]] == ["talk"]
    assert not second["has_next"]
    found = await product.json("GET", "/workflows/", params={"search": "nested"})
    assert [each["name"] for each in found["workflows"]] == ["talk"]


async def test_what_cannot_be_listed_is_malformed(product: Product) -> None:
    queries: list[dict[str, Any]] = [{"page": 0}, {"page_size": 101}, {"page_size": 0}, {"page": "x"}]
    for query in queries:
        await product.problem("GET", "/workflows/", params=query, status=422, code="invalid_request")
    await product.problem("GET", "/workflows/", params={"cursor": "x"}, status=422, code="invalid_cursor")


async def test_a_workflow_shows_all_of_itself(product: Product) -> None:
    shown = await product.json("GET", "/workflows/rest")
    WorkflowAnswer.model_validate(shown)
    assert (shown["name"], shown["description"], shown["version"]) == ("rest", "Rests, then asks.", "2.1")
    assert [(node["name"], node["type"]) for node in shown["nodes"]] == [("rest", "wait"), ("ask", "human")]
    assert [(edge["from"], edge["to"]) for edge in shown["edges"]] == [
        ("START", "rest"),
        ("rest", "ask"),
        ("ask", "END"),
    ]
    assert [version["content_hash"] for version in shown["versions"]] == [shown["content_hash"]]
    assert shown["config_path"] == "workflows/rest.yaml"
    assert (shown["last_used"], shown["usage_count"]) == (None, 0)


async def test_a_file_is_loaded_by_its_path_with_or_without_the_root_s_name(product: Product) -> None:
    write_files(product.root, {"drafts/new.yaml": REST.replace("name: rest", "name: new")})
    for path in ("drafts/new.yaml", "configs/drafts/new.yaml"):
        loaded = await product.json("POST", "/workflows/load", json={"config_path": path})
        LoadAnswer.model_validate(loaded)
        assert (loaded["workflow_id"], loaded["config_path"]) == ("new", "drafts/new.yaml")
        assert loaded["message"] == "The workflow new is loaded."
    session = await product.json("POST", "/sessions/", status=201, json={"workflow_id": "new"})
    assert session["workflow_version"] == loaded["content_hash"]


async def test_messages_follow_the_language(product: Product) -> None:
    headers = {"Accept-Language": "zh-CN"}
    loaded = await product.json("POST", "/workflows/rest/load", headers=headers)
    assert loaded["message"] == "工作流 rest 已加载。"
    gone = await product.json("DELETE", "/workflows/rest", headers=headers)
    assert gone["message"] == "工作流 rest 已卸载。"


async def test_a_path_outside_the_root_is_refused(product: Product) -> None:
    refused: dict[str, Any] = {"status": 400, "code": "path_outside_root"}
    for path in ("../secret.yaml", "/etc/passwd", "workflows/../../x.yaml"):
        await product.problem("POST", "/workflows/load", json={"config_path": path}, **refused)
        await product.problem("POST", "/workflows/validate", json={"config_path": path}, **refused)
        await product.problem("POST", "/workflows/rest/load", params={"config_path": path}, **refused)
        given = {"config_path": path, "content": REST}
        await product.problem("POST", "/workflows/validate", json=given, **refused)


async def test_an_invalid_file_is_refused_with_the_place_of_each_fault(product: Product) -> None:
    write_files(product.root, {"drafts/bad.yaml": BAD})
    told = await product.problem(
        "POST", "/workflows/load", json={"config_path": "drafts/bad.yaml"}, status=400, code="workflow_invalid"
    )
    places = {(fault["path"], fault.get("file"), fault.get("line")) for fault in told["errors"]}
    assert ("edges[1].to", "drafts/bad.yaml", 10) in places
    await product.problem("GET", "/workflows/bad", status=404, code="workflow_not_found")


async def test_a_missing_file_is_told(product: Product) -> None:
    await product.problem(
        "POST", "/workflows/load", json={"config_path": "workflows/none.yaml"}, status=400, code="file_not_found"
    )


async def test_checking_answers_with_every_fault(product: Product) -> None:
    good = await product.json("POST", "/workflows/validate", json={"content": REST})
    assert (good["valid"], good["workflow_id"], good["version"], good["errors"]) == (True, "rest", "2.1", [])
    bad = await product.json("POST", "/workflows/validate", json={"content": BAD, "config_path": "workflows/b.yaml"})
    ValidationAnswer.model_validate(bad)
    assert not bad["valid"]
    assert {fault["code"] for fault in bad["errors"]} >= {"edge_to_nowhere"}
    assert {fault["file"] for fault in bad["errors"]} == {"workflows/b.yaml"}
    in_place = await product.json("POST", "/workflows/validate", json={"config_path": "workflows/nested/talk.yml"})
    assert in_place["valid"]
    as_json = await product.json("POST", "/workflows/validate", json={"content": {"name": "x"}})
    assert {fault["path"] for fault in as_json["errors"]} == {"schema", "nodes", "edges"}
    no_yaml = await product.json("POST", "/workflows/validate", json={"content": "a: [\x07"})
    assert not no_yaml["valid"]


async def test_a_check_of_nothing_is_malformed(product: Product) -> None:
    bodies: list[Any] = [{}, {"content": 1}, {"contents": "x"}, [], {"content": None}]
    for body in bodies:
        await product.problem("POST", "/workflows/validate", json=body, status=422, code="invalid_request")


async def test_a_file_must_hold_the_workflow_it_is_loaded_as(product: Product) -> None:
    params = {"config_path": "workflows/nested/talk.yml"}
    await product.problem("POST", "/workflows/rest/load", params=params, status=400, code="workflow_name_differs")
    loaded = await product.json("POST", "/workflows/talk/load", params=params)
    assert not loaded["is_new_version"]


async def test_an_unloaded_workflow_takes_no_sessions_and_its_sessions_go_on(product: Product) -> None:
    session = await product.json("POST", "/sessions/", status=201, json={"workflow_id": "talk"})
    await product.json("DELETE", "/workflows/talk")
    gone = {"status": 404, "code": "workflow_not_found"}
    await product.problem("GET", "/workflows/talk", **gone)
    await product.problem("DELETE", "/workflows/talk", **gone)
    await product.problem("GET", "/workflows/talk/visualization", **gone)
    await product.problem("POST", "/sessions/", json={"workflow_id": "talk"}, **gone)
    run = await product.json(
        "POST", f"/sessions/{session['session_id']}/runs", json={"message": "Hello!", "mode": "wait"}
    )
    assert run["status"] == "completed"
    versions = await product.json("GET", "/workflows/talk/versions")
    VersionList.model_validate(versions)
    assert [version["is_current"] for version in versions["versions"]] == [False]
    await product.json("POST", "/workflows/talk/load")
    assert (await product.json("GET", "/workflows/talk"))["usage_count"] == 1


async def test_the_drawing_has_a_place_for_every_node(product: Product) -> None:
    drawing = await product.json("GET", "/workflows/rest/visualization")
    DrawingAnswer.model_validate(drawing)
    assert [node["name"] for node in drawing["nodes"]] == ["START", "rest", "ask", "END"]
    assert set(drawing["node_positions"]) == {"START", "rest", "ask", "END"}
    assert all(drawing["node_positions"][node["name"]] == node["position"] for node in drawing["nodes"])
    assert drawing["layout_algorithm"] == "layered"
    assert drawing["visualization_settings"]["direction"] == "TB"
    assert drawing["mermaid"].startswith("flowchart TD\n")
    assert "session_id" not in drawing


async def test_the_drawing_of_a_session_shows_how_far_its_run_has_come(product: Product) -> None:
    session_id = await product.run("rest")
    drawing = await product.json("GET", "/workflows/rest/visualization", params={"session_id": session_id})
    DrawingAnswer.model_validate(drawing)
    assert drawing["node_states"] == {
        "START": "completed",
        "rest": "completed",
        "ask": "interrupted",
        "END": "pending",
    }
    assert (drawing["run_status"], drawing["current_node"]) == ("paused", "ask")
    assert {node["name"]: node["state"] for node in drawing["nodes"]} == drawing["node_states"]
    ended = await product.run("talk", "Hello!")
    drawing = await product.json("GET", "/workflows/talk/visualization", params={"session_id": ended})
    assert set(drawing["node_states"].values()) == {"completed"}


async def test_a_drawing_for_another_s_session_is_refused(product: Product) -> None:
    session_id = await product.run("talk", "Hello!")
    params = {"session_id": session_id}
    path = "/workflows/{}/visualization"
    await product.problem("GET", path.format("rest"), params=params, status=400, code="session_of_other_workflow")
    await product.problem("GET", path.format("none"), params=params, status=404, code="workflow_not_found")
    params = {"session_id": "rest-1"}
    await product.problem("GET", path.format("rest"), params=params, status=404, code="session_not_found")


async def test_two_versions_are_compared(product: Product) -> None:
    old = (await product.json("GET", "/workflows/talk"))["content_hash"]
    write_files(product.root, {"prompts/talk.md": "Be long.\n"})
    new = (await product.json("POST", "/workflows/talk/load"))["content_hash"]
    path = "/workflows/talk/versions/diff"
    shown = await product.json("GET", path, params={"from": old, "to": new})
    DifferenceAnswer.model_validate(shown)
    assert [(file["path"], file["change"]) for file in shown["files"]] == [("prompts/talk.md", "changed")]
    unknown = {"status": 404, "code": "workflow_version_not_found"}
    await product.problem("GET", path, params={"from": old, "to": "0" * 64}, **unknown)
    await product.problem("GET", path, params={"from": old}, status=422, code="invalid_request")


async def test_an_unknown_workflow_is_not_found_on_every_route(product: Product) -> None:
    for method, path in (
        ("GET", "/workflows/none"),
        ("DELETE", "/workflows/none"),
        ("POST", "/workflows/none/load"),
        ("GET", "/workflows/none/versions"),
        ("GET", "/workflows/none/versions/diff?from=a&to=b"),
        ("GET", "/workflows/none/visualization"),
    ):
        await product.problem(method, path, status=404, code="workflow_not_found")
    assert (await product.client.get("/workflows/%2e%2e%2fnone/versions")).status_code == 404


async def test_a_broken_file_stops_neither_the_start_nor_the_other_workflows(tmp_path: Path) -> None:
    write_files(tmp_path / "configs", {**FILES, "workflows/bad.yaml": BAD})
    async with serving_product(tmp_path, ENVIRONMENT="production", SECRET_KEY="k" * 40) as product:
        page = await product.json("GET", "/workflows/", headers={"Accept-Language": "zh"})
        WorkflowList.model_validate(page)
        assert page["total"] == 2
        (broken,) = page["broken"]
        assert (broken["config_path"], broken["workflow_id"]) == ("workflows/bad.yaml", None)
        assert broken["code"] == "workflow_invalid"
        assert broken["detail"].startswith("该工作流无法使用")
        assert broken["errors"][0]["line"]


async def test_while_developing_a_changed_file_is_loaded_by_itself(product: Product) -> None:
    before = (await product.json("GET", "/workflows/rest"))["content_hash"]
    async with asyncio.timeout(10):
        write_files(product.root, {"workflows/rest.yaml": REST.replace("10ms", "20ms")})
        while (await product.json("GET", "/workflows/rest"))["content_hash"] == before:
            await asyncio.sleep(0.02)
        write_files(product.root, {"workflows/rest.yaml": BAD})
        while not (page := await product.json("GET", "/workflows/"))["broken"]:
            await asyncio.sleep(0.02)
    assert page["broken"][0]["workflow_id"] == "rest"
    assert [each["name"] for each in page["workflows"]] == ["rest", "talk"]


async def test_the_schema_tells_every_route_with_its_examples_and_problems(product: Product) -> None:
    schema = await product.json("GET", "/openapi.json")
    for path, operations in schema["paths"].items():
        if not path.startswith(("/workflows", "/history", "/health", "/ready", "/info")):
            continue
        for operation in operations.values():
            assert operation["summary"]
            assert operation["description"]
            assert operation["tags"]
            name = operation["operationId"]
            if "{" in path:
                assert "404" in operation["responses"], name
            content = operation["responses"].get("200", {}).get("content", {})
            reference = content.get("application/json", {}).get("schema", {}).get("$ref", "").rpartition("/")[2]
            if reference:
                assert schema["components"]["schemas"][reference].get("examples"), reference
    names = [operation["operationId"] for path in schema["paths"].values() for operation in path.values()]
    assert len(names) == len(set(names))
