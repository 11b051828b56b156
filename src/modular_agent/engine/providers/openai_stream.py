"""Reading an answer of OpenAI's chat completions: chunks of a stream, or one whole object."""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final, cast

import orjson

from modular_agent.engine.providers.endpoint import Endpoint
from modular_agent.engine.providers.errors import ProviderErrorKind
from modular_agent.engine.providers.port import ChatRequest, Completion, DeltaSink, FinishReason, Message, Usage
from modular_agent.engine.providers.refusals import error_object, understand
from modular_agent.engine.providers.tokens import estimated_usage
from modular_agent.engine.providers.tool_calls import ToolCallAssembler

__all__ = ["OpenAIAnswer", "read_usage"]

_REASONS: Final[dict[str, FinishReason]] = {
    "stop": FinishReason.STOP,
    "eos": FinishReason.STOP,
    "end_turn": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
    "safety": FinishReason.CONTENT_FILTER,
}
_BROKEN_OFF: Final = frozenset({"insufficient_system_resource", "error", "abort"})  # DeepSeek, OpenRouter, SGLang
_THOUGHT_TAGS: Final = ("<thought>", "</thought>")


class OpenAIAnswer:
    """Assembles one answer; an `endpoint.Answer`. `thoughts_apart` as in `Dialect`."""

    __slots__ = (
        "_calls",
        "_content",
        "_done",
        "_endpoint",
        "_finish",
        "_model",
        "_named",
        "_on_delta",
        "_reasoning",
        "_request",
        "_served_by",
        "_thoughts_apart",
        "_usage",
    )

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        request: ChatRequest,
        on_delta: DeltaSink,
        model: str,
        served_by: str,
        thoughts_apart: bool,
    ) -> None:
        self._endpoint = endpoint
        self._request = request
        self._on_delta = on_delta
        self._model = model
        self._served_by = served_by
        self._thoughts_apart = thoughts_apart
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._calls = ToolCallAssembler()
        self._finish: str | None = None
        self._usage: Mapping[str, Any] | None = None
        self._done = False
        self._named = False

    def event(self, data: bytes) -> bool:
        """Takes one chunk; true at `[DONE]`."""
        if data.startswith(b"{"):
            try:
                chunk = orjson.loads(data)
            except orjson.JSONDecodeError:
                chunk = self._endpoint.parse(data)  # says what is wrong
            self._chunk(chunk, "delta")
        elif data.strip() == b"[DONE]":
            self._done = True
            return True
        elif data:
            self._checked(self._endpoint.parse(data), "delta")
        return False

    def document(self, document: Any) -> None:  # any JSON value
        """Takes a whole answer, from a server that does not stream."""
        self._checked(document, "message")
        if isinstance(document, dict) and not cast("dict[str, Any]", document).get("choices"):
            raise self._endpoint.error(ProviderErrorKind.BAD_RESPONSE, "an answer without choices", retryable=False)
        self._done = True

    def completion(self) -> Completion:
        """The whole. Raises `ProviderError` (bad_response, retryable) if the answer broke off."""
        if self._finish is None and not self._done:
            raise self._endpoint.error(ProviderErrorKind.BAD_RESPONSE, "the stream ended in the middle of the answer")
        if self._finish is None and not (self._content or self._calls or self._reasoning):
            raise self._endpoint.error(ProviderErrorKind.BAD_RESPONSE, "an empty answer")
        if self._finish in _BROKEN_OFF:
            raise self._endpoint.error(ProviderErrorKind.OVERLOADED, f"the provider broke off: {self._finish}")
        content = "".join(self._content)
        message: Message = {"role": "assistant", "content": content}
        if self._reasoning:
            message["reasoning"] = "".join(self._reasoning)
        if self._calls:
            message["tool_calls"] = self._calls.finish(self._request.messages)
            message["content"] = content or None
        return Completion(
            message=message,
            finish_reason=self._finish_reason(),
            usage=self._read_usage(message),
            model=self._model,
            served_by=self._served_by,
        )

    def _checked(self, chunk: Any, part: str) -> None:  # any JSON value
        if not isinstance(chunk, dict):
            raise self._endpoint.error(ProviderErrorKind.BAD_RESPONSE, "an answer that is not a JSON object")
        self._chunk(cast("dict[str, Any]", chunk), part)

    def _chunk(self, chunk: dict[str, Any], part: str) -> None:
        choices: Any = chunk.get("choices")
        if not choices:
            self._check_error(chunk)
        elif isinstance(choices, list):
            choice: Any = chunk["choices"][0]
            if isinstance(choice, dict):
                self._choice(choice, part)
        if usage := chunk.get("usage"):
            self._usage = usage
        if not self._named and isinstance(model := chunk.get("model"), str) and model:
            self._named = True
            self._model = model.removeprefix("models/")  # Google's long form

    def _choice(self, choice: Any, part: str) -> None:  # a JSON object
        if choice.get("index"):
            return
        delta: dict[str, Any] | None = choice.get(part)
        if delta:
            text = delta.get("content") or delta.get("refusal")
            if text:
                self._text(text, delta)
            thought = delta.get("reasoning_content") or delta.get("reasoning")
            if thought and isinstance(thought, str):
                self._reasoning.append(thought)
                self._on_delta("reasoning", thought)
            calls = delta.get("tool_calls")
            if calls:
                self._calls.add(calls)
        finish = choice.get("finish_reason")
        if finish:
            self._finish = str(finish).lower()
        if choice.get("error"):
            self._check_error(choice)

    def _text(self, text: Any, delta: Mapping[str, Any]) -> None:  # text, or (a few servers) content parts
        if not isinstance(text, str):
            parts = [cast("dict[str, Any]", part) for part in cast("list[Any]", text) if isinstance(part, dict)]
            text = "".join(str(part.get("text") or "") for part in parts)
        if "extra_content" in delta and _is_thought(delta["extra_content"]):
            for tag in _THOUGHT_TAGS:
                text = text.replace(tag, "")
            self._reasoning.append(text)
            self._on_delta("reasoning", text)
            return
        self._content.append(text)
        self._on_delta("content", text)

    def _check_error(self, holder: Mapping[str, Any]) -> None:
        error = error_object(dict(holder))
        if error is not None:
            raise self._endpoint.refused(understand(error, fallback=ProviderErrorKind.BAD_RESPONSE))

    def _finish_reason(self) -> FinishReason:
        reason = _REASONS.get(self._finish or "stop", FinishReason.OTHER)
        # Gemini and others say "stop" for an answer that calls tools.
        if self._calls and reason in (FinishReason.STOP, FinishReason.OTHER):
            return FinishReason.TOOL_CALLS
        if not self._calls and reason is FinishReason.TOOL_CALLS:
            return FinishReason.STOP
        return reason

    def _read_usage(self, message: Message) -> Usage:
        usage = read_usage(self._usage, thoughts_apart=self._thoughts_apart) if self._usage else None
        return usage or estimated_usage(self._request, message)


