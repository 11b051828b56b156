"""The workflow language `modular-agent/v1` as data: what a file says, typed; defaults filled in, nothing resolved.

The JSON Schema that ships under `schemas/` is generated from these models, so their field descriptions are what an
editor shows while a file is written.
"""

import re
from functools import cached_property
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from modular_agent.kit.late_model import LateModel

__all__ = [
    "AgentNode",
    "AmountsSpec",
    "CacheSpec",
    "EdgeSpec",
    "ExpectSpec",
    "FunctionNode",
    "GraphNode",
    "HumanNode",
    "Identifier",
    "JsonObject",
    "LimitsSpec",
    "LlmNode",
    "MapNode",
    "McpSpec",
    "ModelSpec",
    "NodeSpec",
    "RetrySpec",
    "RouterNode",
    "RuleSpec",
    "SharedLimitsSpec",
    "StateSpec",
    "TestSpec",
    "ToolSpec",
    "ToolsNode",
    "WaitNode",
    "WorkflowNode",
    "WorkflowSpec",
    "parse_duration",
]

END = "END"
START = "START"

_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>ms|s|m|h|d)?")
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, None: 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(value: object) -> object:
    """Seconds from `1.5`, `500ms`, `30s`, `5m`, `2h` or `1d`; raises `PydanticCustomError` for other text."""
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value.strip())
    if match is None:
        raise PydanticCustomError(
            "value_error",
            "a duration is a number of seconds or text such as 500ms, 30s, 5m, 2h, 1d",
            {"zh": "时长是秒数，或 500ms、30s、5m、2h、1d 这样的文本"},
        )
    return float(match["number"]) * _UNIT_SECONDS[match["unit"]]


Duration: TypeAlias = Annotated[
    float,
    BeforeValidator(parse_duration, json_schema_input_type=float | str),
    Field(gt=0, description="Seconds as a number, or text such as 500ms, 30s, 5m, 2h, 1d."),
]
Identifier: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=64)]
Expression: TypeAlias = Annotated[str, Field(min_length=1, description="A CEL expression over the state.")]
Reference: TypeAlias = Annotated[
    str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$", description="Python code, as module:attribute.")
]
JsonObject: TypeAlias = dict[str, Any]  # any JSON: schemas, options and parameters are checked by who uses them


class _Strict(LateModel):
    """Unknown keys are errors; instances do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class RetrySpec(_Strict):
    """How often a failed attempt is repeated."""

    max_attempts: int = Field(default=3, ge=1, le=20, description="Attempts in all, the first included.")
    backoff: Duration = Field(default=1.0, description="Wait before the second attempt; doubles each time.")
    max_backoff: Duration = Field(default=30.0, description="The longest wait between attempts.")


class CacheSpec(_Strict):
    """Reuse of a node's result for equal input."""

    ttl: Duration = Field(default=300.0, description="How long a result may be reused.")


class ModelSpec(_Strict):
    """A language model under a name of this workflow's own."""

    provider: str = Field(description="openai, anthropic, google, scripted, or langchain:<provider>.")
    model: str | None = Field(default=None, description="The provider's name of the model.")
    base_url: str | None = None
    api_key_env: str | None = Field(
        default=None, description="The environment variable that holds the key; left out if none is needed."
    )
    script: str | None = Field(default=None, description="For `scripted`: a script file below the configs root.")
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1)
    timeout: Duration = 60.0
    retry: RetrySpec = RetrySpec()
    fallback: tuple[str, ...] = Field(default=(), description="Models of this file or of llms/ to try next, in order.")
    parameters: JsonObject = Field(default_factory=dict, description="Anything else the provider takes.")


class McpSpec(_Strict):
    """An MCP server: started as a command (stdio), or reached at a URL (streamable HTTP)."""

    command: tuple[str, ...] | None = Field(default=None, min_length=1)
    env: tuple[str, ...] = Field(default=(), description="Names of environment variables the server gets.")
    cwd: str | None = Field(default=None, description="Working folder, below the configs root.")
    url: str | None = None
    headers: dict[str, str] = Field(default_factory=dict, description="Header name to environment variable name.")
    include: tuple[str, ...] | None = Field(default=None, description="Only these of the server's tools.")
    prefix: str = Field(default="", description="Put in front of each tool's name.")


class ToolSpec(_Strict):
    """Something a model may call: exactly one of `use`, `ref` and `mcp`."""

    use: str | None = Field(default=None, description="A built-in tool, such as builtin.calculator.")
    options: JsonObject = Field(default_factory=dict, description="Options of the built-in tool.")
    ref: Reference | None = None
    mcp: McpSpec | None = None
    description: str | None = Field(default=None, description="Replaces the tool's own description.")
    effect: Literal["read", "idempotent", "irreversible"] | None = Field(
        default=None, description="What a call does to the world; decides whether it may run again after a crash."
    )
    approval: Expression | Literal["always", "never"] = Field(
        default="never", description="always, never, or a CEL expression over the call's arguments (`input`)."
    )
    timeout: Duration | None = None


