"""`/metrics` over a real socket: what happened is what it says."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from integration.api.product import FILES, Product, serving_product, write_files


@pytest.fixture
async def product(tmp_path: Path) -> AsyncIterator[Product]:
    write_files(tmp_path / "configs", FILES)
    async with serving_product(tmp_path) as served:
        yield served


async def figures(product: Product) -> dict[str, float]:
    """Every sample, by its name with its labels in order."""
    answer = await product.client.get("/metrics")
    assert answer.status_code == 200
    return {
        f"{sample.name}{''.join(f' {label}={value}' for label, value in sorted(sample.labels.items()))}": sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def test_it_counts_requests_by_the_template_of_their_route(product: Product) -> None:
    for path in ("/sessions/one", "/sessions/two", "/no/such/place"):
        assert (await product.client.get(path)).status_code == 404
    found = await figures(product)
    name = "modular_agent_http_requests_total method=GET"
    assert found[f"{name} route=/sessions/{{session_id}} status=404"] == 2
    assert found[f"{name} route=(none) status=404"] == 1
    assert not [each for each in found if "/sessions/one" in each]
    durations = "modular_agent_http_request_duration_seconds"
    assert found[f"{durations}_count method=GET route=/sessions/{{session_id}}"] == 2
    assert found[f"{durations}_bucket le=+Inf method=GET route=/sessions/{{session_id}}"] == 2
    assert 0 < found[f"{durations}_sum method=GET route=/sessions/{{session_id}}"] < 5
    assert found["modular_agent_http_requests_active"] == 1  # this one


async def test_it_counts_what_the_log_was_told(product: Product) -> None:
    for _ in range(2):
        await product.run("talk", "Hello!")
    found = await figures(product)
    assert found["modular_agent_runs_total status=running"] == 2
    assert found["modular_agent_runs_total status=completed"] == 2
    assert found["modular_agent_steps_total"] == 2
    calls = {name: value for name, value in found.items() if name.startswith("modular_agent_model_calls_total")}
    assert list(calls.values()) == [2]
    assert "outcome=succeeded" in next(iter(calls))
    tokens = {name for name, value in found.items() if name.startswith("modular_agent_tokens_total") and value > 0}
    assert {name.split("kind=")[1].split()[0] for name in tokens} >= {"prompt", "completion"}
    assert found["modular_agent_records_total type=message"] >= 4
    assert (found["modular_agent_runs_active"], found["modular_agent_runs_queued"]) == (0, 0)


async def test_it_says_how_the_parts_stand(product: Product) -> None:
    await product.run("talk", "Hello!")
    await product.runtime.database.mirror.wait_until_mirrored()
    found = await figures(product)
    assert found["modular_agent_writer_groups_total"] > 0
    assert found["modular_agent_writer_units_total"] >= found["modular_agent_writer_groups_total"]
    assert found["modular_agent_writer_queue"] == 0
    assert found["modular_agent_mirror_lag_records"] == 0
    assert found["modular_agent_mirror_state state=ok"] == 1
    assert found["modular_agent_mirror_state state=failing"] == 0
    assert found["modular_agent_hub_ring_bytes"] > 0
    assert found["modular_agent_websocket_connections"] == 0
    assert found["process_resident_memory_bytes"] > 1_000_000


async def test_reads_of_a_session_are_hits_until_it_changes(product: Product) -> None:
    session_id = (await product.json("POST", "/sessions/", status=201, json={"workflow_id": "rest"}))["session_id"]
    before = await figures(product)
    for _ in range(3):
        await product.json("GET", f"/sessions/{session_id}")
    assert (await product.client.put(f"/sessions/{session_id}", json={"title": "New"})).status_code == 200
    assert (await product.json("GET", f"/sessions/{session_id}"))["title"] == "New"
    after = await figures(product)
    hits = "modular_agent_cache_reads_total outcome=hit"
    assert after[hits] - before[hits] >= 3
    info = (await product.json("GET", "/info"))["cache"]
    assert 0 < info["hit_rate"] < 1
    assert info["entries"] >= 1


async def test_it_is_told_in_the_format_that_was_asked_for(product: Product) -> None:
    plain = await product.client.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=")
    assert plain.headers["cache-control"] == "no-store"
    wanted = {"Accept": "application/openmetrics-text; version=1.0.0"}
    other = await product.client.get("/metrics", headers=wanted)
    assert other.headers["content-type"].startswith("application/openmetrics-text")
    assert other.text.endswith("# EOF\n")


async def test_two_servers_in_one_process_count_for_themselves(product: Product, tmp_path: Path) -> None:
    await product.client.get("/sessions/one")
    write_files(tmp_path / "other" / "configs", FILES)
    async with serving_product(tmp_path / "other") as other:
        assert "modular_agent_http_requests_total method=GET route=/sessions/{session_id} status=404" not in (
            await figures(other)
        )


async def test_an_answer_says_what_its_time_went_to(product: Product) -> None:
    made = await product.client.post("/sessions/", json={"workflow_id": "rest"})
    parts = dict(part.split(";dur=") for part in made.headers["server-timing"].split(", "))
    assert {"total", "db", "commit"} <= parts.keys()
    assert 0 < float(parts["commit"]) < float(parts["total"])
    read = await product.client.get("/history/search", params={"query": "nothing"})
    assert "commit" not in read.headers["server-timing"]


async def test_statistics_are_kept_until_anything_is_written_and_nobody_can_change_them(product: Product) -> None:
    await product.run("talk", "Hello!")
    first = await product.json("GET", "/analytics/tokens")
    kept = await product.runtime.analytics.all_sessions()
    kept["total_sessions"] = -1
    assert (await product.runtime.analytics.all_sessions())["total_sessions"] == 1
    hits = product.runtime.database.cache.figures().hits
    assert await product.json("GET", "/analytics/tokens") == first
    assert product.runtime.database.cache.figures().hits > hits
    await product.run("talk", "Again!")
    assert (await product.json("GET", "/analytics/tokens"))["request_count"] == 2 * first["request_count"]
    assert (await product.runtime.analytics.all_sessions())["total_sessions"] == 2
