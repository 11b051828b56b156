"""An agent named in `agent_config`: what it fills up, what counts before it, and that a session keeps its version."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from integration.api.product import Product, serving_product, write_files

MODEL = "schema: modular-agent/llm/v1\nprovider: scripted\nscript: scripts/{name}.yaml\n"
CALLING = """\
turns:
  - when: {last_role: user, has_tool: calculator}
    tool_calls: [{name: calculator, arguments: {expression: 6 * 7}}]
otherwise: {reply: "counted"}
"""
COUNTER = """\
schema: modular-agent/agent/v1
model: counting
prompt: You count.
tools:
  calculator: {use: builtin.calculator}
limits: {max_iterations: 4, max_tokens: 5000, max_steps: 40}
temperature: 0.3
"""
WORKFLOW = """\
schema: modular-agent/v1
name: NAME
models: {own: {provider: scripted, script: scripts/own.yaml}}
limits: {max_tokens: 6000}
nodes:
  answer: {NODE}
edges:
  - {from: START, to: answer}
  - {from: answer, to: END}
"""
OUTER = """\
schema: modular-agent/v1
name: outer
nodes:
  inner: {type: workflow, workflow: workflows/free.yaml}
edges:
  - {from: START, to: inner}
  - {from: inner, to: END}
"""
MAPPED = """\
schema: modular-agent/v1
name: mapped
models: {own: {provider: scripted, script: scripts/own.yaml}}
state: {schema: {type: object, properties: {items: {type: array}}}}
nodes:
  each: {type: map, over: "state.items", node: {type: agent}}
edges:
  - {from: START, to: each}
  - {from: each, to: END}