class StateSpec(_Strict):
    """What the workflow keeps besides the messages."""

    schema_: JsonObject = Field(
        default_factory=dict, alias="schema", description="A JSON Schema of type object for the state."
    )
    reducers: dict[Identifier, Literal["messages", "append", "replace", "merge", "add", "max", "min"]] = Field(
        default_factory=dict, description="How the writes of several nodes to one key are joined (default: replace)."
    )


class AmountsSpec(_Strict):
    """Bounds of what is counted together."""

    max_iterations: int | None = Field(default=None, ge=1, description="Model calls.")
    max_tokens: int | None = Field(default=None, ge=1)
    max_cost_usd: float | None = Field(default=None, gt=0)
    max_seconds: Duration | None = Field(default=None, description="Time of execution, without pauses.")
    max_steps: int | None = Field(default=None, ge=1, description="Steps (node executions).")
    on_exceed: Literal["pause", "fail"] = Field(default="pause", description="Ask a person, or fail the run.")


class SharedLimitsSpec(AmountsSpec):
    """Bounds of all runs that are counted together: in all, and on one UTC day."""

    per_day: AmountsSpec | None = Field(default=None, description="Bounds of what is used on one UTC day.")


class LimitsSpec(AmountsSpec):
    """Bounds of one run; of all runs of a session; of all sessions of the workflow."""

    session: SharedLimitsSpec | None = Field(default=None, description="Bounds of all runs of a session together.")
    workflow: SharedLimitsSpec | None = Field(
        default=None, description="Bounds of all sessions of the workflow together."
    )

    @cached_property
    def said(self) -> JsonObject:
        """What the file says of them, as JSON; not to be changed."""
        return self.model_dump(exclude_none=True, exclude_unset=True)


class _Node(_Strict):
    description: str | None = None
    retry: RetrySpec | None = None
    timeout: Duration | None = Field(default=None, description="For one attempt of the node.")
    cache: CacheSpec | None = None
    writes: Identifier | None = Field(
        default=None,
        description="The state key that takes the result (default: `route` for a router, a map's own name).",
    )


class _Prompting(_Node):
    model: str | None = Field(
        default=None,
        description="A model of this file or of llms/; may be left out if this file has one only.",
    )
    prompt: str | None = Field(
        default=None,
        description="System prompt (Jinja2 over the state): a file (.md, .txt, .j2, .prompt) or text.",
    )
    input: str | None = Field(
        default=None, description="A user message to ask instead of the conversation (file or text, Jinja2)."
    )
    temperature: float | None = Field(default=None, ge=0, le=2)
    max_tokens: int | None = Field(default=None, ge=1)
    parameters: JsonObject = Field(default_factory=dict)


class LlmNode(_Prompting):
    """One call of a language model."""

    type: Literal["llm"]
    tools: tuple[str, ...] = Field(default=(), description="Tools the model may ask for.")
    output: JsonObject | None = Field(
        default=None, description="A JSON Schema: the answer is JSON of this shape, and `writes` takes it parsed."
    )


class ToolsNode(_Node):
    """Runs the tool calls of the last assistant message, in parallel."""

    type: Literal["tools"]
    max_parallel: int = Field(default=8, ge=1, le=64)


class AgentNode(_Prompting):
    """A model and its tools in a loop, until it answers without asking for a tool."""

    type: Literal["agent"]
    agent: str | None = Field(
        default=None, description="An agent of agents/; what this node says itself counts before what the agent says."
    )
    tools: tuple[str, ...] = ()
    max_iterations: int = Field(default=10, ge=1, description="Model calls in one visit of this node.")
    max_parallel: int = Field(default=8, ge=1, le=64)


class RuleSpec(_Strict):
    """One rule of a router: the first whose condition is true decides."""

    when: Expression
    choose: str


class RouterNode(_Prompting):
    """Decides for one of several named choices; `writes` (default `route`) takes the name."""

    type: Literal["router"]
    choices: dict[str, str] = Field(default_factory=dict, description="Choice to description, for the model.")
    rules: tuple[RuleSpec, ...] = Field(default=(), description="Conditions tried before the model is asked.")
    default: str | None = Field(default=None, description="The choice if no rule holds, or the model's is unknown.")


