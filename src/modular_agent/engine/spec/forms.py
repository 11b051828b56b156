"""JSON Schemas inside a workflow file: of the state, of answers, of what a model shall return."""

from typing import Any, cast

from modular_agent.engine.place import KeyPath, closest, path_text
from modular_agent.engine.schema_faults import schema_text
from modular_agent.engine.spec.files import nodes_and_bodies
from modular_agent.engine.spec.model import HumanNode, JsonObject, LlmNode, WorkflowSpec
from modular_agent.engine.spec.report import Report
from modular_agent.errors import Text

__all__ = ["answer_schema", "check_forms", "check_schema"]


def answer_schema(node: HumanNode) -> JsonObject:
    """The JSON Schema (2020-12) that an answer to `node` must fit: text, or an object with the form's fields."""
    if not node.form:
        return {"type": "string"}
    required = list(node.form) if node.required is None else list(node.required)
    return {"type": "object", "properties": dict(node.form), "required": required, "additionalProperties": False}


def check_forms(spec: WorkflowSpec, report: Report) -> None:
    """The forms of human nodes and the output schemas of models."""
    for path, node, _ in nodes_and_bodies(spec):
        if isinstance(node, HumanNode):
            _check_human(report, path, node)
        elif isinstance(node, LlmNode) and node.output is not None:
            check_schema(report, (*path, "output"), node.output)


def check_schema(report: Report, path: KeyPath, schema: JsonObject) -> bool:
    """Whether `schema` is a JSON Schema (2020-12); adds a fault at the part that is not."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        said = schema_text(error)
        text = Text(f"this is no JSON Schema: {said.english}", f"这不是 JSON Schema：{said.chinese}")
        report.add((*path, *error.absolute_path), "invalid_schema", text)
        return False
    return True


def _check_human(report: Report, path: KeyPath, node: HumanNode) -> None:
    fits = [check_schema(report, (*path, "form", name), schema) for name, schema in node.form.items()]
    for index, name in enumerate(node.required or ()):
        if name not in node.form:
            where = (*path, "required", index)
            text = Text(f"the form has no field {name!r}", f"表单没有字段 {name!r}")
            report.add(where, "unknown_field", text, suggestion=closest(name, node.form))
    given = "default_answer" in node.model_fields_set
    if node.answer_within is not None and not given:
        text = Text(
            "answer_within needs a default_answer, which counts after that time",
            "answer_within 需要 default_answer，超时后以其为准",
        )
        report.add(path, "missing_key", text, missing="default_answer")
    if given and all(fits):
        _check_default(report, (*path, "default_answer"), node)


def _check_default(report: Report, path: KeyPath, node: HumanNode) -> None:
    from jsonschema import Draft202012Validator

    validator: Any = Draft202012Validator(answer_schema(node))  # its stubs know no types
    errors: Any = validator.iter_errors(node.default_answer)
    for error in errors:
        inside = cast("tuple[str | int, ...]", tuple(error.absolute_path))
        field = f"{path_text(inside)}: " if inside else ""
        said = schema_text(error)
        text = Text(f"{field}{said.english}", f"{field}{said.chinese}")
        report.add((*path, *inside), "default_answer_does_not_fit", text)
