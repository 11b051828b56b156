"""Any LangChain chat model as a model of ours: the long tail of providers.

`langchain` is an optional part of the installation and is imported when a workflow names such a model. The model's own
retries are the provider package's; ours come on top.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import orjson

from modular_agent.engine.providers.errors import MissingExtra, ProviderError, ProviderErrorKind
from modular_agent.engine.providers.messages import fresh_call_id, used_call_ids
from modular_agent.engine.providers.port import (
    ChatRequest,
    Completion,
    DeltaSink,
    FinishReason,
    Message,
    ToolCall,
    Usage,
)
from modular_agent.engine.providers.refusals import reason_of_status
from modular_agent.engine.providers.tokens import estimated_usage

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessageChunk, BaseMessage

__all__ = ["ChatModelLoader", "LangChainModel", "load_chat_model"]

_REASONS: Final[dict[str, FinishReason]] = {
    "stop": FinishReason.STOP,
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "complete": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "tool_use": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
    "safety": FinishReason.CONTENT_FILTER,
    "refusal": FinishReason.CONTENT_FILTER,
}
# The packages whose models take OpenAI's `response_format` as an option of a call.
_WITH_RESPONSE_FORMAT: Final = frozenset(
    {"azure_openai", "deepseek", "fireworks", "groq", "mistralai", "openai", "perplexity", "together", "xai"}
)
_CALL_PARAMETERS: Final = frozenset({"tool_choice", "parallel_tool_calls", "response_schema"})


class ChatModelLoader(Protocol):
    """Makes a LangChain chat model of a name such as `mistralai:mistral-large-latest`."""

    def __call__(self, name: str, **parameters: Any) -> "BaseChatModel":  # the provider package's own parameters
        ...


def load_chat_model(name: str, **parameters: Any) -> "BaseChatModel":  # the provider package's own parameters
    """LangChain's `init_chat_model`. Raises `MissingExtra` when LangChain or the provider's package is missing."""
    provider = name.partition(":")[0]
    try:
        from langchain.chat_models import init_chat_model  # pyright: ignore[reportMissingImports, reportUnknownVariableType]
    except ImportError as error:
        raise MissingExtra(provider=f"langchain:{provider}", extra="langchain", hint="") from error
    try:
        return cast("BaseChatModel", init_chat_model(name, **parameters))
    except ImportError as error:
        hint = f" and LangChain's package for {provider}"
        raise MissingExtra(provider=f"langchain:{provider}", extra="langchain", hint=hint) from error


class LangChainModel:
    """A LangChain chat model behind our port.

    `secrets` are kept out of every error text; `served_by` as in `Completion`.
    """

    def __init__(
        self,
        chat_model: "BaseChatModel",
        *,
        provider: str,
        model: str,
        secrets: Sequence[str] = (),
        served_by: str = "",
    ) -> None:
        self._chat_model = chat_model
        self._provider = provider
        self._model = model
        self._secrets = tuple(secrets)
        self._served_by = served_by
        self._takes_response_format = provider.rpartition(":")[2] in _WITH_RESPONSE_FORMAT

    @property
    def provider(self) -> str:
        return self._provider

    @property
    def model(self) -> str:
        return self._model

    async def complete(self, request: ChatRequest, on_delta: DeltaSink) -> Completion:
        """One call; see `ChatModel.complete`."""
        try:
            async with asyncio.timeout(request.timeout):
                whole = await self._stream(request, on_delta)
        except TimeoutError as error:
            detail = f"no complete answer within {request.timeout:g} s"
            raise self._error(ProviderErrorKind.TIMEOUT, detail) from error
        except ProviderError:
            raise
        except Exception as error:  # every provider package raises its own classes
            raise self._translated(error) from error
        if whole is None:
            raise self._error(ProviderErrorKind.BAD_RESPONSE, "an empty answer")
        return self._completion(request, whole)

    async def _stream(self, request: ChatRequest, on_delta: DeltaSink) -> "AIMessageChunk | None":
        from langchain_core.messages import AIMessageChunk

        runnable, options = self._bound(request)
        whole: AIMessageChunk | None = None
        async for chunk in runnable.astream(self._messages(request), **options):
            piece = chunk if isinstance(chunk, AIMessageChunk) else AIMessageChunk(**chunk.model_dump(exclude={"type"}))
            for text, channel in ((_reasoning(piece), "reasoning"), (str(piece.text), "content")):
                if text:
                    on_delta(channel, text)
            whole = piece if whole is None else whole + piece
        return whole

    def _bound(self, request: ChatRequest) -> tuple[Any, dict[str, Any]]:  # a runnable over messages, and its options
        parameters = request.parameters
        options = {key: value for key, value in parameters.items() if value is not None and key not in _CALL_PARAMETERS}
        runnable: Any = self._chat_model
        if request.tools:
            tools = [
                {
                    "type": "function",
                    "function": {
                        "name": tool.name,
                        "description": tool.description,
                        "parameters": dict(tool.parameters),
                    },
                }
                for tool in request.tools
            ]
            wanted = ("tool_choice", "parallel_tool_calls")
            extra = {key: parameters[key] for key in wanted if parameters.get(key) is not None}
            runnable = self._chat_model.bind_tools(tools, **extra)
        schema = parameters.get("response_schema")
        if schema and self._takes_response_format:
            options["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
        return runnable, options

    def _messages(self, request: ChatRequest) -> "list[BaseMessage]":
        """The conversation; for a package without structured output, with the schema as an instruction."""
        from langchain_core.messages import SystemMessage

        messages = _to_langchain(request.messages)
        schema = request.parameters.get("response_schema")
        if schema and not self._takes_response_format:
            told = orjson.dumps(schema).decode()
            text = f"Answer with JSON only, without a code fence, that fits this JSON Schema:\n{told}"
            if messages and isinstance(messages[0], SystemMessage):  # several packages take one system message only
                messages[0] = SystemMessage(content=f"{messages[0].text}\n\n{text}")
            else:
                messages.insert(0, SystemMessage(content=text))
        return messages

    def _completion(self, request: ChatRequest, whole: "AIMessageChunk") -> Completion:
        text, reasoning = str(whole.text), _reasoning(whole)
        message: Message = {"role": "assistant", "content": text}
        if reasoning:
            message["reasoning"] = reasoning
        calls = _calls(whole, request)
        if calls:
            message["tool_calls"] = calls
            message["content"] = text or None
        if not isinstance(whole.content, str) and any(_is_opaque(block) for block in whole.content):
            message["extra_content"] = {"langchain": {"content": whole.content}}
        metadata = whole.response_metadata
        raw_reason = str(metadata.get("finish_reason") or metadata.get("stop_reason") or "stop").lower()
        reason = _REASONS.get(raw_reason, FinishReason.OTHER)
        if calls and reason in (FinishReason.STOP, FinishReason.OTHER):
            reason = FinishReason.TOOL_CALLS
        return Completion(
            message=message,
            finish_reason=reason,
            usage=_usage(whole) or estimated_usage(request, message),
            model=str(metadata.get("model_name") or metadata.get("model") or self._model),
            served_by=self._served_by,
        )

    def _error(self, reason: ProviderErrorKind, detail: str, *, status: int | None = None) -> ProviderError:
        return ProviderError(
            reason,
            provider=self._provider,
            model=self._model,
            detail=detail,
            status=status,
            secrets=self._secrets,
        )

    def _translated(self, error: Exception) -> ProviderError:
        """What a provider package's own exception means, by its HTTP status, else by its name."""
        status = (
            getattr(error, "status_code", None) or getattr(error, "http_status", None) or getattr(error, "code", None)
        )
        detail = str(error) or type(error).__name__
        if isinstance(status, int) and 400 <= status < 600:
            return self._error(reason_of_status(status), detail, status=status)
        name = type(error).__name__.lower()
        if "timeout" in name:
            return self._error(ProviderErrorKind.TIMEOUT, detail)
        if "connect" in name or isinstance(error, OSError):
            return self._error(ProviderErrorKind.CONNECTION, detail)
        if "contextoverflow" in name:
            return self._error(ProviderErrorKind.CONTEXT_LENGTH, detail)
        return self._error(ProviderErrorKind.BAD_REQUEST, f"{type(error).__name__}: {detail}")


