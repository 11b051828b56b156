"""The seam between the engine and whoever serves a language model.

Messages are plain dicts in the OpenAI chat-completions shape (`{role, content, tool_calls?, tool_call_id?, name?}`),
which is also how the session's state keeps them: `tool_calls` are `{id, type: "function", function: {name, arguments}}`
with `arguments` a JSON text. A message in the state also has `id`, the `record_id` of its record; a provider leaves
that key (and any other it does not know) out of what it sends.

Two keys are a provider's own memory and must survive in the state as they came: `reasoning` is what the model thought,
and `extra_content`, named by provider, is what that provider wants back with the conversation (Gemini refuses a tool
call without its thought signature, Anthropic one without its thinking block). No provider sends another's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from enum import StrEnum
from typing import Any, Literal, NotRequired, Protocol, TypeAlias, TypedDict

from modular_agent.kit.dataclass import dataclass

__all__ = [
    "ChatModel",
    "ChatRequest",
    "Completion",
    "DeltaSink",
    "FinishReason",
    "FunctionCall",
    "Message",
    "ToolCall",
    "ToolSchema",
    "Usage",
]


class FunctionCall(TypedDict):
    """What a model wants called. `arguments` is JSON text as the model wrote it, possibly invalid."""

    name: str
    arguments: str


class ToolCall(TypedDict):
    """One call a model asks for; `id` is unique within the session."""

    id: str
    type: Literal["function"]
    function: FunctionCall
    extra_content: NotRequired[dict[str, Any]]  # opaque: whatever JSON the provider named by the key asks to get back


class Message(TypedDict):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]] | None  # text, or OpenAI content parts (text, image_url, ...)
    tool_calls: NotRequired[list[ToolCall]]
    tool_call_id: NotRequired[str]
    name: NotRequired[str]
    id: NotRequired[str]
    reasoning: NotRequired[str]
    extra_content: NotRequired[dict[str, Any]]  # opaque, as in a tool call


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSchema:
    """A tool as a model is told of it. `parameters` is a JSON Schema of type object."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """One call of a model.

    `parameters` are the provider-neutral ones (`temperature`, `max_tokens`, `top_p`, `stop`, `seed`, `tool_choice`,
    `parallel_tool_calls`, `response_schema`) plus any of the provider's own. `timeout` is in seconds, for the whole
    call. Nobody changes `tools`: what is made of them is remembered.
    """

    messages: Sequence[Message]
    tools: Sequence[ToolSchema] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    timeout: float = 60.0


class FinishReason(StrEnum):
    """Why a model stopped, in one vocabulary for all providers."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one call, normalised: `prompt_tokens` and `completion_tokens` are inclusive totals.

    `cached_tokens` (read) and `cache_write_tokens` are parts of the prompt, `reasoning_tokens` of the completion.
    `source` is `provider` when the provider reported it and `estimated` when it did not. `cost_usd` is a cost that the
    provider itself reported, as decimal text. Raises `ValueError` when a part exceeds its total.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    source: Literal["provider", "estimated"] = "provider"
    cost_usd: str | None = None

    def __post_init__(self) -> None:
        cached, written, reasoning = self.cached_tokens, self.cache_write_tokens, self.reasoning_tokens
        if cached < 0 or written < 0 or reasoning < 0 or self.prompt_tokens < 0 or self.completion_tokens < 0:
            raise ValueError("a token count is negative")
        if cached + written > self.prompt_tokens:
            raise ValueError("more cached tokens than prompt tokens")
        if reasoning > self.completion_tokens:
            raise ValueError("more reasoning tokens than completion tokens")

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What a call returned. `message` is the assistant's; `model` is the one the provider says it used.

    `served_by` is the URL that answered when it is not the provider's own (another service that speaks its protocol, a
    model on one's own machine), else empty: prices depend on it.
    """

    message: Message
    finish_reason: FinishReason
    usage: Usage
    model: str
    served_by: str = ""


DeltaSink: TypeAlias = Callable[[str, str], None]
"""Called synchronously with (channel, text) for every piece as it arrives; channel is `content` or `reasoning`.

It must not raise: what it raises may be taken for a broken answer.
"""


class ChatModel(Protocol):
    """One language model at one provider. Safe to use from many tasks at once.

    `provider` and `model` are names for the log. Calls stream from the provider and always return the whole.
    """

    @property
    def provider(self) -> str: ...

    @property
    def model(self) -> str: ...

    async def complete(self, request: ChatRequest, on_delta: DeltaSink) -> Completion:
        """One call. Raises `ProviderError` (see `errors.py`); cancellation closes the connection before it returns."""
        ...