"""
RESTING = """\
schema: modular-agent/v1
name: resting
nodes: {rest: {type: wait, duration: 1ms}}
edges: [{from: START, to: rest}, {from: rest, to: END}]
"""


def workflow(name: str, node: str) -> str:
    return WORKFLOW.replace("NAME", name).replace("NODE", node)


FILES = {
    "llms/counting.yaml": MODEL.format(name="counting"),
    "llms/other.yaml": MODEL.format(name="other"),
    "scripts/counting.yaml": CALLING,
    "scripts/other.yaml": "otherwise: {reply: other}\n",
    "scripts/own.yaml": "otherwise: {reply: own}\n",
    "agents/counter.yaml": COUNTER,
    "agents/plain.yaml": "schema: modular-agent/agent/v1\nmodel: other\nprompt: Plain.\n",
    "workflows/free.yaml": workflow("free", "type: agent"),
    "workflows/fixed.yaml": workflow("fixed", 'type: agent, model: own, prompt: "Mine.", temperature: 0.9'),
    "workflows/named.yaml": workflow("named", "type: agent, agent: plain"),
    "workflows/one-call.yaml": workflow("one-call", "type: llm"),
    "workflows/outer.yaml": OUTER,
    "workflows/mapped.yaml": MAPPED,
    "workflows/resting.yaml": RESTING,
}


@pytest.fixture
async def product(tmp_path: Path) -> AsyncIterator[Product]:
    write_files(tmp_path / "configs", FILES)
    async with serving_product(tmp_path) as served:
        yield served


async def ran(product: Product, workflow_id: str, config: dict[str, Any], **run: Any) -> dict[str, Any]:
    """A session of that workflow and config after its first run: `session`, `run`, and its `records`."""
    made = await product.json(
        "POST", "/sessions/", status=201, json={"workflow_id": workflow_id, "agent_config": config}
    )
    return await ran_again(product, made, **run)


async def ran_again(product: Product, session: dict[str, Any], **run: Any) -> dict[str, Any]:
    path = f"/sessions/{session['session_id']}/runs"
    done = await product.json("POST", path, json={"message": "How many?", "mode": "wait", **run})
    found = await product.json("GET", f"/history/sessions/{session['session_id']}/records?limit=500")
    return {"session": session, "run": done, "records": found["records"]}


def asked(ran: dict[str, Any]) -> dict[str, Any]:
    """The first request to a model."""
    return next(record for record in ran["records"] if record["record_type"] == "llm_request")


def prompts(ran: dict[str, Any]) -> list[str]:
    return [record["content"] for record in ran["records"] if record.get("message_type") == "system"]


async def test_an_agent_fills_up_what_a_node_leaves_open(product: Product) -> None:
    done = await ran(product, "free", {"agent": "counter"})
    assert done["run"]["status"] == "completed", done["run"]
    assert done["run"]["result"]["output"] == "counted"
    assert prompts(done) == ["You count."]
    assert asked(done)["parameters"]["temperature"] == 0.3
    results = [each for each in done["records"] if each["record_type"] == "tool_call" and each["phase"] == "result"]
    assert [each["tool_output"] for each in results] == ["42"]


async def test_what_the_workflow_says_itself_counts_before_the_agent(product: Product) -> None:
    done = await ran(product, "fixed", {"agent": "counter"})
    assert (done["run"]["result"]["output"], prompts(done)) == ("own", ["Mine."])
    assert asked(done)["parameters"]["temperature"] == 0.9


async def test_what_the_session_says_counts_before_both(product: Product) -> None:
    for workflow_id in ("free", "fixed"):
        config = {"agent": "counter", "model": "other", "prompt": "Ours.", "temperature": 0.5}
        done = await ran(product, workflow_id, config)
        assert (done["run"]["result"]["output"], prompts(done)) == ("other", ["Ours."])
        assert asked(done)["parameters"]["temperature"] == 0.5


async def test_the_session_s_agent_takes_the_place_of_the_one_that_a_node_names(product: Product) -> None:
    assert (await ran(product, "named", {}))["run"]["result"]["output"] == "other"
    assert (await ran(product, "named", {"agent": "counter"}))["run"]["result"]["output"] == "counted"


async def test_an_agent_reaches_single_calls_maps_and_the_workflows_that_a_workflow_runs(product: Product) -> None:
    one_call = await ran(product, "one-call", {"agent": "plain"})
    assert (one_call["run"]["result"]["output"], prompts(one_call)) == ("other", ["Plain."])
    inner = await ran(product, "outer", {"agent": "counter"})
    assert inner["run"]["result"]["output"] == "counted"
    mapped = await ran(product, "mapped", {"agent": "counter"}, input={"items": ["a", "b"]})
    assert mapped["run"]["status"] == "completed", mapped["run"]
    state = await product.json("GET", f"/sessions/{mapped['session']['session_id']}/state")
    assert state["each"] == ["counted", "counted"]


async def test_limits_go_from_the_request_to_the_installation(product: Product) -> None:
    """The request, the session, the workflow, the agent, the stored default: the first that says something counts."""
    await product.json("PUT", "/config/default_limits", json={"value": {"max_steps": 1, "on_exceed": "fail"}})
    # The workflow sets max_tokens, the agent max_steps (40): the stored 1 would end the run.
    assert (await ran(product, "free", {"agent": "counter"}))["run"]["status"] == "completed"
    few = {"agent": "counter", "limits": {"max_steps": 1}}
    assert (await ran(product, "free", few))["run"]["status"] == "failed"
    assert (await ran(product, "free", few, limits={"max_steps": 50}))["run"]["status"] == "completed"
    state = await product.json("GET", f"/sessions/{(await ran(product, 'free', few))['session']['session_id']}")
    assert state["agent_config"]["limits"] == {"max_steps": 1}


async def test_a_session_keeps_the_version_of_its_agent(product: Product) -> None:
    first = await ran(product, "free", {"agent": "counter"})
    version = first["session"]["agent_config"]["agent_version"]
    assert first["session"]["agent_config"] == {"agent": "counter", "agent_version": version}
    (product.root / "agents" / "counter.yaml").write_text(FILES["agents/plain.yaml"])
    again = await ran_again(product, first["session"])
    assert again["run"]["result"]["output"] == "counted"
    new = await ran(product, "free", {"agent": "counter"})
    assert new["run"]["result"]["output"] == "other"
    assert new["session"]["agent_config"]["agent_version"] != version
    old = await ran(product, "free", {"agent": "counter", "agent_version": version})
    assert old["run"]["result"]["output"] == "counted"
    (product.root / "agents" / "counter.yaml").unlink()
    assert (await ran_again(product, first["session"]))["run"]["result"]["output"] == "counted"


async def test_a_session_goes_on_with_its_agent_after_a_restart(tmp_path: Path) -> None:
    write_files(tmp_path / "configs", FILES)
    async with serving_product(tmp_path) as first:
        made = (await ran(first, "free", {"agent": "counter"}))["session"]
    (tmp_path / "configs" / "agents" / "counter.yaml").write_text("broken: [")
    async with serving_product(tmp_path) as second:
        assert (await ran_again(second, made))["run"]["result"]["output"] == "counted"


async def test_a_fork_may_name_another_agent(product: Product) -> None:
    source = (await ran(product, "free", {"agent": "counter"}))["session"]["session_id"]
    body = {"agent_config": {"agent": "plain"}}
    fork = await product.json("POST", f"/sessions/{source}/fork", status=201, json=body)
    assert (await ran_again(product, fork))["run"]["result"]["output"] == "other"
    same = await product.json("POST", f"/sessions/{source}/fork", status=201, json={})
    assert same["agent_config"]["agent"] == "counter"
    assert (await ran_again(product, same))["run"]["result"]["output"] == "counted"


async def test_a_run_of_a_workflow_takes_an_agent_too(product: Product) -> None:
    body = {"message": "How many?", "agent_config": {"agent": "counter"}}
    assert (await product.json("POST", "/workflows/free/run", json=body))["result"]["output"] == "counted"


@pytest.mark.parametrize(
    ("workflow_id", "config", "code", "place"),
    [
        ("free", {"agent": "none"}, "agent_not_found", None),
        ("free", {"agent": "../llms/other"}, "agent_not_found", None),
        ("free", {"agent": "a" * 300}, "agent_not_found", None),
        ("free", {"agent": 7}, "agent_config_invalid", "agent_config.agent"),
        ("free", {"agent": ""}, "agent_config_invalid", "agent_config.agent"),
        ("free", {"agnet": "counter"}, "agent_config_invalid", "agent_config.agnet"),
        ("free", {"agent_version": "0" * 64}, "agent_config_invalid", "agent_config.agent_version"),
        ("free", {"agent": "counter", "agent_version": "x"}, "agent_config_invalid", "agent_config.agent_version"),
        ("free", {"agent": "counter", "agent_version": "0" * 64}, "agent_config_invalid", "agent_config.agent_version"),
        ("resting", {"agent": "counter"}, "agent_config_invalid", "agent_config.agent"),
    ],
)
async def test_an_agent_that_cannot_be_meant_is_refused_and_makes_nothing(
    product: Product, workflow_id: str, config: dict[str, Any], code: str, place: str | None
) -> None:
    body = {"workflow_id": workflow_id, "agent_config": config}
    told = await product.problem("POST", "/sessions/", status=400, code=code, json=body)
    if place is not None:
        assert [each["path"] for each in told["errors"]] == [place]
    assert (await product.json("GET", "/sessions/"))["total"] == 0
    (product.root / "agents" / "counter.yaml").write_text("schema: modular-agent/agent/v1\nmodel: nothing\n")
    broken = {"workflow_id": "free", "agent_config": {"agent": "counter"}}
    told = await product.problem("POST", "/sessions/", status=400, code="workflow_invalid", json=broken)
    assert orjson.dumps(told).count(b"agents/counter.yaml") >= 1
