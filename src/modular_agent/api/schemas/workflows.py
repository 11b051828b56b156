"""The shapes of requests and answers about workflows."""

from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from modular_agent.api.problem import ProblemPlace
from modular_agent.kit.late_model import LateModel

__all__ = [
    "DifferenceAnswer",
    "DrawingAnswer",
    "LoadAnswer",
    "LoadWorkflow",
    "UnloadAnswer",
    "ValidateWorkflow",
    "ValidationAnswer",
    "VersionList",
    "WorkflowAnswer",
    "WorkflowList",
]

JsonObject = dict[str, Any]  # any JSON object: a workflow, a JSON Schema

_HASH = "9f2c4b1e0d7a53f6c8e1b2a4d5f60718293a4b5c6d7e8f901a2b3c4d5e6f7081"
_SUMMARY: JsonObject = {
    "workflow_id": "react",
    "name": "react",
    "description": "Answers with the help of tools.",
    "version": "1.0",
    "content_hash": _HASH,
    "config_path": "workflows/react.yaml",
    "loaded_at": "2025-10-22T17:40:00.000000Z",
    "last_used": "2025-10-22T17:48:00.000000Z",
    "usage_count": 3,
    "node_count": 2,
}
_NODES: list[JsonObject] = [
    {"name": "think", "type": "llm", "detail": "main", "description": "", "tools": ["calculator"]},
    {"name": "act", "type": "tools", "detail": "", "description": "", "tools": []},
]
_EDGES: list[JsonObject] = [
    {"from": "START", "to": "think", "label": "", "conditional": False},
    {"from": "think", "to": "act", "label": "has_tool_calls", "conditional": True},
    {"from": "think", "to": "END", "label": "otherwise", "conditional": True},
    {"from": "act", "to": "think", "label": "", "conditional": False},
]
_VERSION: JsonObject = {
    "content_hash": _HASH,
    "version": "1.0",
    "config_path": "workflows/react.yaml",
    "created_at": "2025-10-22T17:40:00.000000Z",
    "is_current": True,
}
_FAULT: JsonObject = {
    "code": "unknown_model",
    "message": "there is no model 'mian'",
    "path": "nodes.think.model",
    "file": "workflows/react.yaml",
    "line": 14,
    "column": 24,
    "suggestion": "main",
}
_BROKEN: JsonObject = {
    "config_path": "workflows/draft.yaml",
    "workflow_id": None,
    "code": "workflow_invalid",
    "detail": "The workflow cannot be used: 1 fault(s).",
    "since": "2025-10-22T17:45:00.000000Z",
    "errors": [_FAULT],
}


def _examples(*examples: JsonObject) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": list(examples)})


class _Body(LateModel):
    """A request body: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid")


class LoadWorkflow(_Body):
    """Which file to load."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"config_path": "workflows/react.yaml"}]})

    config_path: str = Field(
        min_length=1,
        max_length=500,
        description="A workflow file below the configs root, with or without the root's own name in front.",
    )


class ValidateWorkflow(_Body):
    """What to check: a workflow in `content`, or the file at `config_path`."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"config_path": "workflows/react.yaml"},
                {"content": "schema: modular-agent/v1\nname: hello\n...", "config_path": "workflows/hello.yaml"},
            ]
        },
    )

    content: str | JsonObject | None = Field(
        default=None, description="A workflow as YAML (or JSON) text, or as a JSON object."
    )
    config_path: str | None = Field(
        default=None,
        min_length=1,
        max_length=500,
        description="A file below the configs root; beside `content`, the place where it is to stand.",
    )

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.content is None and self.config_path is None:
            raise PydanticCustomError(
                "nothing_to_check", "needs content or config_path", {"zh": "需要 content 或 config_path"}
            )
        return self


class WorkflowSummary(LateModel):
    """A workflow in a list. `version` is the author's; `content_hash` names the version that new sessions get."""

    model_config = _examples(_SUMMARY)

    workflow_id: str
    name: str
    description: str
    version: str | None
    content_hash: str
    config_path: str
    loaded_at: str
    last_used: str | None = Field(description="When the newest session was made.")
    usage_count: int = Field(description="How many sessions were made.")
    node_count: int | None


class BrokenWorkflowFile(LateModel):
    """A workflow file that cannot be used, and everything that is wrong with it."""

    model_config = _examples(_BROKEN)

    config_path: str
    workflow_id: str | None = Field(description="The workflow whose last good version stays in use, if there is one.")
    code: str
    detail: str
    since: str
    errors: list[ProblemPlace]


class WorkflowList(LateModel):
    """A page of workflows, and the files that cannot be used (all of them, on every page)."""

    model_config = _examples(
        {
            "workflows": [_SUMMARY],
            "total": 1,
            "page": 1,
            "page_size": 20,
            "has_next": False,
            "cursor": None,
            "broken": [_BROKEN],
        }
    )

    workflows: list[WorkflowSummary]
    total: int
    page: int
    page_size: int
    has_next: bool
    cursor: str | None
    broken: list[BrokenWorkflowFile]


class WorkflowNode(LateModel):
    """A node. `detail` is what it names: a model, a file, Python code."""

    name: str
    type: str
    detail: str
    description: str
    tools: list[str]


class WorkflowEdge(LateModel):
    """A way from one node to the next; `label` is its condition, `otherwise` where others have one."""

    from_: str = Field(alias="from")
    to: str
    label: str
    conditional: bool


class WorkflowVersion(LateModel):
    """A content that the workflow has or had. `is_current`: new sessions get it."""

    model_config = _examples(_VERSION)

    content_hash: str
    version: str
    config_path: str
    created_at: str
    is_current: bool


