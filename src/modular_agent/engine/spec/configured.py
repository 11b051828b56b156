"""What stands below the configs root beside workflows, as data: named models, agents, and `global.yaml`.

`llms/NAME.yaml` is the model NAME, `agents/NAME.yaml` the agent NAME. The JSON Schemas under `schemas/` are generated
from these models, as that of workflows is.
"""

import re
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import BeforeValidator, ConfigDict, Field

from modular_agent.engine.spec.model import (
    Identifier,
    JsonObject,
    LimitsSpec,
    ModelSpec,
    SharedLimitsSpec,
    ToolSpec,
)
from modular_agent.kit.late_model import LateModel

__all__ = [
    "AGENTS",
    "GLOBAL_FILE",
    "LLMS",
    "AgentFile",
    "GlobalFile",
    "LlmFile",
    "PriceSpec",
    "agent_of",
    "agent_path",
    "agent_workflow_name",
    "is_configured_name",
    "llm_path",
]

LLMS: Final = "llms"
AGENTS: Final = "agents"
GLOBAL_FILE: Final = "global.yaml"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_AGENT: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,57}")  # it becomes the name of a workflow


def is_configured_name(name: str) -> bool:
    """Whether a model file can have this name."""
    return _NAME.fullmatch(name) is not None and ".." not in name


def llm_path(name: str) -> str:
    """The file of a configured model."""
    return f"{LLMS}/{name}.yaml"


def agent_path(name: str) -> str | None:
    """The file of an agent; None for what cannot be an agent's name."""
    return f"{AGENTS}/{name}.yaml" if _AGENT.fullmatch(name) else None


def agent_of(path: str) -> str | None:
    """The agent whose file has that path; None for every other file."""
    name = path.removeprefix(f"{AGENTS}/").removesuffix(".yaml")
    return name if agent_path(name) == path else None


def agent_workflow_name(name: str) -> str:
    """The name of the workflow of one agent alone."""
    return f"agent-{name}"


class _Strict(LateModel):
    """Unknown keys are errors; instances do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class PriceSpec(_Strict):
    """US dollars per million tokens."""

    input: float = Field(ge=0, description="Per million tokens of the request.")
    output: float = Field(ge=0, description="Per million tokens of the answer.")
    cached: float | None = Field(default=None, ge=0, description="Read from the provider's cache; default: input.")
    cache_write: float | None = Field(default=None, ge=0, description="Written to it; default: input.")


class LlmFile(ModelSpec):
    """A model that workflows, agents and sessions use by the name of its file."""

    schema_: Literal["modular-agent/llm/v1"] = Field(alias="schema")
    description: str = ""
    fallback: tuple[str, ...] = Field(default=(), description="Configured models to try next, in order.")
    price: PriceSpec | None = Field(default=None, description="Counts before every known price of this model.")


class AgentFile(_Strict):
    """An agent: a model with its prompt, tools and limits, for sessions of its own and for nodes of workflows."""

    schema_: Literal["modular-agent/agent/v1"] = Field(alias="schema")
    description: str = ""
    version: str = "1.0"
    model: str = Field(description="A configured model: the name of a file in llms/.")
    prompt: str | None = Field(default=None, description="System prompt (Jinja2): a file or text.")
    tools: dict[Identifier, ToolSpec] = Field(default_factory=dict)
    limits: LimitsSpec = LimitsSpec()
    temperature: float | None = Field(default=None, ge=0, le=2)
    max_tokens: int | None = Field(default=None, ge=1)
    parameters: JsonObject = Field(default_factory=dict, description="Anything else the provider takes.")


Level: TypeAlias = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
    BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value, json_schema_input_type=str),
]


class GlobalFile(_Strict):
    """Values for the whole installation. What is left out comes from the environment, or is the default."""

    schema_: Literal["modular-agent/global/v1"] = Field(alias="schema")
    default_limits: LimitsSpec | None = Field(
        default=None, description="Limits of runs whose workflow, session and request set none."
    )
    workflow_limits: dict[str, SharedLimitsSpec] | None = Field(
        default=None,
        description="Limits of all sessions of a workflow together, by its name; they win over those of its file.",
    )
    installation_limits: SharedLimitsSpec | None = Field(
        default=None, description="Limits of all runs of this installation together."
    )
    unpriced_usd_per_mtok: float | None = Field(
        default=None,
        ge=0,
        le=1_000_000,
        description="At how many US dollars per million tokens limits of money count a model without a known price.",
    )
    max_parallel_runs: int | None = Field(default=None, ge=1, le=10_000, description="Runs at the same time.")
    max_queued_runs: int | None = Field(default=None, ge=0, le=1_000_000, description="Runs that wait for a place.")
    keep_checkpoints: int | None = Field(
        default=None, ge=1, le=100_000, description="Newest checkpoints kept of a session whose run has ended."
    )
    rate_limit_per_minute: int | None = Field(
        default=None, ge=0, le=10_000_000, description="Requests per minute from one address; 0 sets no limit."
    )
    rate_limit_burst: int | None = Field(
        default=None, ge=1, le=10_000_000, description="How many of those may come at once."
    )
    log_level: Level | None = Field(default=None, description="DEBUG, INFO, WARNING, ERROR or CRITICAL.")
