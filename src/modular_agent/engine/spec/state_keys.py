"""The keys of a workflow's state: which there are, and how the writes to one are joined."""

from collections.abc import Iterator
from typing import Any, Final, cast

from modular_agent.engine.place import KeyPath, closest
from modular_agent.engine.spec.files import nodes_and_bodies
from modular_agent.engine.spec.forms import check_schema
from modular_agent.engine.spec.model import MapNode, RouterNode, WorkflowSpec
from modular_agent.engine.spec.report import Report
from modular_agent.errors import Text
from modular_agent.kit.dataclass import dataclass

__all__ = ["STANDARD_KEYS", "StateKeys", "check_state"]

STANDARD_KEYS: Final = (
    "messages",
    "tool_results",
    "current_step",
    "iteration_count",
    "max_iterations",
    "workflow_name",
    "start_time",
    "errors",
)

_FITTING: Final = {
    "messages": ("array",),
    "append": ("array",),
    "merge": ("object",),
    "add": ("number", "integer", "string", "array"),
    "max": ("number", "integer", "string"),
    "min": ("number", "integer", "string"),
}
_OBJECT: Final = Text("the state's schema must have type: object", "状态的 schema 必须有 type: object")
_RESERVED: Final = Text("names that start with '__' are the engine's own", "以“__”开头的名称由引擎保留")


@dataclass(frozen=True, slots=True)
class StateKeys:
    """`declared` are those of the schema and the reducers; `readable` also what nodes write and every workflow has.

    When the schema names no properties, or allows others, the state is `open` and any key is fine.
    """

    open: bool
    declared: frozenset[str]
    readable: frozenset[str]

    @classmethod
    def of(cls, spec: WorkflowSpec, *, whole: bool) -> "StateKeys":
        """The keys of a specification; `whole` is False when parts of the file are missing from it."""
        schema = spec.state.schema_
        properties = _properties(spec)
        additional: Any = schema.get("additionalProperties")
        closed = additional is False or (bool(properties) and additional is None)
        declared = frozenset(properties) | frozenset(spec.state.reducers)
        return cls(not closed or not whole, declared, declared | frozenset(_written(spec)) | frozenset(STANDARD_KEYS))


def check_state(spec: WorkflowSpec, report: Report) -> None:
    """The state's schema, its reducers, and the keys that nodes write."""
    schema = spec.state.schema_
    path = ("state", "schema")
    if schema:
        if schema.get("type") != "object":
            report.add(path, "state_schema_type", _OBJECT, key=True)
        check_schema(report, path, schema)
    for key, reducer in spec.state.reducers.items():
        _check_reducer(spec, report, key, reducer)
    for name in (*_properties(spec), *spec.state.reducers):
        if name.startswith("__"):
            where = ("state", "reducers", name) if name in spec.state.reducers else (*path, "properties", name)
            report.add(where, "reserved_name", _RESERVED, key=True)
    _check_writes(spec, report)


def _check_reducer(spec: WorkflowSpec, report: Report, key: str, reducer: str) -> None:
    declared: Any = _properties(spec).get(key)
    kind: Any = cast("dict[str, Any]", declared).get("type") if isinstance(declared, dict) else None
    given = [kind] if isinstance(kind, str) else cast("list[Any]", kind) if isinstance(kind, list) else []
    kinds = [str(each) for each in given if each != "null"]
    fitting = _FITTING.get(reducer)
    if fitting and kinds and not all(each in fitting for each in kinds):
        text = Text(
            f"the reducer {reducer} needs {' or '.join(fitting)}, and {key} is {' or '.join(kinds)}",
            f"归并方式 {reducer} 需要 {' 或 '.join(fitting)}，而 {key} 是 {' 或 '.join(kinds)}",
        )
        report.add(("state", "reducers", key), "reducer_does_not_fit", text)


def _check_writes(spec: WorkflowSpec, report: Report) -> None:
    keys = StateKeys.of(spec, whole=True)
    for path, node, item in nodes_and_bodies(spec):
        if node.writes is None:
            continue
        where: KeyPath = (*path, "writes")
        if node.writes.startswith("__"):
            report.add(where, "reserved_name", _RESERVED)
        elif not keys.open and item is None and node.writes not in (*keys.declared, *STANDARD_KEYS):
            name = report.shown(where, node.writes)
            text = Text(f"the state's schema has no key {name!r}", f"状态的 schema 没有键 {name!r}")
            report.add(where, "unknown_state_key", text, suggestion=closest(node.writes, keys.declared))


def _properties(spec: WorkflowSpec) -> dict[str, Any]:
    found = spec.state.schema_.get("properties")
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _written(spec: WorkflowSpec) -> Iterator[str]:
    for name, node in spec.nodes.items():
        if node.writes is not None:
            yield node.writes
        elif isinstance(node, (MapNode, RouterNode)):
            yield name if isinstance(node, MapNode) else "route"
        output = getattr(node, "output", None)
        if node.type in ("workflow", "graph") and isinstance(output, dict):
            yield from cast("dict[str, str]", output)
