import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from modular_agent.engine.spec.errors import FileNotFound, WorkflowInvalid
from modular_agent.engine.spec.loader import LoadedWorkflow, load_workflow
from modular_agent.engine.spec.source import BundleSource, DirectorySource, OverlaySource
from modular_agent.errors import Kind

CORPUS = Path(__file__).parent / "corpus"
ENVIRONMENT = {"TEMPERATURE": "0.5"}
SMALL = """
schema: modular-agent/v1
name: small
models: {main: {provider: scripted, script: configs/scripts/a.yaml}}
nodes:
  say: {type: llm, prompt: prompts/a.md}
  ask:
    type: human
    question: |
      Is {{ state.name }}
      right?
  sub: {type: workflow, workflow: configs/workflows/child.yaml}
edges:
  - {from: START, to: say}
  - {from: say, to: ask, when: "message_count > 1"}
  - {from: ask, to: sub}
"""
CHILD = """
schema: modular-agent/v1
name: child
nodes: {say: {type: llm, prompt: prompts/child.md}}
edges: [{from: START, to: say}]
"""
FILES = {
    "workflows/small.yaml": SMALL,
    "workflows/child.yaml": CHILD,
    "prompts/a.md": "A {% include 'prompts/b.md' %}",
    "prompts/b.md": "B",
    "prompts/child.md": "C",
    "prompts/unused.md": "U",
    "scripts/a.yaml": "turns: [{reply: hello}]",
}


def load(files: dict[str, str], path: str = "workflows/small.yaml") -> LoadedWorkflow:
    return load_workflow(BundleSource(files), path, environment=ENVIRONMENT)


def test_the_bundle_holds_the_files_that_are_used_and_no_others() -> None:
    assert set(load(FILES).bundle) == set(FILES) - {"prompts/unused.md"}


def test_a_workflow_loads_from_its_own_bundle_as_the_same_version() -> None:
    first = load(FILES)
    again = load(dict(first.bundle), first.path)
    assert (again.content_hash, again.spec) == (first.content_hash, first.spec)
    assert len(first.content_hash) == 64


def test_a_session_that_is_pinned_to_a_bundle_does_not_see_the_files_change(tmp_path: Path) -> None:
    root = tmp_path / "configs"
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    before = load_workflow(DirectorySource(root), "configs/workflows/small.yaml", environment={})
    (root / "prompts/b.md").write_text("changed")
    after = load_workflow(DirectorySource(root), "workflows/small.yaml", environment={})
    pinned = load_workflow(BundleSource(before.bundle), before.path, environment={})
    assert before.content_hash == pinned.content_hash != after.content_hash
    now = datetime(2030, 1, 1, tzinfo=UTC)
    assert pinned.templates["prompts/a.md"].render({}, now=now) == "A B"
    assert after.templates["prompts/a.md"].render({}, now=now) == "A changed"


@pytest.mark.parametrize("name", sorted(set(FILES) - {"prompts/unused.md"}))
def test_a_change_of_any_file_of_the_bundle_is_a_new_version(name: str) -> None:
    changed = {**FILES, name: FILES[name] + "\n"}
    assert load(changed).content_hash != load(FILES).content_hash


def test_a_change_of_a_file_that_is_not_used_is_none() -> None:
    assert load({**FILES, "prompts/unused.md": "other"}).content_hash == load(FILES).content_hash


def test_the_environment_is_in_no_bundle_and_no_hash() -> None:
    files = {
        **FILES,
        "prompts/a.md": "A",
        "workflows/small.yaml": SMALL.replace("name: small", 'name: small\ndescription: "${env.X:-d}"'),
    }
    source = BundleSource(files)
    one = load_workflow(source, "workflows/small.yaml", environment={"X": "hidden"})
    other = load_workflow(source, "workflows/small.yaml", environment={})
    assert (one.spec.description, other.spec.description) == ("hidden", "d")
    assert one.content_hash == other.content_hash
    assert "hidden" not in "".join(one.bundle.values())


