"""Configuration over HTTP: sources, stored values that count at once, models and agents."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from integration.api.product import FILES, Product, serving_product, write_files
from modular_agent.api.schemas.configuration import (
    AgentList,
    ConfigAnswer,
    ModelList,
    ReloadAnswer,
    ValueAnswer,
)

LLM = """\
schema: modular-agent/llm/v1
description: Answers from a script.
provider: scripted
script: scripts/talk.yaml
price: {input: 1, output: 2}
"""
LOUD = "schema: modular-agent/llm/v1\nprovider: scripted\nscript: scripts/loud.yaml\n"
HELPER = """\
schema: modular-agent/agent/v1
description: Helps.
model: quiet
prompt: prompts/talk.md
tools:
  calculator: {use: builtin.calculator}
limits: {max_iterations: 4, max_tokens: 1000}
"""
BY_NAME = """\
schema: modular-agent/v1
name: by-name
nodes:
  answer: {type: llm, model: quiet}
edges:
  - {from: START, to: answer}
"""
BY_AGENT = """\
schema: modular-agent/v1
name: by-agent
nodes:
  answer: {type: agent, agent: helper, prompt: "Speak."}
edges:
  - {from: START, to: answer}
  - {from: answer, to: END}
"""
CONFIGURED = {
    **FILES,
    "llms/quiet.yaml": LLM,
    "llms/loud.yaml": LOUD,
    "agents/helper.yaml": HELPER,
    "scripts/loud.yaml": "otherwise: {reply: 'HELLO!'}\n",
    "workflows/by-name.yaml": BY_NAME,
    "workflows/by-agent.yaml": BY_AGENT,
    "global.yaml": "schema: modular-agent/global/v1\nkeep_checkpoints: 7\nmax_queued_runs: 9\n",
}


@pytest.fixture
async def product(tmp_path: Path) -> AsyncIterator[Product]:
    write_files(tmp_path / "configs", CONFIGURED)
    async with serving_product(tmp_path, MAX_QUEUED_RUNS="50", ENVIRONMENT="production", SECRET_KEY="k" * 40) as served:
        yield served


async def values(product: Product) -> dict[str, Any]:
    answer = await product.json("GET", "/config")
    ConfigAnswer.model_validate(answer)
    return {each["key"]: each for each in answer["values"]}


async def answered(product: Product, **session: Any) -> tuple[str, str]:
    """The answer of a new session's first run, and the session's id."""
    made = await product.json("POST", "/sessions/", status=201, json=session)
    run = await product.json("POST", f"/sessions/{made['session_id']}/runs", json={"message": "Hi", "mode": "wait"})
    assert run["status"] == "completed", run
    return run["result"]["output"], made["session_id"]


async def test_every_value_says_where_it_comes_from_and_secrets_are_masked(product: Product) -> None:
    shown = await values(product)
    assert (shown["keep_checkpoints"]["value"], shown["keep_checkpoints"]["source"]) == (7, "global.yaml")
    assert (shown["max_queued_runs"]["value"], shown["max_queued_runs"]["source"]) == (50, "command line")
    assert (shown["max_parallel_runs"]["value"], shown["max_parallel_runs"]["source"]) == (64, "default")
    assert shown["secret_key"]["value"] == "***"
    assert "kkkk" not in (await product.client.get("/config")).text
    assert not shown["port"]["changeable"]
    assert shown["port"]["variable"] == "PORT"


async def test_a_stored_value_counts_at_once_and_after_a_restart(product: Product, tmp_path: Path) -> None:
    stored = await product.json("PUT", "/config/max_parallel_runs", json={"value": 3})
    ValueAnswer.model_validate(stored)
    assert (stored["value"], stored["source"]) == (3, "stored")
    for _ in range(3):
        product.runtime.supervisor.admit()
    assert product.runtime.supervisor.running == 3
    assert product.runtime.supervisor.admit().name == "QUEUE"
    back = await product.json("DELETE", "/config/max_parallel_runs")
    assert (back["value"], back["source"], back["updated_at"]) == (64, "default", None)
    await product.json("PUT", "/config/keep_checkpoints", json={"value": 2})
    rows = await product.runtime.database.readers.query('SELECT "key", value FROM configurations')
    assert rows == [("keep_checkpoints", "2")]


async def test_what_was_stored_is_there_after_a_restart(tmp_path: Path) -> None:
    write_files(tmp_path / "configs", CONFIGURED)
    async with serving_product(tmp_path) as first:
        await first.json("PUT", "/config/log_level", json={"value": "warning"})
    async with serving_product(tmp_path) as second:
        value = await second.json("GET", "/config/log_level")
        assert (value["value"], value["source"]) == ("WARNING", "stored")
        assert value["updated_by"].startswith("address:")


async def test_default_limits_bound_runs_that_set_none(product: Product) -> None:
    limits = {"max_tokens": 1, "on_exceed": "fail"}
    await product.json("PUT", "/config/default_limits", json={"value": limits})
    made = await product.json("POST", "/sessions/", status=201, json={"workflow_id": "by-name"})
    path = f"/sessions/{made['session_id']}/runs"
    asked = {"message": "A question of more than one token, surely.", "mode": "wait"}
    assert (await product.json("POST", path, json=asked))["status"] == "failed"
    above = {**asked, "limits": {"max_tokens": 10_000}}  # the request counts first
    assert (await product.json("POST", path, json=above))["status"] == "completed"
    own = await product.json("POST", "/sessions/", status=201, json={"agent_type": "helper"})  # so does the agent
    run = await product.json("POST", f"/sessions/{own['session_id']}/runs", json=asked)
    assert run["status"] == "completed"


async def test_bad_values_are_refused_with_their_place(product: Product) -> None:
    bad: list[tuple[str, Any, str]] = [
        ("max_parallel_runs", 0, "value"),
        ("max_parallel_runs", "3", "value"),
        ("max_parallel_runs", True, "value"),
        ("max_parallel_runs", None, "value"),
        ("log_level", "LOUD", "value"),
        ("default_limits", {"max_tokens": -1}, "value.max_tokens"),
        ("default_limits", {"max_token": 1}, "value.max_token"),
        ("default_limits", 5, "value"),
    ]
    for key, value, place in bad:
        told = await product.problem(
            "PUT", f"/config/{key}", json={"value": value}, status=400, code="config_value_invalid"
        )
        assert told["errors"][0]["path"] == place, (key, value, told)
    await product.problem("PUT", "/config/log_level", json={}, status=422, code="invalid_request")
    await product.problem("PUT", "/config/log_level", json=[], status=422, code="invalid_request")
    assert await product.runtime.database.readers.query("SELECT * FROM configurations") == []


async def test_unknown_keys_are_not_found_and_fixed_ones_say_what_to_set(product: Product) -> None:
    for method, body in (("GET", None), ("PUT", {"value": 1}), ("DELETE", None)):
        await product.problem(method, "/config/no_such_key", json=body, status=404, code="config_key_not_found")
    told = await product.problem("PUT", "/config/port", json={"value": 1}, status=409, code="config_key_fixed")
    assert "PORT" in told["detail"]
    assert (await product.json("GET", "/config/port"))["value"] == 8000
    await product.problem("GET", "/config", params={"config_type": "x"}, status=422, code="invalid_request")


async def test_preferences_are_any_json_and_change_nothing_else(product: Product) -> None:
    user = {"config_type": "user"}
    stored = await product.json("PUT", "/config/ui.theme", params=user, json={"value": {"dark": True}})
    assert (stored["config_type"], stored["value"]) == ("user", {"dark": True})
    await product.json("PUT", "/config/max_parallel_runs", params=user, json={"value": "mine"})
    assert (await values(product))["max_parallel_runs"]["value"] == 64
    listed = await product.json("GET", "/config", params=user)
    assert [each["key"] for each in listed["values"]] == ["max_parallel_runs", "ui.theme"]
    assert (await product.client.delete("/config/ui.theme", params=user)).status_code == 204
    missing: dict[str, Any] = {"params": user, "status": 404, "code": "config_key_not_found"}
    await product.problem("GET", "/config/ui.theme", **missing)
    await product.problem("PUT", "/config/Not A Key", json={"value": 1}, **missing)
    await product.problem(
        "PUT", "/config/big", params=user, json={"value": "x" * 20_000}, status=400, code="config_value_invalid"
    )


async def test_rate_limits_change_while_requests_come(product: Product) -> None:
    await product.json("PUT", "/config/rate_limit_burst", json={"value": 2})
    await product.json("PUT", "/config/rate_limit_per_minute", json={"value": 0})
    assert (await values(product))["rate_limit_per_minute"]["value"] == 0


async def test_models_and_agents_are_listed_and_read_again(product: Product) -> None:
    models = await product.json("GET", "/config/models")
    ModelList.model_validate(models)
    assert [model["name"] for model in models["models"]] == ["loud", "quiet"]
    assert models["models"][1]["price"]["output"] == 2
    agents = await product.json("GET", "/config/agents")
    AgentList.model_validate(agents)
    assert [(agent["name"], agent["tools"]) for agent in agents["agents"]] == [("helper", ["calculator"])]
    write_files(product.root, {"llms/new.yaml": LLM, "llms/quiet.yaml": LLM.replace("scripted", "scirpted")})
    reloaded = await product.json("POST", "/config/reload")
    ReloadAnswer.model_validate(reloaded)
    assert reloaded["models"] == ["loud", "new", "quiet"]  # the last good version of the broken one stays
    (broken,) = reloaded["broken"]
    assert broken["config_path"] == "llms/quiet.yaml"
    assert [(f["path"], f["line"], f["suggestion"]) for f in broken["errors"] if f["path"] == "provider"] == [
        ("provider", 3, "scripted")
    ]
    assert (await product.json("GET", "/config"))["broken"] == reloaded["broken"]


async def test_a_workflow_uses_a_configured_model_by_its_name_and_its_price_counts(product: Product) -> None:
    text, session = await answered(product, workflow_id="by-name")
    assert text == "你好, friend."
    usage = (await product.json("GET", f"/sessions/{session}"))["usage"]
    expected = (usage["prompt_tokens"] + 2 * usage["completion_tokens"]) / 1_000_000
    assert usage["cost_usd"] == pytest.approx(expected)
    assert usage["unpriced_tokens"] == 0


async def test_a_session_keeps_the_model_file_of_its_version(product: Product) -> None:
    made = await product.json("POST", "/sessions/", status=201, json={"workflow_id": "by-name"})
    write_files(product.root, {"llms/quiet.yaml": LOUD})
    await product.json("POST", "/config/reload")
    run = await product.json("POST", f"/sessions/{made['session_id']}/runs", json={"message": "Hi", "mode": "wait"})
    assert run["result"]["output"] == "你好, friend."
    text, _ = await answered(product, workflow_id="by-name")  # a changed model file makes a new version
    assert text == "HELLO!"
    assert len((await product.json("GET", "/workflows/by-name/versions"))["versions"]) == 2


async def test_agent_config_names_a_configured_model_as_it_stands_now(product: Product) -> None:
    text, session = await answered(product, workflow_id="talk", agent_config={"model": "loud"})
    assert text == "HELLO!"
    write_files(product.root, {"scripts/loud.yaml": "otherwise: {reply: 'HELLO AGAIN!'}\n"})
    await product.json("POST", "/config/reload")
    run = await product.json("POST", f"/sessions/{session}/runs", json={"message": "Hi", "mode": "wait"})
    assert run["result"]["output"] == "HELLO AGAIN!"


async def test_an_agent_has_sessions_of_its_own(product: Product) -> None:
    text, session = await answered(product, agent_type="helper")
    assert text == "你好, friend."
    shown = await product.json("GET", f"/sessions/{session}")
    assert (shown["agent_type"], shown["workflow_id"]) == ("helper", "agent-helper")
    assert session.startswith("agent-helper-")
    await answered(product, workflow_id="by-name")
    listed = await product.json("GET", "/sessions/", params={"agent_type": "helper"})
    assert [each["session_id"] for each in listed["sessions"]] == [session]
    assert (await product.json("GET", "/sessions/", params={"agent_type": "none"}))["total"] == 0
    both = {"agent_type": "helper", "workflow_id": "rest"}
    await product.problem("POST", "/sessions/", json=both, status=400, code="workflow_missing")
    for name in ("nobody", "../helper", "agents/helper", "x" * 60):
        await product.problem("POST", "/sessions/", json={"agent_type": name}, status=400, code="agent_not_found")


async def test_a_node_takes_an_agent_and_says_some_things_itself(product: Product) -> None:
    text, session = await answered(product, workflow_id="by-agent")
    assert text == "你好, friend."
    records = await product.json("GET", f"/history/sessions/{session}/messages", params={"message_types": "system"})
    assert [each["content"] for each in records["messages"]] == ["Speak."]
    shown = await product.json("GET", "/workflows/by-agent")
    assert (shown["tools"], shown["models"], shown["limits"]["max_tokens"]) == (["calculator"], ["quiet"], 1000)


async def test_a_broken_agent_is_told_with_its_place(product: Product) -> None:
    write_files(product.root, {"agents/helper.yaml": HELPER.replace("calculator}", "calculater}")})
    told = await product.problem(
        "POST", "/sessions/", json={"agent_type": "helper"}, status=400, code="workflow_invalid"
    )
    (fault,) = told["errors"]
    place = ("tools.calculator.use", "agents/helper.yaml", 6, "builtin.calculator")
    assert (fault["path"], fault["file"], fault["line"], fault["suggestion"]) == place
    write_files(product.root, {"agents/helper.yaml": HELPER.replace("model: quiet", "model: quite")})
    told = await product.problem(
        "POST", "/sessions/", json={"agent_type": "helper"}, status=400, code="workflow_invalid"
    )
    (fault,) = told["errors"]
    assert (fault["path"], fault["line"], fault["suggestion"]) == ("model", 3, "quiet")
