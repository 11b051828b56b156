"""What a client hears of limits, over a real socket."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from integration.api.conftest import Serving
from integration.api.product import FILES, Product, serving_product, write_files
from modular_agent.api.middleware.rate_limit import Rates
from modular_agent.api.middleware.stack import EdgeOptions


@pytest.fixture
async def narrow(tmp_path: Path) -> AsyncIterator[Product]:
    write_files(tmp_path / "configs", FILES)
    async with serving_product(tmp_path, MAX_PARALLEL_RUNS="1", MAX_QUEUED_RUNS="0") as served:
        yield served


def routes(app: FastAPI) -> None:
    @app.get("/thing")
    async def thing() -> str:
        return "here"


async def test_an_address_hears_how_much_is_left_and_when_to_come_again(serving: Serving) -> None:
    options = EdgeOptions(rates=Rates(60, 3), loopback_only=False, hosts=("server",))
    # Behind a proxy on loopback, which is what uvicorn trusts, the client's address is what the proxy says.
    async with serving(routes, options, proxy_headers=True) as port, httpx.AsyncClient() as client:
        url = f"http://127.0.0.1:{port}/thing"
        asked = [await client.get(url, headers={"X-Forwarded-For": "203.0.113.7"}) for _ in range(4)]
        other = await client.get(url, headers={"X-Forwarded-For": "203.0.113.8"})
    assert [answer.status_code for answer in asked] == [200, 200, 200, 429]
    assert [answer.headers["ratelimit"].split(";")[:2] for answer in asked] == [
        ['"default"', f"r={left}"] for left in (2, 1, 0, 0)
    ]
    assert {answer.headers["ratelimit-policy"] for answer in asked} == {'"default";q=3;w=3'}
    assert int(asked[3].headers["retry-after"]) >= 1
    assert asked[3].json()["code"] == "too_many_requests"
    assert "retry-after" not in asked[0].headers
    assert other.status_code == 200


async def test_probes_and_metrics_are_not_counted(tmp_path: Path) -> None:
    write_files(tmp_path / "configs", FILES)
    async with serving_product(tmp_path, RATE_LIMIT_PER_MINUTE="1", RATE_LIMIT_BURST="1") as served:
        for path in ("/health", "/ready", "/metrics") * 3:
            answer = await served.client.get(path, headers={"X-Forwarded-For": "203.0.113.7"})
            assert answer.status_code == 200
            assert "ratelimit" not in answer.headers


async def test_a_full_queue_of_runs_says_when_to_come_again(narrow: Product) -> None:
    (narrow.root / "workflows" / "long.yaml").write_text(
        "schema: modular-agent/v1\nname: long\nnodes:\n  rest: {type: wait, duration: 400ms}\n"
        "edges: [{from: START, to: rest}, {from: rest, to: END}]\n"
    )
    await narrow.json("POST", "/workflows/load", json={"config_path": "workflows/long.yaml"})
    sessions = [
        (await narrow.json("POST", "/sessions/", status=201, json={"workflow_id": "long"}))["session_id"]
        for _ in range(2)
    ]
    assert (await narrow.client.post(f"/sessions/{sessions[0]}/runs", json={})).status_code == 202
    refused = await narrow.client.post(f"/sessions/{sessions[1]}/runs", json={})
    assert (refused.status_code, refused.json()["code"]) == (503, "queue_full")
    assert int(refused.headers["retry-after"]) >= 1
    async with asyncio.timeout(10):
        while (await narrow.client.post(f"/sessions/{sessions[1]}/runs", json={})).status_code != 202:
            await asyncio.sleep(0.05)
