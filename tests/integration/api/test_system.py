import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from integration.api.product import FILES, Product, serving_product, write_files
from modular_agent import __version__
from modular_agent.api.schemas.system import HealthAnswer, InfoAnswer, ReadyAnswer


@pytest.fixture
async def product(tmp_path: Path) -> AsyncIterator[Product]:
    write_files(tmp_path / "configs", FILES)
    async with serving_product(tmp_path, APP_NAME="Assistant", MAX_PARALLEL_RUNS="7") as served:
        yield served


async def test_health_says_that_the_process_answers(product: Product) -> None:
    answer = await product.client.get("/health")
    assert HealthAnswer.model_validate(answer.json()).status == "ok"
    assert answer.headers["cache-control"] == "no-store"


async def test_ready_looks_at_database_log_and_event_loop(product: Product) -> None:
    await product.runtime.database.mirror.wait_until_mirrored()
    ready = await product.json("GET", "/ready")
    ReadyAnswer.model_validate(ready)
    assert ready["status"] == "ready"
    assert {name: check["status"] for name, check in ready["checks"].items()} == {
        "database": "ok",
        "log": "ok",
        "search_index": "ok",
        "event_loop": "ok",
    }


async def test_probes_may_ask_without_the_body(product: Product) -> None:
    for path in ("/health", "/ready"):
        answer = await product.client.head(path)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["cache-control"] == "no-store"


async def test_a_database_that_is_held_makes_the_server_not_ready(product: Product) -> None:
    def hold(_: object) -> None:
        time.sleep(2.5)

    task = asyncio.ensure_future(product.runtime.database.writer.exclusive(hold))
    await asyncio.sleep(0.05)
    told = await product.problem("GET", "/ready", status=503, code="not_ready")
    assert [(fault["code"], fault["path"]) for fault in told["errors"]] == [("database_slow", "database")]
    await task
    assert (await product.json("GET", "/ready"))["status"] == "ready"


async def test_log_files_that_cannot_be_written_degrade_only(product: Product) -> None:
    history = product.root.parent / "data" / "history"
    if history.is_dir():
        history.rmdir()
    history.write_text("in the way")
    await product.run("talk", "Hello!")
    async with asyncio.timeout(10):
        while (ready := await product.json("GET", "/ready"))["checks"]["log"]["status"] != "failing":
            await asyncio.sleep(0.05)
    assert ready["status"] == "degraded"
    assert ready["checks"]["log"]["error"]
    history.unlink()
    async with asyncio.timeout(10):
        while (await product.json("GET", "/ready"))["status"] != "ready":
            await asyncio.sleep(0.05)


async def test_info_says_what_this_server_is_and_may(product: Product) -> None:
    info = await product.json("GET", "/info")
    InfoAnswer.model_validate(info)
    assert (info["name"], info["version"], info["environment"]) == ("Assistant", __version__, "development")
    assert info["limits"]["max_parallel_runs"] == 7
    assert {name for name, there in info["features"].items() if there} >= {
        "sessions",
        "workflows",
        "history",
        "websocket",
        "sse",
        "workflow_watching",
    }
    assert str(product.root) not in str(info)