class HumanNode(_Node):
    """Waits for a person's answer."""

    type: Literal["human"]
    question: str = Field(description="Text or file, Jinja2 over the state.")
    form: dict[str, JsonObject] = Field(
        default_factory=dict, description="Field name to JSON Schema of the answer's fields; empty: any text."
    )
    required: tuple[str, ...] | None = Field(default=None, description="Fields that must be answered; default: all.")
    answer_within: Duration | None = Field(default=None, description="After this time `default_answer` counts.")
    default_answer: Any = Field(default=None, description="Any JSON that fits the form.")


class FunctionNode(_Node):
    """Calls Python code with the state; it returns a dict of changes, or a value for `writes`."""

    type: Literal["function"]
    ref: Reference
    input: dict[str, Expression] | None = Field(
        default=None, description="Argument name to CEL expression; left out: the function gets the state."
    )


class WorkflowNode(_Node):
    """Runs another workflow file to its end."""

    type: Literal["workflow"]
    workflow: str = Field(description="A workflow file below the configs root.")
    input: dict[str, Expression] | None = Field(
        default=None, description="State key of the sub-workflow to CEL expression; left out: the last message."
    )
    output: dict[Identifier, Expression] | None = Field(
        default=None, description="State key to CEL expression over the sub-workflow's state; left out: its answer."
    )


class GraphNode(_Node):
    """Runs an existing LangGraph graph (compiled, or a builder)."""

    type: Literal["graph"]
    ref: Reference
    input: dict[str, Expression] | None = Field(
        default=None, description="State key of the graph to CEL expression; left out: the messages."
    )
    output: dict[Identifier, Expression] | None = Field(
        default=None, description="State key to CEL expression over the graph's state; left out: its new messages."
    )


class WaitNode(_Node):
    """Waits for a duration or until a time; exactly one of `duration` and `until`."""

    type: Literal["wait"]
    duration: Duration | None = None
    until: str | None = Field(default=None, description="An RFC 3339 time, or a CEL expression that gives one.")


BodyNode: TypeAlias = Annotated[
    LlmNode | AgentNode | RouterNode | FunctionNode | HumanNode | WorkflowNode | GraphNode, Field(discriminator="type")
]


class MapNode(_Node):
    """Runs one node or workflow for each item of a list, then joins the results in order under `writes`."""

    type: Literal["map"]
    over: Expression = Field(description="A CEL expression that gives a list.")
    as_: Identifier = Field(default="item", alias="as", description="The item's name in the body.")
    node: BodyNode | None = Field(default=None, description="The body: a node without a name.")
    workflow: str | None = Field(default=None, description="The body: a workflow file; its input is the item.")
    max_parallel: int = Field(default=8, ge=1, le=64)


NodeSpec: TypeAlias = Annotated[
    LlmNode
    | ToolsNode
    | AgentNode
    | RouterNode
    | HumanNode
    | FunctionNode
    | MapNode
    | WorkflowNode
    | GraphNode
    | WaitNode,
    Field(discriminator="type"),
]


class EdgeSpec(_Strict):
    """A way from one node to the next."""

    from_: str = Field(alias="from", description="A node, or START.")
    to: str = Field(description="A node, or END.")
    when: Expression | None = Field(default=None, description="A CEL condition; without: otherwise.")


class ExpectSpec(_Strict):
    """What a test wants to see."""

    path: tuple[str, ...] | None = Field(default=None, description="The nodes executed, in order.")
    contains: str | tuple[str, ...] | None = Field(default=None, description="Text the answer contains.")
    status: Literal["completed", "failed", "paused", "stopped"] = "completed"
    state: JsonObject | None = Field(default=None, description="State keys and the values they end with.")
    tool_calls: tuple[str, ...] | None = Field(default=None, description="The tools called, in order.")


class TestSpec(_Strict):
    """A run of this workflow with known outcome."""

    __test__ = False  # not for pytest

    name: str | None = None
    input: str | JsonObject
    model: str | None = Field(
        default=None, description="A model of this file or of llms/ that stands in for every other."
    )
    answers: tuple[Any, ...] = Field(default=(), description="Answers to the human questions, in order (any JSON).")
    expect: ExpectSpec = ExpectSpec()


class WorkflowSpec(_Strict):
    """A workflow file."""

    schema_: Literal["modular-agent/v1"] = Field(alias="schema")
    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=64)]
    description: str = ""
    version: str = "1.0"
    models: dict[Identifier, ModelSpec] = Field(default_factory=dict)
    tools: dict[Identifier, ToolSpec] = Field(default_factory=dict)
    state: StateSpec = StateSpec()
    limits: LimitsSpec = LimitsSpec()
    nodes: dict[Identifier, NodeSpec] = Field(min_length=1)
    edges: tuple[EdgeSpec, ...] = Field(min_length=1)
    tests: tuple[TestSpec, ...] = ()
