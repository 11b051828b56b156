import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from modular_agent.engine.place import closest
from modular_agent.engine.spec.document import read_document
from modular_agent.engine.spec.errors import WorkflowInvalid
from modular_agent.engine.spec.loader import load_workflow
from modular_agent.engine.spec.model import WorkflowSpec
from modular_agent.engine.spec.schema import SCHEMA_ID, shipped_schema, workflow_schema, workflow_schema_text
from modular_agent.engine.spec.source import BundleSource

CORPUS = Path(__file__).parent / "corpus"
REPOSITORY = Path(__file__).parents[4]
SHAPE = {
    *("unknown_key", "missing_key", "wrong_type", "invalid_value", "bad_name", "unknown_node_type", "empty_file"),
    *("tool_source", "mcp_transport", "wait_time", "map_body", "unexpected_key", "state_schema_type", "reserved_name"),
}
FILES = {
    name: (CORPUS / name).read_text(encoding="utf-8")
    for name in ("prompts/including.md", "prompts/react.md", "scripts/react.yaml", "workflows/child.yaml")
}
VALIDATOR = Draft202012Validator(workflow_schema())


def data_of(file: Path) -> Any:
    return read_document(file.read_text(encoding="utf-8")).data()


GOOD: dict[str, Any] = data_of(CORPUS / "good" / "everything.yaml")


def shape_faults(document: object) -> set[str]:
    source = BundleSource({**FILES, "posted.json": json.dumps(document)})
    try:
        load_workflow(source, "posted.json", environment={"TEMPERATURE": "0.5"})
    except WorkflowInvalid as error:
        return {f"{fault.code} {fault.path}: {fault.text.english}" for fault in error.faults if fault.code in SHAPE}
    return set()


def agrees(document: object) -> None:
    by_loader = shape_faults(document)
    assert VALIDATOR.is_valid(document) == (not by_loader), by_loader or list(VALIDATOR.iter_errors(document))


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += places(item, (*path, key))
    return found


def changed(path: tuple[str | int, ...], change: Callable[[Any, Any], None]) -> dict[str, Any]:
    document = json.loads(json.dumps(GOOD))
    holder = document
    for part in path[:-1]:
        holder = holder[part]
    change(holder, path[-1])
    return document


def test_the_files_are_what_the_models_say() -> None:
    text = workflow_schema_text()
    assert shipped_schema() == text, "run: python -m modular_agent.engine.spec.schema"
    assert (REPOSITORY / "schemas" / "workflow.v1.json").read_text(encoding="utf-8") == text


def test_the_schema_is_a_schema_with_an_id() -> None:
    schema = json.loads(shipped_schema())
    Draft202012Validator.check_schema(schema)
    assert (schema["$schema"], schema["$id"]) == ("https://json-schema.org/draft/2020-12/schema", SCHEMA_ID)
    assert schema["additionalProperties"] is False


def test_every_mapping_of_the_language_is_closed_and_described() -> None:
    for name, definition in workflow_schema()["$defs"].items():
        assert definition["description"], name
        if definition["type"] == "object":
            assert definition["additionalProperties"] is False, name


def test_the_command_writes_what_is_shipped() -> None:
    before = shipped_schema()
    command = [sys.executable, "-m", "modular_agent.engine.spec.schema"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "workflow.v1.json" in done.stdout
    assert shipped_schema() == before


@pytest.mark.parametrize("file", sorted((CORPUS / "good").iterdir()), ids=lambda file: file.stem)
def test_good_files_fit_the_schema(file: Path) -> None:
    assert [error.message for error in VALIDATOR.iter_errors(data_of(file))] == []


@pytest.mark.parametrize("name", ["shapes", "nothing_inside", "missing_all", "state_type", "names"])
def test_files_with_faults_of_shape_do_not_fit(name: str) -> None:
    assert not VALIDATOR.is_valid(data_of(CORPUS / "bad" / f"{name}.yaml"))


def mutations(path: tuple[str | int, ...]) -> list[dict[str, Any]]:
    """The good document with the part at `path` missing, with a surplus key, or another."""

    def delete(holder: Any, key: Any) -> None:
        del holder[key]

    def widen(holder: Any, key: Any) -> None:
        holder[key] = {**(holder[key] if isinstance(holder[key], dict) else {}), "surplus": 1}

    others: list[Any] = [None, True, 3, "text", [], {}, ["x"]]
    replaced = [changed(path, lambda holder, key, value=value: holder.__setitem__(key, value)) for value in others]
    return [changed(path, delete), changed(path, widen), *replaced]


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(places(GOOD)), st.integers(0, 8))
def test_loader_and_schema_agree_when_a_part_is_missing_or_another(path: tuple[str | int, ...], which: int) -> None:
    agrees(mutations(path)[which])


NUMBERS = st.integers(-3, 200) | st.floats(-3, 3, allow_nan=False).filter(lambda value: not value.is_integer())
TEXTS = st.sampled_from(
    [
        "",
        "x",
        "a-b",
        "1s",
        "0s",
        "0.0 ms",
        " 5m ",
        "5 x",
        "-1s",
        "a:b",
        "tools.a:b",
        "${env.TEMPERATURE}",
        "END",
        "__x",
        "é",
    ]
)


@settings(max_examples=80, deadline=None)
@given(st.sampled_from([path for path in places(GOOD) if path[-1] not in ("temperature",)]), NUMBERS | TEXTS)
def test_loader_and_schema_agree_on_any_scalar_anywhere(path: tuple[str | int, ...], value: object) -> None:
    if "TEMPERATURE" in str(value):
        return  # what the environment holds decides, and no schema sees it
    agrees(changed(path, lambda holder, key: holder.__setitem__(key, value)))


@given(st.sampled_from(sorted(WorkflowSpec.model_fields)), st.data())
def test_a_typo_of_a_key_is_recognised(name: str, data: st.DataObject) -> None:
    key = name.removesuffix("_")
    if len(key) < 4:
        return
    at = data.draw(st.integers(1, len(key) - 2))
    typo = key[:at] + key[at + 1] + key[at] + key[at + 2 :]
    assert closest(typo, [field.removesuffix("_") for field in WorkflowSpec.model_fields]) == key