def _to_langchain(messages: Sequence[Message]) -> "list[BaseMessage]":
    from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

    converted: list[BaseMessage] = []
    for message in messages:
        content: Any = message["content"] or ""  # text or content parts, as LangChain takes them too
        role = message["role"]
        if role == "system":
            converted.append(SystemMessage(content=content))
        elif role == "user":
            converted.append(HumanMessage(content=content))
        elif role == "tool":
            call_id, name = message.get("tool_call_id", ""), message.get("name")
            converted.append(ToolMessage(content=content, tool_call_id=call_id, name=name))
        else:
            calls, broken = _split_calls(message.get("tool_calls") or ())
            own = message.get("extra_content", {}).get("langchain")
            if isinstance(own, dict):
                content = cast("dict[str, Any]", own).get("content", content)
            converted.append(AIMessage(content=content, tool_calls=calls, invalid_tool_calls=broken))
    return converted


def _split_calls(calls: Sequence[ToolCall]) -> tuple[list[Any], list[Any]]:  # LangChain's own typed dicts
    good: list[Any] = []
    broken: list[Any] = []
    for call in calls:
        name, text = call["function"]["name"], call["function"]["arguments"]
        try:
            arguments = orjson.loads(text or "{}")
        except orjson.JSONDecodeError:
            arguments = None
        if isinstance(arguments, dict):
            good.append({"name": name, "args": arguments, "id": call["id"], "type": "tool_call"})
        else:
            broken.append({"name": name, "args": text, "id": call["id"], "error": None, "type": "invalid_tool_call"})
    return good, broken


