"""API keys over HTTP and WebSocket: made, presented, charged, bounded, revoked; and budgets as they are shown."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import websockets

from integration.api.product import Product, serving_product, write_files
from modular_agent.api.schemas.budgets import BudgetList, SessionBudgets
from modular_agent.api.schemas.keys import CreatedKey, KeyAnswer, KeyList

TALK = """\
schema: modular-agent/v1
name: talk
models: {main: {provider: scripted, script: scripts/talk.yaml}}
limits: {workflow: {per_day: {max_cost_usd: 20}}}
nodes: {answer: {type: llm}}
edges: [{from: START, to: answer}]
"""
SCRIPT = (
    "otherwise: {reply: hello, usage: {prompt_tokens: 100, completion_tokens: 20}}\nprices: {input: 1000, output: 0}\n"
)


@pytest.fixture
async def product(tmp_path: Path) -> AsyncIterator[Product]:
    write_files(tmp_path / "configs", {"workflows/talk.yaml": TALK, "scripts/talk.yaml": SCRIPT})
    async with serving_product(tmp_path) as served:
        yield served


async def new_key(product: Product, **limits: Any) -> dict[str, Any]:
    made = await product.json("POST", "/keys", status=201, json={"name": "shop", "limits": limits})
    CreatedKey.model_validate(made)
    return made


def presented(key: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {key['secret']}"}


async def test_a_key_is_made_shown_once_and_revoked(product: Product, tmp_path: Path) -> None:
    key = await new_key(product, per_day={"max_cost_usd": 5, "max_seconds": "10m"})
    assert key["secret"].startswith(key["prefix"])
    assert key["limits"] == {"per_day": {"max_cost_usd": 5, "max_seconds": 600.0}}
    listed = await product.json("GET", "/keys")
    KeyList.model_validate(listed)
    assert [each["name"] for each in listed["keys"]] == ["shop"]
    assert key["secret"] not in str(listed)
    for headers in (presented(key), {"X-API-Key": key["secret"]}, {"Authorization": f"bearer  {key['secret']}"}):
        assert (await product.client.get("/budgets", headers=headers)).status_code == 200
    assert (await product.json("GET", "/keys"))["keys"][0]["last_used_at"] is not None
    gone = await product.json("DELETE", f"/keys/{key['key_id']}")
    KeyAnswer.model_validate(gone)
    assert gone == await product.json("DELETE", f"/keys/{key['prefix']}")  # twice changes nothing
    refused = await product.problem("GET", "/budgets", status=401, code="api_key_invalid", headers=presented(key))
    assert key["secret"] not in str(refused)
    for file in (tmp_path / "data").rglob("*"):
        assert not file.is_file() or key["secret"].encode() not in file.read_bytes(), file


@pytest.mark.parametrize(
    "secret",
    ["nonsense", "mak_00000000_" + "x" * 43, "", "mak_", "é" * 20, "x" * 5_000],
)
async def test_a_key_that_is_none_is_refused_everywhere(product: Product, secret: str) -> None:
    headers = {"X-API-Key": secret.encode("latin-1", "replace")}
    for method, path in (("GET", "/sessions/"), ("POST", "/sessions/"), ("GET", "/health"), ("GET", "/nowhere")):
        answer = await product.client.request(method, path, headers=headers)
        assert answer.status_code == 401, answer.text
        assert (answer.json()["code"], answer.headers["www-authenticate"]) == ("api_key_invalid", "Bearer")


async def test_a_wrong_end_and_another_scheme(product: Product) -> None:
    key = await new_key(product)
    wrong = {**key, "secret": key["secret"][:-1] + ("A" if key["secret"][-1] != "A" else "B")}
    await product.problem("GET", "/budgets", status=401, code="api_key_invalid", headers=presented(wrong))
    basic = await product.client.get("/budgets", headers={"Authorization": "Basic dXNlcjpwYXNz"})
    assert basic.status_code == 200  # somebody else's: a proxy's, say


async def test_what_a_key_cannot_be(product: Product) -> None:
    for limits, path in (
        ({"per_day": {"max_tokens": 0}}, "limits.per_day.max_tokens"),
        ({"per_year": {}}, "limits.per_year"),
        ({"max_cost_usd": "much"}, "limits.max_cost_usd"),
    ):
        body = {"name": "x", "limits": limits}
        told = await product.problem("POST", "/keys", status=400, code="limits_invalid", json=body)
        assert [fault["path"] for fault in told["errors"]] == [path]
    await product.problem("POST", "/keys", status=422, code="invalid_request", json={"name": ""})
    await product.problem("DELETE", "/keys/key_nosuch", status=404, code="api_key_not_found")


async def test_who_is_bounded_by_a_key_lifts_no_bound(product: Product) -> None:
    key = await new_key(product)
    more: dict[str, Any] = {"status": 403, "code": "not_with_a_key", "headers": presented(key)}
    await product.problem("GET", "/keys", **more)
    await product.problem("POST", "/keys", json={"name": "mine"}, **more)
    await product.problem("DELETE", f"/keys/{key['key_id']}", **more)
    await product.problem("PUT", "/config/installation_limits", json={"value": {"max_tokens": 9}}, **more)
    await product.problem("DELETE", "/config/workflow_limits", **more)
    kept = await product.json("PUT", "/config/theme?config_type=user", json={"value": 1}, headers=presented(key))
    assert kept["updated_by"] == f"key:{key['key_id']}"


async def run(product: Product, session_id: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    body = {"message": "hi", "mode": "wait"}
    return await product.json("POST", f"/sessions/{session_id}/runs", json=body, headers=headers or {})


async def test_runs_are_charged_to_the_key_and_bounded_by_it(product: Product) -> None:
    key = await new_key(product, per_day={"max_tokens": 230}, per_run={"max_iterations": 5})
    headers = presented(key)
    made = await product.json("POST", "/sessions/", status=201, json={"workflow_id": "talk"}, headers=headers)
    session_id = made["session_id"]
    assert (await run(product, session_id, headers))["status"] == "completed"
    assert (await run(product, session_id))["status"] == "completed"  # without a key: the session's counts
    other = await product.json("POST", "/sessions/", status=201, json={"workflow_id": "talk"})
    paused = await run(product, other["session_id"], headers)
    assert paused["status"] == "paused"
    [asked] = paused["interrupts"]
    assert {name: asked["question"][name] for name in ("budget", "subject", "maximum", "used")} == {
        "budget": "key.day",
        "subject": key["key_id"],
        "maximum": 230,
        "used": 240,
    }
    path = f"/sessions/{other['session_id']}/interrupts/{asked['interrupt_id']}?wait=true"
    raised = {"json": {"answer": {"max_tokens": 1_000}}}
    await product.problem("POST", path, status=403, code="not_with_a_key", headers=headers, **raised)
    assert (await product.json("POST", path, **raised))["status"] == "completed"

    shown = await product.json("GET", f"/sessions/{other['session_id']}/budgets")
    SessionBudgets.model_validate(shown)
    budgets = {each["budget"]: each for each in shown["budgets"]}
    assert list(budgets) == [
        *("run", "key.run", "session", "session.day", "workflow", "workflow.day"),
        *("key", "key.day", "installation", "installation.day"),
    ]
    assert (budgets["key.day"]["spent"]["tokens"], budgets["key.day"]["limits"]) == (360, {"max_tokens": 1_000})
    assert (budgets["session"]["spent"]["tokens"], budgets["run"]["spent"]["tokens"]) == (120, 120)
    assert budgets["workflow.day"]["remaining"]["max_cost_usd"] == pytest.approx(19.7)
    page = await product.json("GET", "/budgets?page_size=3&page=2")
    BudgetList.model_validate(page)
    assert [each["budget"] for each in page["budgets"]] == ["workflow.day", "key", "key.day"]
    assert (page["total"], page["has_next"], page["budgets"][2]["name"]) == (6, False, "shop")
    assert page["budgets"][2]["limits"] == {"max_tokens": 230}  # what one run was allowed is not the key's
    record = await product.json("GET", f"/history/sessions/{session_id}/records")
    assert key["secret"] not in str(record)


async def test_a_run_by_the_workflow_s_route_and_in_the_queue_is_charged(product: Product) -> None:
    key = await new_key(product)
    await product.json("POST", "/workflows/talk/run", json={"message": "hi"}, headers=presented(key))
    made = await product.json("POST", "/sessions/", status=201, json={"workflow_id": "talk"})
    body = {"message": "hi", "multitask": "enqueue", "mode": "wait"}
    for _ in range(2):
        await product.json("POST", f"/sessions/{made['session_id']}/runs", json=body, headers=presented(key))
    listed = await product.json("GET", "/budgets?page_size=100")
    [charged] = [each for each in listed["budgets"] if each["budget"] == "key"]
    assert charged["spent"]["iterations"] == 3


async def test_a_websocket_is_identified_by_its_key(product: Product) -> None:
    key = await new_key(product, per_run={"max_tokens": 1})
    url = str(product.client.base_url).replace("http", "ws") + "/ws/shop"
    async with websockets.connect(url, additional_headers={"X-API-Key": key["secret"]}) as socket:
        start = '{"type": "control", "id": "1", "data": {"action": "start", "workflow_id": "talk", "message": "hi"}}'
        await socket.send(start)
        said = ""
        while '"result"' not in said:
            said = str(await socket.recv())
        assert '"paused"' in said
        assert "key.run" in said
    async with websockets.connect(url, additional_headers={"Authorization": "Bearer mak_wrong"}) as socket:
        with pytest.raises(websockets.ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 4401
