"""Model files, agents and `global.yaml`: read, taken into workflows, and pinned with them."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from modular_agent.engine.spec.configured import AgentFile, GlobalFile, LlmFile, agent_of, agent_path
from modular_agent.engine.spec.document import read_document
from modular_agent.engine.spec.errors import WorkflowInvalid
from modular_agent.engine.spec.loader import LoadedWorkflow, load_workflow
from modular_agent.engine.spec.model import AgentNode
from modular_agent.engine.spec.schema import CONFIGURED, configured_schema, configured_schema_text, shipped_schema
from modular_agent.engine.spec.source import BundleSource
from modular_agent.engine.spec.typed import read_typed

REPOSITORY = Path(__file__).parents[4]
FAST = "schema: modular-agent/llm/v1\nprovider: openai\nmodel: ${env.MODEL:-small}\nfallback: [spare]\n"
SPARE = "schema: modular-agent/llm/v1\nprovider: scripted\nscript: scripts/a.yaml\n"
HELPER = """\
schema: modular-agent/agent/v1
model: fast
prompt: prompts/helper.md
tools:
  refund: {ref: "tools.money:refund", approval: "input.amount > 10"}
limits: {max_iterations: 3, max_tokens: 50}
temperature: 0.5
"""
TALK = """\
schema: modular-agent/v1
name: talk
models: {own: {provider: scripted, script: scripts/a.yaml}}
limits: {max_tokens: 99}
nodes:
  a: {type: llm, model: fast}
  b: {type: agent, agent: helper, temperature: 0.1}
edges:
  - {from: START, to: a}
  - {from: a, to: b}
  - {from: b, to: END}