def _is_thought(extra: Any) -> bool:  # Gemini's `extra_content`: {"google": {"thought": true}}
    if not isinstance(extra, dict):
        return False
    google = cast("dict[str, Any]", extra).get("google")
    return isinstance(google, dict) and bool(cast("dict[str, Any]", google).get("thought"))


def read_usage(usage: Mapping[str, Any], *, thoughts_apart: bool) -> Usage | None:
    """OpenAI's `usage` object, normalised; None if it has no prompt tokens. A part never exceeds its total.

    `thoughts_apart` is for providers whose `completion_tokens` leave out the reasoning that `total_tokens` holds;
    whoever reports numbers that add up only that way (xAI does) is read so too.
    """
    prompt, completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    if not isinstance(usage.get("prompt_tokens"), int):
        return None
    prompt_details = cast("Mapping[str, Any]", usage.get("prompt_tokens_details") or {})
    completion_details = cast("Mapping[str, Any]", usage.get("completion_tokens_details") or {})
    cached = _count(prompt_details, "cached_tokens") or _count(usage, "prompt_cache_hit_tokens")
    written = _count(prompt_details, "cache_write_tokens")
    reasoning = _count(completion_details, "reasoning_tokens")
    apart = _count(usage, "total_tokens") - prompt - completion
    if apart > 0 and (thoughts_apart or apart == reasoning):
        completion += apart
        reasoning = max(reasoning, apart)
    cached = min(cached, prompt)
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_tokens=cached,
        cache_write_tokens=min(written, prompt - cached),
        reasoning_tokens=min(reasoning, completion),
        cost_usd=_cost(usage.get("cost")),
    )


def _count(holder: Mapping[str, Any], key: str) -> int:
    value = holder.get(key)
    return value if isinstance(value, int) and value > 0 else 0


def _cost(value: object) -> str | None:
    """A cost in US dollars as some gateways report it, as decimal text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        cost = Decimal(str(value))
    except InvalidOperation:
        return None
    return format(cost, "f") if cost.is_finite() and cost >= 0 else None