class WorkflowAnswer(WorkflowSummary):
    """Everything about a workflow."""

    model_config = _examples(
        {
            **_SUMMARY,
            "nodes": _NODES,
            "edges": _EDGES,
            "models": ["main", "offline"],
            "tools": ["calculator"],
            "limits": {"max_iterations": 10, "on_exceed": "pause"},
            "state_schema": {},
            "versions": [_VERSION],
        }
    )

    nodes: list[WorkflowNode]
    edges: list[WorkflowEdge]
    models: list[str]
    tools: list[str]
    limits: JsonObject
    state_schema: JsonObject
    versions: list[WorkflowVersion]


class VersionList(LateModel):
    """Every content a workflow ever had, newest first."""

    model_config = _examples({"workflow_id": "react", "versions": [_VERSION]})

    workflow_id: str
    versions: list[WorkflowVersion]


class FileDifference(LateModel):
    """A file that differs between two versions; `diff` is in unified format."""

    path: str
    change: Literal["added", "removed", "changed"]
    diff: str


class DifferenceAnswer(LateModel):
    """What changed from one version to another."""

    model_config = _examples(
        {
            "workflow_id": "react",
            "from": "1b" * 32,
            "to": _HASH,
            "files": [
                {
                    "path": "prompts/react.md",
                    "change": "changed",
                    "diff": "--- prompts/react.md\n+++ prompts/react.md\n@@ -1 +1 @@\n-Help.\n+Help briefly.",
                }
            ],
        }
    )

    workflow_id: str
    from_: str = Field(alias="from")
    to: str
    files: list[FileDifference]


class LoadAnswer(LateModel):
    """A workflow that was loaded."""

    model_config = _examples(
        {
            "workflow_id": "react",
            "message": "The workflow react is loaded.",
            "config_path": "workflows/react.yaml",
            "content_hash": _HASH,
            "is_new_version": False,
        }
    )

    workflow_id: str
    message: str
    config_path: str
    content_hash: str
    is_new_version: bool = Field(description="Whether this content was not known before.")


class UnloadAnswer(LateModel):
    """A workflow that was unloaded."""

    model_config = _examples({"workflow_id": "react", "message": "The workflow react is unloaded."})

    workflow_id: str
    message: str


class ValidationAnswer(LateModel):
    """What checking a workflow found: every fault with its place, or none."""

    model_config = _examples(
        {"valid": True, "workflow_id": "react", "version": "1.0", "content_hash": _HASH, "errors": []},
        {"valid": False, "workflow_id": None, "version": None, "content_hash": None, "errors": [_FAULT]},
    )

    valid: bool
    workflow_id: str | None
    version: str | None
    content_hash: str | None
    errors: list[ProblemPlace]


class Point(LateModel):
    """The middle of a node, or a bend of an edge, in pixels; y grows downwards."""

    x: float
    y: float


class DrawnEdge(WorkflowEdge):
    """An edge with the points that it goes through, none of them inside of a node; `back` if it leads back."""

    points: list[Point]
    back: bool


class DrawnNode(WorkflowNode):
    """A node with its place; `state` is there with `session_id`."""

    position: Point
    state: Literal["pending", "running", "completed", "failed", "interrupted", "cancelled"] | None = None


class DrawingSettings(LateModel):
    """How the drawing is meant. Sizes in pixels."""

    direction: Literal["TB"]
    node_width: int
    node_height: int
    width: float
    height: float


_PLACES: JsonObject = {
    "START": {"x": 120.0, "y": 60.0},
    "think": {"x": 120.0, "y": 180.0},
    "act": {"x": 120.0, "y": 300.0},
    "END": {"x": 360.0, "y": 300.0},
}


_ROUTES: list[JsonObject] = [
    {"points": [{"x": 120.0, "y": 90.0}, {"x": 120.0, "y": 150.0}], "back": False},
    {"points": [{"x": 120.0, "y": 210.0}, {"x": 120.0, "y": 270.0}], "back": False},
    {"points": [{"x": 120.0, "y": 210.0}, {"x": 360.0, "y": 270.0}], "back": False},
    {"points": [{"x": 165.0, "y": 270.0}, {"x": 165.0, "y": 210.0}], "back": True},
]


class DrawingAnswer(LateModel):
    """What draws a workflow. With `session_id`: the version and the live state of that session."""

    model_config = _examples(
        {
            "workflow_id": "react",
            "content_hash": _HASH,
            "nodes": [{**node, "position": _PLACES[node["name"]], "state": "completed"} for node in _NODES],
            "edges": [{**edge, **route} for edge, route in zip(_EDGES, _ROUTES, strict=True)],
            "node_positions": _PLACES,
            "layout_algorithm": "layered",
            "visualization_settings": {
                "direction": "TB",
                "node_width": 180,
                "node_height": 60,
                "width": 480.0,
                "height": 480.0,
            },
            "mermaid": 'flowchart TD\n  n0(["START"])\n  n1["think"]\n  n0 --> n1\n',
            "session_id": "react-251022-174800-1f73e8",
            "run_id": "run_1f73e8c09ab45d1e22f0",
            "run_status": "completed",
            "current_node": "think",
            "node_states": {"START": "completed", "think": "completed", "act": "completed", "END": "completed"},
        }
    )

    workflow_id: str
    content_hash: str
    nodes: list[DrawnNode]
    edges: list[DrawnEdge]
    node_positions: dict[str, Point]
    layout_algorithm: str
    visualization_settings: DrawingSettings
    mermaid: str
    session_id: str | None = None
    run_id: str | None = None
    run_status: str | None = None
    current_node: str | None = None
    node_states: dict[str, str] | None = None
