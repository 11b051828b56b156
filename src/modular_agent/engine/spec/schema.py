"""The JSON Schemas (2020-12) of workflow files and of those beside them, generated from the models.

`python -m modular_agent.engine.spec.schema` writes them into the package and, in a working copy, to `schemas/`.
"""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, cast

from pydantic import BaseModel

from modular_agent.engine.spec.configured import AgentFile, GlobalFile, LlmFile
from modular_agent.engine.spec.model import WorkflowSpec

__all__ = [
    "CONFIGURED",
    "SCHEMA_ID",
    "configured_schema",
    "configured_schema_text",
    "shipped_schema",
    "workflow_schema",
    "workflow_schema_text",
]

SCHEMA_ID: Final = "urn:modular-agent:schema:workflow:v1"
FILE_NAME: Final = "workflow.v1.json"
# The other files below the configs root, by the first part of their schemas' names.
CONFIGURED: Final[dict[str, tuple[type[BaseModel], str]]] = {
    "llm": (LlmFile, "A model file, llms/NAME.yaml."),
    "agent": (AgentFile, "An agent file, agents/NAME.yaml."),
    "global": (GlobalFile, "The file global.yaml."),
}

_DURATION = r"^\s*(?!0+(\.0+)?\s*(ms|s|m|h|d)?\s*$)\d+(\.\d+)?\s*(ms|s|m|h|d)?\s*$"
_FROM_ENVIRONMENT: Final = {
    "type": "string",
    "pattern": r"\$\{env\.[A-Za-z_][A-Za-z0-9_]*(:-[^{}]*)?\}",
    "description": "A value from the environment: ${env.NAME} or ${env.NAME:-default}.",
}
_KEYED: Final = ("properties", "patternProperties", "$defs")
_LISTED: Final = ("anyOf", "oneOf", "allOf")


def workflow_schema() -> dict[str, Any]:
    """The schema as JSON data."""
    generated = WorkflowSpec.model_json_schema(by_alias=True)
    definitions: dict[str, Any] = generated.pop("$defs")
    schema = _adapted({**generated, "$defs": definitions})
    definitions = schema.pop("$defs")
    for name, rule in _rules().items():
        definitions[name].setdefault("allOf", []).extend(rule)
    definitions["FromEnvironment"] = dict(_FROM_ENVIRONMENT)
    schema["properties"]["nodes"]["propertyNames"]["not"] = {"anyOf": [{"enum": ["START", "END"]}, {"pattern": "^__"}]}
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA_ID}
    head |= {"title": "Modular Agent workflow", "description": "A workflow file, schema: modular-agent/v1."}
    return {**head, **{key: value for key, value in schema.items() if key not in head}, "$defs": definitions}


def workflow_schema_text() -> str:
    """The schema as it stands in the file."""
    return json.dumps(workflow_schema(), indent=2, ensure_ascii=False) + "\n"


def configured_schema(kind: str) -> dict[str, Any]:
    """The schema of a file beside workflows: `llm`, `agent` or `global`."""
    model, description = CONFIGURED[kind]
    generated = model.model_json_schema(by_alias=True)
    definitions: dict[str, Any] = generated.pop("$defs", {})
    schema = _adapted({**generated, "$defs": definitions})
    rules = _rules()
    for name, rule in rules.items():
        if name in schema["$defs"]:
            schema["$defs"][name].setdefault("allOf", []).extend(rule)
    if kind == "llm":
        schema.setdefault("allOf", []).extend(rules["ModelSpec"])
    schema["$defs"]["FromEnvironment"] = dict(_FROM_ENVIRONMENT)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"urn:modular-agent:schema:{kind}:v1"}
    head |= {"title": f"Modular Agent {kind}", "description": description}
    definitions = schema.pop("$defs")
    return {**head, **{key: value for key, value in schema.items() if key not in head}, "$defs": definitions}


def configured_schema_text(kind: str) -> str:
    """That schema as it stands in the file."""
    return json.dumps(configured_schema(kind), indent=2, ensure_ascii=False) + "\n"