def _calls(whole: "AIMessageChunk", request: ChatRequest) -> list[ToolCall]:
    """The calls with their arguments as the model wrote them: LangChain's own parsing mends broken JSON in silence."""
    if whole.tool_call_chunks:
        written = [(piece["id"], piece["name"], piece["args"] or "{}") for piece in whole.tool_call_chunks]
    else:
        written = [(call["id"], call["name"], orjson.dumps(call["args"]).decode()) for call in whole.tool_calls]
        written += [(broken["id"], broken["name"] or "", broken["args"] or "") for broken in whole.invalid_tool_calls]
    used = used_call_ids(request.messages)
    return [
        {
            "id": fresh_call_id(call_id or "", used),
            "type": "function",
            "function": {"name": name or "", "arguments": arguments},
        }
        for call_id, name, arguments in written
    ]


def _reasoning(chunk: "AIMessageChunk") -> str:
    extra = chunk.additional_kwargs.get("reasoning_content")
    if isinstance(extra, str):
        return extra
    if isinstance(chunk.content, str):
        return ""
    blocks = [block for block in chunk.content if isinstance(block, dict)]
    return "".join(str(block.get("thinking") or block.get("reasoning") or "") for block in blocks)


def _is_opaque(block: Any) -> bool:  # a content block of LangChain: text or a mapping
    """Whether a content block holds what the provider wants back, such as a signed thought."""
    return isinstance(block, Mapping) and cast("Mapping[str, Any]", block).get("type") not in (
        "text",
        "tool_use",
        "tool_call",
        "tool_call_chunk",
        "input_json_delta",
    )


def _usage(whole: "AIMessageChunk") -> Usage | None:
    """LangChain's `usage_metadata`, whose totals are inclusive like ours; None if there is none."""
    metadata = whole.usage_metadata
    if metadata is None:
        return None
    prompt, completion = metadata["input_tokens"], metadata["output_tokens"]
    inputs, outputs = metadata.get("input_token_details", {}), metadata.get("output_token_details", {})
    cached = min(inputs.get("cache_read") or 0, prompt)
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_tokens=cached,
        cache_write_tokens=min(inputs.get("cache_creation") or 0, prompt - cached),
        reasoning_tokens=min(outputs.get("reasoning") or 0, completion),
    )
