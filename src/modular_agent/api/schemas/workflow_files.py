"""The shapes of requests and answers about workflow files."""

from typing import Any, Final

from pydantic import ConfigDict, Field

from modular_agent.kit.late_model import LateModel

__all__ = ["WORKFLOW_JSON", "WORKFLOW_YAML", "SourceAnswer"]

WORKFLOW_YAML: Final = """\
schema: modular-agent/v1
name: pause
description: Rests for a moment.
nodes:
  rest: {type: wait, duration: 10ms}
edges:
  - {from: START, to: rest}
  - {from: rest, to: END}
"""
WORKFLOW_JSON: Final[dict[str, Any]] = {
    "schema": "modular-agent/v1",
    "name": "pause",
    "description": "Rests for a moment.",
    "nodes": {"rest": {"type": "wait", "duration": "10ms"}},
    "edges": [{"from": "START", "to": "rest"}, {"from": "rest", "to": "END"}],
}


class SourceAnswer(LateModel):
    """A workflow's file."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "workflow_id": "pause",
                    "config_path": "workflows/pause.yaml",
                    "content": WORKFLOW_YAML,
                    "etag": "9f2c4b1e0d7a53f6c8e1b2a4d5f60718293a4b5c6d7e8f901a2b3c4d5e6f7081",
                }
            ]
        }
    )

    workflow_id: str
    config_path: str
    content: str
    etag: str = Field(description="What `If-Match` of an update has to name.")