def shipped_schema(name: str = FILE_NAME) -> str:
    """The text of a schema that the installed package holds."""
    return (files("modular_agent") / "schemas" / name).read_text(encoding="utf-8")


def _adapted(node: dict[str, Any]) -> dict[str, Any]:
    """Pydantic's schema without noise, with the closed names, durations and environment values of workflow files."""
    result = {key: value for key, value in node.items() if key not in ("title", "discriminator")}
    for key in _KEYED:
        if key in result:
            entries = cast("dict[str, dict[str, Any]]", result[key])
            result[key] = {name: _adapted(entry) for name, entry in entries.items()}
    for key in _LISTED:
        if key in result:
            result[key] = [_adapted(entry) for entry in cast("list[dict[str, Any]]", result[key])]
    for key in ("items", "additionalProperties"):
        if isinstance(result.get(key), dict):
            result[key] = _adapted(result[key])
    if "patternProperties" in result:
        (pattern,) = result["patternProperties"]
        result["propertyNames"] = {**result.get("propertyNames", {}), "pattern": pattern}
        result["additionalProperties"] = False
    if result.pop("gt", None) is not None:
        result["anyOf"] = [
            {"type": "number", "exclusiveMinimum": 0},
            {"type": "string", "pattern": _DURATION},
            {"$ref": "#/$defs/FromEnvironment"},
        ]
    elif "const" not in result and (result.get("type") in ("integer", "number", "boolean") or _is_closed_text(result)):
        result = _or_from_environment(result)
    return result


def _is_closed_text(node: dict[str, Any]) -> bool:
    return node.get("type") == "string" and ("enum" in node or "pattern" in node)


def _or_from_environment(node: dict[str, Any]) -> dict[str, Any]:
    about = {key: node.pop(key) for key in ("default", "description") if key in node}
    return {"anyOf": [node, {"$ref": "#/$defs/FromEnvironment"}], **about}


def _given(key: str) -> dict[str, Any]:
    """The mapping has `key`, and not as null."""
    return {"required": [key], "properties": {key: {"not": {"type": "null"}}}}


def _one_of(*keys: str) -> dict[str, Any]:
    return {"oneOf": [_given(key) for key in keys]}


def _rules() -> dict[str, list[dict[str, Any]]]:
    """What holds between the keys of one mapping."""
    scripted = {"required": ["provider"], "properties": {"provider": {"const": "scripted"}}}
    from_environment = {"properties": {"provider": {"pattern": r"\$\{"}}}
    no_script = {"properties": {"script": {"type": "null"}}}
    other = {"if": from_environment, "else": {"allOf": [_given("model"), no_script]}}
    filled = {"properties": {"options": {"maxProperties": 0}}}
    object_schema = {
        "anyOf": [{"maxProperties": 0}, {"required": ["type"], "properties": {"type": {"const": "object"}}}]
    }
    some_choice = [
        {"required": ["choices"], "properties": {"choices": {"minProperties": 1}}},
        {"required": ["rules"], "properties": {"rules": {"minItems": 1}}},
    ]
    return {
        "ModelSpec": [{"if": scripted, "then": _given("script"), "else": other}],
        "ToolSpec": [_one_of("use", "ref", "mcp"), {"anyOf": [_given("use"), filled]}],
        "McpSpec": [_one_of("command", "url")],
        "StateSpec": [{"properties": {"schema": object_schema}}],
        "RouterNode": [{"anyOf": some_choice}],
        "HumanNode": [{"if": _given("answer_within"), "then": {"required": ["default_answer"]}}],
        "MapNode": [_one_of("node", "workflow")],
        "WaitNode": [_one_of("duration", "until")],
    }


def main() -> None:
    """Writes the schemas' files."""
    package = Path(__file__).parents[2]
    folders = [package / "schemas"]
    checkout = package.parents[1]
    if (checkout / "pyproject.toml").is_file():
        folders.append(checkout / "schemas")
    texts = {FILE_NAME: workflow_schema_text()}
    texts |= {f"{kind}.v1.json": configured_schema_text(kind) for kind in CONFIGURED}
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
            print(folder / name)  # noqa: T201 (a command)


if __name__ == "__main__":
    main()
