"""The shapes of requests and answers about configuration."""

from typing import Any, Final, Literal

from pydantic import ConfigDict, Field

from modular_agent.api.problem import ProblemPlace
from modular_agent.kit.late_model import LateModel

__all__ = [
    "AgentList",
    "ConfigAnswer",
    "ModelList",
    "PutValue",
    "ReloadAnswer",
    "ValueAnswer",
]

JsonObject = dict[str, Any]

_VALUE: Final[JsonObject] = {
    "key": "max_parallel_runs",
    "value": 32,
    "source": "stored",
    "config_type": "system",
    "changeable": True,
    "variable": "MAX_PARALLEL_RUNS",
    "description": "Runs at the same time.",
    "updated_at": "2025-10-22T17:48:00.000000Z",
    "updated_by": "address:127.0.0.1",
}
_MODEL: Final[JsonObject] = {
    "name": "gpt-small",
    "config_path": "llms/gpt-small.yaml",
    "description": "Quick and cheap.",
    "provider": "openai",
    "model": "gpt-4.1-mini",
    "api_key_env": "OPENAI_API_KEY",
    "temperature": 0.2,
    "max_tokens": None,
    "timeout": 60.0,
    "fallback": ["offline"],
    "price": {"input": 0.4, "output": 1.6, "cached": 0.1, "cache_write": None},
}
_AGENT: Final[JsonObject] = {
    "name": "assistant",
    "config_path": "agents/assistant.yaml",
    "workflow_id": "agent-assistant",
    "description": "Answers with the help of tools.",
    "version": "1.0",
    "model": "gpt-small",
    "tools": ["calculator", "current_time"],
    "limits": {"max_iterations": 10},
}


def _example(example: JsonObject) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [example]})


class ValueAnswer(LateModel):
    """A value and where it comes from."""

    model_config = _example(_VALUE)

    key: str
    value: Any = Field(description="Any JSON; `***` for a secret.")
    source: Literal["stored", "environment", ".env", "command line", "global.yaml", "default"]
    config_type: Literal["system", "user"]
    changeable: bool = Field(description="Whether it may be stored while the server runs.")
    variable: str | None = Field(description="The environment variable of the same value.")
    description: str
    updated_at: str | None
    updated_by: str | None


class BrokenConfig(LateModel):
    """A file that cannot be used; its last good content counts."""

    config_path: str
    code: str
    detail: str
    errors: list[ProblemPlace]


class ConfigAnswer(LateModel):
    """Every value that counts, by key."""

    model_config = _example({"values": [_VALUE], "broken": []})

    values: list[ValueAnswer]
    broken: list[BrokenConfig]


class PutValue(LateModel):
    """The value to store."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"value": 32}]})

    value: Any = Field(description="JSON of the kind that the key takes.")


class PriceAnswer(LateModel):
    """US dollars per million tokens."""

    input: float
    output: float
    cached: float | None
    cache_write: float | None


class ModelAnswer(LateModel):
    """A configured model."""

    name: str
    config_path: str
    description: str
    provider: str
    model: str | None
    api_key_env: str | None
    temperature: float | None
    max_tokens: int | None
    timeout: float
    fallback: list[str]
    price: PriceAnswer | None


class ModelList(LateModel):
    """The models of `llms/`."""

    model_config = _example({"models": [_MODEL]})

    models: list[ModelAnswer]


class AgentAnswer(LateModel):
    """An agent."""

    name: str
    config_path: str
    workflow_id: str = Field(description="The workflow of sessions that are made with this agent as `agent_type`.")
    description: str
    version: str
    model: str
    tools: list[str]
    limits: JsonObject


class AgentList(LateModel):
    """The agents of `agents/`."""

    model_config = _example({"agents": [_AGENT]})

    agents: list[AgentAnswer]


class ReloadAnswer(LateModel):
    """What there is after the files were read again."""

    model_config = _example({"models": ["gpt-small"], "agents": ["assistant"], "workflows_broken": 0, "broken": []})

    models: list[str]
    agents: list[str]
    workflows_broken: int = Field(description="Workflow files that cannot be used; `GET /workflows/` lists them.")
    broken: list[BrokenConfig]