"""
FILES = {
    "llms/fast.yaml": FAST,
    "llms/spare.yaml": SPARE,
    "llms/unused.yaml": SPARE,
    "agents/helper.yaml": HELPER,
    "scripts/a.yaml": "otherwise: {reply: Hello}\n",
    "prompts/helper.md": "Help.\n",
    "talk.yaml": TALK,
}


def load(path: str = "talk.yaml", environment: dict[str, str] | None = None, **changed: str) -> LoadedWorkflow:
    files = {**FILES, **{name.replace("__", "/") + ".yaml": text for name, text in changed.items()}}
    return load_workflow(BundleSource(files), path, environment=environment or {})


def faults(path: str = "talk.yaml", **changed: str) -> list[tuple[Any, ...]]:
    with pytest.raises(WorkflowInvalid) as refused:
        load(path, **changed)
    return [(each.code, each.file, each.line, each.path, each.suggestion) for each in refused.value.faults]


def test_a_workflow_takes_the_models_it_names_and_those_they_fall_back_on() -> None:
    loaded = load(environment={"MODEL": "large"})
    assert set(loaded.spec.models) == {"own", "fast", "spare"}
    assert loaded.spec.models["fast"].model == "large"
    assert loaded.scripts["scripts/a.yaml"] == {"otherwise": {"reply": "Hello"}}
    assert set(loaded.bundle) == set(FILES) - {"llms/unused.yaml"}


def test_the_bundle_is_enough_to_load_the_version_again() -> None:
    loaded = load()
    again = load_workflow(BundleSource(loaded.bundle), loaded.path, environment={})
    assert (again.content_hash, again.spec) == (loaded.content_hash, loaded.spec)
    agent = load("agents/helper.yaml")
    again = load_workflow(BundleSource(agent.bundle), agent.path, environment={})
    assert (again.content_hash, again.spec.name) == (agent.content_hash, "agent-helper")


def test_a_changed_model_or_agent_is_another_version_and_an_unused_one_is_not() -> None:
    first = load().content_hash
    assert load(llms__fast=FAST + "temperature: 0.1\n").content_hash != first
    assert load(agents__helper=HELPER.replace("0.5", "0.6")).content_hash != first
    assert load(llms__unused=FAST).content_hash == first


def test_a_model_of_the_file_comes_before_one_of_the_same_name() -> None:
    text = TALK.replace("{own:", "{fast:")
    assert load(talk=text).spec.models["fast"].provider == "scripted"


def test_a_node_says_some_things_itself_and_takes_the_rest_from_its_agent() -> None:
    loaded = load()
    node = loaded.spec.nodes["b"]
    assert isinstance(node, AgentNode)
    assert (node.model, node.prompt, node.tools) == ("fast", "prompts/helper.md", ("refund",))
    assert (node.temperature, node.max_iterations) == (0.1, 3)
    assert loaded.spec.limits.max_tokens == 99  # the workflow's own
    assert loaded.spec.limits.max_iterations is None  # of the agent's node, not of the run
    assert set(loaded.spec.tools) == {"refund"}
    assert "tools.refund.approval" in loaded.expressions
    assert loaded.prompts["prompts/helper.md"] == "Help.\n"


def test_an_agent_alone_is_a_workflow_of_one_node() -> None:
    loaded = load("agents/helper.yaml")
    assert list(loaded.spec.nodes) == ["agent"]
    assert (loaded.spec.limits.max_iterations, loaded.spec.limits.max_tokens) == (3, 50)
    assert set(loaded.spec.models) == {"fast", "spare"}


def test_faults_stand_where_they_are_made() -> None:
    assert faults(talk=TALK.replace("model: fast", "model: fats")) == [
        ("unknown_model", "talk.yaml", 6, "nodes.a.model", "fast")
    ]
    assert faults(talk=TALK.replace("agent: helper", "agent: helpre")) == [
        ("unknown_agent", "talk.yaml", 7, "nodes.b.agent", "helper")
    ]
    assert faults(llms__fast=FAST.replace("openai", "opnai")) == [
        ("unknown_provider", "llms/fast.yaml", 2, "provider", "openai")
    ]
    assert faults(llms__fast=FAST.replace("[spare]", "[nobody]")) == [
        ("unknown_model", "llms/fast.yaml", None, "fallback[0]", None)
    ]
    assert faults("agents/helper.yaml", agents__helper=HELPER.replace("temperature", "temprature")) == [
        ("unknown_key", "agents/helper.yaml", 7, "temprature", "temperature")
    ]
    assert ("missing_key", "llms/spare.yaml", 1, "script", None) in faults(
        llms__spare="schema: modular-agent/llm/v1\nprovider: scripted\n"
    )
    assert [each[:3] for each in faults(agents__helper=HELPER.replace("amount > 10", "amount >"))] == [
        ("expression_invalid", "agents/helper.yaml", 5)
    ]


def test_a_fault_tells_nothing_of_the_environment() -> None:
    text = HELPER.replace("model: fast", "model: ${env.KEY}")
    with pytest.raises(WorkflowInvalid) as refused:
        load("agents/helper.yaml", {"KEY": "sk-very-secret"}, agents__helper=text)
    assert "very-secret" not in str(refused.value)
    assert "${env.KEY}" in str(refused.value)


@pytest.mark.parametrize("name", ["../a", "a/b", "A", "", "-a", "a" * 59, "a.b", "a\0"])
def test_what_is_no_name_is_no_file(name: str) -> None:
    assert agent_path(name) is None


@given(st.text(max_size=30))
def test_only_the_path_of_an_agent_is_an_agent_s(text: str) -> None:
    name = agent_of(f"agents/{text}.yaml")
    assert name is None or agent_path(name) == f"agents/{text}.yaml"
    assert agent_of(text) is None or text.startswith("agents/")


@pytest.mark.parametrize("kind", CONFIGURED)
def test_the_shipped_schemas_are_those_of_the_models(kind: str) -> None:
    text = configured_schema_text(kind)
    assert shipped_schema(f"{kind}.v1.json") == text
    assert (REPOSITORY / "schemas" / f"{kind}.v1.json").read_text(encoding="utf-8") == text
    Draft202012Validator.check_schema(json.loads(text))


GOOD = [
    ("llm", LlmFile, FAST),
    ("llm", LlmFile, SPARE),
    ("llm", LlmFile, FAST + "price: {input: 1, output: 2.5}\ntimeout: 30s\n"),
    ("agent", AgentFile, HELPER),
    ("global", GlobalFile, "schema: modular-agent/global/v1\n"),
    ("global", GlobalFile, "schema: modular-agent/global/v1\ndefault_limits: {max_seconds: 5m}\nlog_level: DEBUG\n"),
]
BAD = [
    ("llm", LlmFile, FAST + "price: {input: -1, output: 2}\n"),
    ("llm", LlmFile, FAST + "price: {input: 1}\n"),
    ("llm", LlmFile, FAST + "name: x\n"),
    ("agent", AgentFile, "schema: modular-agent/agent/v1\n"),
    ("agent", AgentFile, HELPER.replace("agent/v1", "v1")),
    ("global", GlobalFile, "schema: modular-agent/global/v1\nmax_parallel_runs: 0\n"),
    ("global", GlobalFile, "schema: modular-agent/global/v1\nmax_parallel_run: 1\n"),
]


@pytest.mark.parametrize(("kind", "model", "text"), [*GOOD, *BAD])
def test_schema_and_loader_agree(kind: str, model: type[Any], text: str) -> None:
    found, told = read_typed(read_document(text, file="x.yaml", environment={}), model)
    by_schema = Draft202012Validator(configured_schema(kind)).is_valid(read_document(text).data())
    assert by_schema == (found is not None) == (not told) == ((kind, model, text) in GOOD)


def test_a_file_that_is_nothing_is_told() -> None:
    for text, code in (("", "empty_file"), ("- 1\n", "wrong_type")):
        found, told = read_typed(read_document(text, file="x.yaml", environment={}), GlobalFile)
        assert found is None
        assert [each.code for each in told] == [code]