def test_what_is_loaded_has_the_keys_that_the_file_uses() -> None:
    workflow = load(FILES)
    assert workflow.prompts["prompts/a.md"] == FILES["prompts/a.md"]
    question = "Is {{ state.name }}\nright?\n"
    assert workflow.prompts[question] == question
    assert workflow.templates.keys() == workflow.prompts.keys()
    assert workflow.scripts == {"configs/scripts/a.yaml": {"turns": [{"reply": "hello"}]}}
    assert workflow.children["configs/workflows/child.yaml"].spec.name == "child"
    assert workflow.expressions["edges[1].when"].evaluate({"messages": [{}, {}]}) is True
    assert str(workflow.expressions["edges[1].when"].place) == "workflows/small.yaml:15:33 edges[1].when"


def test_an_inline_prompt_knows_where_it_stands() -> None:
    question = load(FILES).templates["Is {{ state.name }}\nright?\n"]
    assert (question.place.file, question.place.line, question.place.path) == (
        "workflows/small.yaml",
        10,
        "nodes.ask.question",
    )


def test_a_sub_workflow_that_is_used_twice_is_loaded_once() -> None:
    files = {**FILES, "workflows/small.yaml": SMALL + "  - {from: sub, to: more}\n"}
    files["workflows/small.yaml"] = files["workflows/small.yaml"].replace(
        "edges:", "  more: {type: map, over: '[1]', workflow: workflows/child.yaml}\nedges:"
    )
    children = load(files).children
    assert children["workflows/child.yaml"] is children["configs/workflows/child.yaml"]


def test_a_posted_text_stands_in_front_of_the_folder() -> None:
    source = OverlaySource(
        {"workflows/new.yaml": CHILD.replace("prompts/child.md", "prompts/react.md")}, below=DirectorySource(CORPUS)
    )
    assert "prompts/react.md" in load_workflow(source, "workflows/new.yaml", environment={}).bundle


def test_a_workflow_that_cannot_be_read_is_an_error_of_its_own() -> None:
    with pytest.raises(FileNotFound) as raised:
        load(FILES, "workflows/smal.yaml")
    assert raised.value.suggestion == "workflows/small.yaml"


def test_an_invalid_workflow_is_an_error_with_a_stable_code() -> None:
    with pytest.raises(WorkflowInvalid) as raised:
        load({"workflows/small.yaml": "schema: modular-agent/v1"})
    assert (raised.value.code, raised.value.kind) == ("workflow_invalid", Kind.INVALID)
    assert "workflows/small.yaml:1:1 nodes: the key 'nodes' is missing" in str(raised.value)


def test_models_of_the_configuration_can_be_named() -> None:
    files = {"a.yaml": CHILD.replace("prompt: prompts/child.md", "model: fast")}
    with pytest.raises(WorkflowInvalid, match="there is no model 'fast'"):
        load(files, "a.yaml")
    loaded = load_workflow(BundleSource(files), "a.yaml", environment={}, models=["fast", "slow"])
    assert loaded.spec.nodes["say"].type == "llm"


def test_a_deep_chain_of_workflows_is_refused() -> None:
    head, edges = "schema: modular-agent/v1\nname: w\n", "edges: [{from: START, to: n}]\n"
    files = {
        f"w{number}.yaml": f"{head}nodes: {{n: {{type: workflow, workflow: w{number + 1}.yaml}}}}\n{edges}"
        for number in range(40)
    }
    with pytest.raises(WorkflowInvalid) as raised:
        load(files, "w0.yaml")
    assert [fault.code for fault in raised.value.faults] == ["too_deep"]


def test_importing_the_loader_brings_in_nothing_heavy() -> None:
    program = """
import sys
import modular_agent.engine.spec.loader, modular_agent.engine.spec.mermaid, modular_agent.engine.spec.layout
heavy = {"langgraph", "langchain_core", "fastapi", "starlette", "sqlalchemy", "mcp", "aiohttp", "jsonschema", "jinja2"}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_no_module_of_the_language_imports_the_rest_of_the_engine() -> None:
    program = """
import sys
import modular_agent.engine.spec.loader, modular_agent.engine.prompts, modular_agent.engine.expressions
print(sorted(m for m in sys.modules if m.startswith(("modular_agent.engine.tools", "modular_agent.engine.providers"))))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
