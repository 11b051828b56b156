"""Reading an answer of Anthropic's Messages API: the events of a stream, or one whole message.

Events: https://docs.anthropic.com/en/docs/build-with-claude/streaming. The counts in `message_delta` are cumulative;
`input_tokens` leaves out what was read from or written to the cache, so the prompt is the sum of the three.
"""

from collections.abc import Mapping
from typing import Any, Final, cast

import orjson

from modular_agent.engine.providers.endpoint import Endpoint
from modular_agent.engine.providers.errors import ProviderErrorKind
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
from modular_agent.engine.providers.refusals import error_object, understand
from modular_agent.engine.providers.tokens import estimated_usage

__all__ = ["ANSWER_TOOL", "AnthropicAnswer"]

ANSWER_TOOL: Final = "give_answer"
"""The tool that models without structured output are made to call; its arguments are the answer's text."""

_REASONS: Final[dict[str, FinishReason]] = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
    "refusal": FinishReason.CONTENT_FILTER,
}
_COUNTS: Final = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


class _Block:
    """One content block as it grows."""

    __slots__ = ("data", "kind", "parts", "signature")

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data  # the block as it began: JSON
        self.kind = str(data.get("type"))
        self.parts: list[str] = []
        self.signature = str(data.get("signature") or "")


class AnthropicAnswer:
    """Assembles one answer; an `endpoint.Answer`. `answer_tool` names the tool whose arguments are the answer."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        request: ChatRequest,
        on_delta: DeltaSink,
        model: str,
        served_by: str,
        answer_tool: str | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._request = request
        self._on_delta = on_delta
        self._model = model
        self._served_by = served_by
        self._answer_tool = answer_tool
        self._blocks: dict[int, _Block] = {}
        self._counts: dict[str, int] = {}
        self._reasoning_tokens = 0
        self._stop: str | None = None
        self._ended = False

    def event(self, data: bytes) -> bool:
        """Takes one event; true at `message_stop`."""
        value = self._endpoint.parse(data)
        if not isinstance(value, dict):
            raise self._endpoint.error(ProviderErrorKind.BAD_RESPONSE, "an event that is not a JSON object")
        event = cast("dict[str, Any]", value)
        kind = event.get("type")
        if kind == "content_block_delta":
            self._delta(event)
        elif kind == "content_block_start":
            self._start(event["index"], event["content_block"])
        elif kind == "message_start":
            message = event["message"]
            self._model = message.get("model") or self._model
            self._count(message.get("usage"))
        elif kind == "message_delta":
            self._stop = event["delta"].get("stop_reason") or self._stop
            self._count(event.get("usage"))
        elif kind == "message_stop":
            self._ended = True
            return True
        elif kind == "error" or "error" in event:
            self._fail(event)
        return False

    def document(self, document: Any) -> None:  # any JSON value
        """Takes a whole answer, from a server that does not stream."""
        message = cast("dict[str, Any]", document)
        content = message.get("content")
        if message.get("type") == "error" or not isinstance(content, list):
            self._fail(message)
        for index, block in enumerate(cast("list[dict[str, Any]]", content)):
            self._start(index, block)
            if block.get("type") == "tool_use":
                self._add(self._blocks[index], orjson.dumps(block.get("input") or {}).decode())
        self._model = message.get("model") or self._model
        self._stop = message.get("stop_reason")
        self._count(message.get("usage"))
        self._ended = True

    def completion(self) -> Completion:
        """The whole. Raises `ProviderError` (bad_response, retryable) if the answer broke off."""
        if not self._ended and self._stop is None:
            raise self._endpoint.error(ProviderErrorKind.BAD_RESPONSE, "the stream ended in the middle of the answer")
        message = self._message()
        return Completion(
            message=message,
            finish_reason=self._finish_reason(message),
            usage=self._usage(message),
            model=self._model,
            served_by=self._served_by,
        )

    def _start(self, index: int, data: dict[str, Any]) -> None:
        block = self._blocks[index] = _Block(data)
        if text := data.get("text") or data.get("thinking"):
            self._add(block, text)

    def _delta(self, event: dict[str, Any]) -> None:
        delta = event["delta"]
        block = self._blocks.get(event["index"])
        if block is None:
            raise self._endpoint.error(ProviderErrorKind.BAD_RESPONSE, "a piece of a block that never began")
        kind = delta["type"]
        if kind == "text_delta":
            self._add(block, delta["text"])
        elif kind == "input_json_delta":
            self._add(block, delta["partial_json"])
        elif kind == "thinking_delta":
            self._add(block, delta["thinking"])
        elif kind == "signature_delta":
            block.signature += delta["signature"]

    def _add(self, block: _Block, text: str) -> None:
        if not text:
            return
        block.parts.append(text)
        if block.kind == "text" or self._is_answer(block):
            self._on_delta("content", text)
        elif block.kind == "thinking":
            self._on_delta("reasoning", text)

    def _is_answer(self, block: _Block) -> bool:
        return (
            block.kind == "tool_use" and self._answer_tool is not None and block.data.get("name") == self._answer_tool
        )

    def _message(self) -> Message:
        content: list[str] = []
        reasoning: list[str] = []
        thinking: list[dict[str, Any]] = []
        calls: list[ToolCall] = []
        used = used_call_ids(self._request.messages)
        for block in self._blocks.values():
            text = "".join(block.parts)
            if block.kind == "text" or self._is_answer(block):
                content.append(text)
            elif block.kind == "thinking":
                reasoning.append(text)
                thinking.append({"type": "thinking", "thinking": text, "signature": block.signature})
            elif block.kind == "redacted_thinking":
                thinking.append(block.data)
            elif block.kind == "tool_use":
                call_id = fresh_call_id(str(block.data.get("id") or ""), used)
                function_name = str(block.data.get("name") or "")
                arguments = text or orjson.dumps(block.data.get("input") or {}).decode()
                calls.append(
                    {"id": call_id, "type": "function", "function": {"name": function_name, "arguments": arguments}}
                )
        message: Message = {"role": "assistant", "content": "".join(content)}
        if reasoning:
            message["reasoning"] = "\n".join(reasoning)
        if thinking:
            message["extra_content"] = {"anthropic": {"thinking": thinking}}
        if calls:
            message["tool_calls"] = calls
            message["content"] = message["content"] or None
        return message

    def _finish_reason(self, message: Message) -> FinishReason:
        reason = _REASONS.get(self._stop or "end_turn", FinishReason.OTHER)
        if reason is FinishReason.TOOL_CALLS and not message.get("tool_calls"):
            return FinishReason.STOP
        if reason in (FinishReason.STOP, FinishReason.OTHER) and message.get("tool_calls"):
            return FinishReason.TOOL_CALLS
        return reason

    def _count(self, usage: Any) -> None:  # the API's usage object, or nothing
        if not isinstance(usage, dict):
            return
        counts = cast("dict[str, Any]", usage)
        for key in _COUNTS:
            if isinstance(value := counts.get(key), int):
                self._counts[key] = max(0, value)
        details = counts.get("output_tokens_details")
        if isinstance(details, dict):
            thinking = cast("dict[str, Any]", details).get("thinking_tokens")
            self._reasoning_tokens = thinking if isinstance(thinking, int) else 0

    def _usage(self, message: Message) -> Usage:
        counts = self._counts
        if "output_tokens" not in counts or "input_tokens" not in counts:
            return estimated_usage(self._request, message)
        read, written = counts.get("cache_read_input_tokens", 0), counts.get("cache_creation_input_tokens", 0)
        return Usage(
            prompt_tokens=counts["input_tokens"] + read + written,
            completion_tokens=counts["output_tokens"],
            cached_tokens=read,
            cache_write_tokens=written,
            reasoning_tokens=max(0, min(self._reasoning_tokens, counts["output_tokens"])),
        )

    def _fail(self, event: Mapping[str, Any]) -> None:
        error = error_object(dict(event))
        if error is None:
            detail = "an answer without content"
            raise self._endpoint.error(ProviderErrorKind.BAD_RESPONSE, detail, retryable=False)
        raise self._endpoint.refused(understand(error, fallback=ProviderErrorKind.BAD_RESPONSE))
