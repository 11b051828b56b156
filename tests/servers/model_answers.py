"""What the model server answers, and how OpenAI's and Anthropic's formats say it."""

import itertools
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

__all__ = [
    "Answer",
    "Behaviour",
    "anthropic_events",
    "anthropic_whole",
    "decide",
    "instance",
    "openai_events",
    "openai_whole",
]

ARITHMETIC = re.compile(r"\(*-?\d[\d.\s()+*/%^-]*[+*/%^-][\d.\s()+*/%^-]*\d\)*")
SUB_QUESTIONS = re.compile(r"sub-?questions?|子问题", re.IGNORECASE)
REASONS = {"tool": ("tool_calls", "tool_use"), "text": ("stop", "end_turn"), "length": ("length", "max_tokens")}


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """How to answer; delays in seconds.

    `tokens`: answer with so many words instead of the default text. `fail_status`: answer with an error, `fail_times`
    times (0: always). `cut_after`: close the connection after so many events. `error_event`: put an error into the
    stream. `hang`: send the head and then nothing. `reset`: abort the connection at once. `usage`: report it.
    """

    text: str | None = None
    tokens: int | None = None
    delay: float = 0.0
    token_delay: float = 0.0
    reasoning: str = ""
    cached_tokens: int = 0
    fail_status: int = 0
    fail_times: int = 0
    retry_after: str = ""
    cut_after: int | None = None
    error_event: str = ""
    hang: bool = False
    reset: bool = False
    usage: bool = True


@dataclass(frozen=True)
class Answer:
    """What to say, before it takes a wire format."""

    text: str = ""
    tool: str = ""
    arguments: str = ""
    reasoning: str = ""


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text") or _text(part.get("content") or "") for part in content or [])


def decide(payload: dict[str, Any], behaviour: Behaviour) -> Answer:
    """What the assistant says to a request of either format."""
    messages = payload["messages"]
    last = messages[-1] if messages else {"role": "user", "content": ""}
    blocks = last["content"] if isinstance(last["content"], list) else []
    results = [_text(block.get("content") or "") for block in blocks if block.get("type") == "tool_result"]
    if last["role"] == "tool":
        results = [_text(message["content"]) for message in _trailing_tools(messages)]
    asked = next((_text(m["content"]) for m in reversed(messages) if m["role"] == "user" and _text(m["content"])), "")
    system = _text(payload.get("system") or "") + " ".join(
        _text(message["content"]) for message in messages if message["role"] == "system"
    )
    if behaviour.text is not None:
        return Answer(behaviour.text, reasoning=behaviour.reasoning)
    if behaviour.tokens is not None:
        return Answer(" ".join(["word"] * behaviour.tokens), reasoning=behaviour.reasoning)
    schema = _schema(payload)
    if schema is not None:
        return Answer(orjson.dumps(instance(schema, asked)).decode(), reasoning=behaviour.reasoning)
    if results:
        return Answer(f"The result is {', '.join(results)}.", reasoning=behaviour.reasoning)
    if "json" in system.lower() and SUB_QUESTIONS.search(system):
        return Answer(orjson.dumps(instance({"type": "array"}, asked)).decode(), reasoning=behaviour.reasoning)
    names = {(tool.get("function") or tool).get("name") for tool in payload.get("tools") or ()}
    match = ARITHMETIC.search(asked)
    if match and "calculator" in names:
        return Answer(
            tool="calculator",
            arguments=orjson.dumps({"expression": match[0].strip()}).decode(),
            reasoning=behaviour.reasoning,
        )
    return Answer(f"You said: {asked}" if asked else "Hello.", reasoning=behaviour.reasoning)


def _trailing_tools(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return list(reversed(list(itertools.takewhile(lambda message: message["role"] == "tool", reversed(messages)))))


def _schema(payload: dict[str, Any]) -> dict[str, Any] | None:
    asked = payload.get("response_format") or (payload.get("output_config") or {}).get("format") or {}
    if asked.get("type") == "json_schema":
        return (asked.get("json_schema") or asked).get("schema") or {}
    return {"type": "object"} if asked.get("type") == "json_object" else None


def instance(schema: dict[str, Any], topic: str, number: int = 1) -> Any:
    """A value that fits `schema` (the parts of the language that the examples use)."""
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for choice in ("anyOf", "oneOf"):
        if schema.get(choice):
            return instance(schema[choice][0], topic, number)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {name: instance(part, topic, number) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        count = min(max(3, schema.get("minItems", 0)), schema.get("maxItems", 3))
        return [instance(schema.get("items") or {}, topic, each) for each in range(1, count + 1)]
    plain = {"integer": schema.get("minimum", 1), "number": schema.get("minimum", 0.5), "boolean": True, "null": None}
    return plain.get(kind, f"Question {number} about {topic or 'this'}?")


def _words(text: str) -> list[str]:
    return re.findall(r"\s*\S+|\s+", text)


@lru_cache(maxsize=1024)
def openai_events(answer: Answer, model: str, prompt: int, cached: int, usage: bool, number: int) -> tuple[bytes, ...]:
    """The events of an OpenAI stream."""
    head = {"id": f"chatcmpl-{number}", "object": "chat.completion.chunk", "created": 1, "model": model}

    def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return b"data: " + orjson.dumps({**head, "choices": [choice], "usage": None}) + b"\n\n"

    events = [event({"role": "assistant", "content": ""})]
    events += [event({"reasoning_content": word}) for word in _words(answer.reasoning)]
    events += [event({"content": word}) for word in _words(answer.text)]
    if answer.tool:
        call = {"index": 0, "id": f"call_{number}", "type": "function"}
        events.append(event({"tool_calls": [{**call, "function": {"name": answer.tool, "arguments": ""}}]}))
        half = len(answer.arguments) // 2
        for piece in (answer.arguments[:half], answer.arguments[half:]):
            events.append(event({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}))
    events.append(event({}, REASONS["tool" if answer.tool else "text"][0]))
    if usage:
        counts = _openai_usage(answer, prompt, cached)
        events.append(b"data: " + orjson.dumps({**head, "choices": [], "usage": counts}) + b"\n\n")
    events.append(b"data: [DONE]\n\n")
    return tuple(events)


def _completion_tokens(answer: Answer) -> int:
    return len(_words(answer.text)) + len(_words(answer.reasoning)) + len(answer.arguments) // 4 or 1


def _openai_usage(answer: Answer, prompt: int, cached: int) -> dict[str, Any]:
    completion = _completion_tokens(answer)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": min(cached, prompt)},
        "completion_tokens_details": {"reasoning_tokens": len(_words(answer.reasoning))},
    }


def openai_whole(answer: Answer, model: str, prompt: int, cached: int, number: int) -> dict[str, Any]:
    """An OpenAI answer that does not stream."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or None}
    if answer.tool:
        function = {"name": answer.tool, "arguments": answer.arguments}
        message["tool_calls"] = [{"id": f"call_{number}", "type": "function", "function": function}]
    reason = REASONS["tool" if answer.tool else "text"][0]
    return {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": _openai_usage(answer, prompt, cached),
    }


@lru_cache(maxsize=1024)
def anthropic_events(
    answer: Answer, model: str, prompt: int, cached: int, usage: bool, number: int
) -> tuple[bytes, ...]:
    """The events of an Anthropic stream."""

    def event(kind: str, **fields: Any) -> bytes:
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps({"type": kind, **fields}))

    counts = {"input_tokens": prompt - min(cached, prompt), "cache_read_input_tokens": min(cached, prompt)}
    start = anthropic_whole(answer, model, prompt, cached, number) | {"content": [], "stop_reason": None}
    start["usage"] = {**counts, "cache_creation_input_tokens": 0, "output_tokens": 1}
    events = [event("message_start", message=start), event("ping")]
    index = itertools.count()
    if answer.reasoning:
        at = next(index)
        block = {"type": "thinking", "thinking": "", "signature": ""}
        events.append(event("content_block_start", index=at, content_block=block))
        for word in _words(answer.reasoning):
            events.append(event("content_block_delta", index=at, delta={"type": "thinking_delta", "thinking": word}))
        signature = {"type": "signature_delta", "signature": "c2lnbmVk"}
        events.append(event("content_block_delta", index=at, delta=signature))
        events.append(event("content_block_stop", index=at))
    if answer.text:
        at = next(index)
        events.append(event("content_block_start", index=at, content_block={"type": "text", "text": ""}))
        for word in _words(answer.text):
            events.append(event("content_block_delta", index=at, delta={"type": "text_delta", "text": word}))
        events.append(event("content_block_stop", index=at))
    if answer.tool:
        at = next(index)
        block = {"type": "tool_use", "id": f"toolu_{number}", "name": answer.tool, "input": {}}
        events.append(event("content_block_start", index=at, content_block=block))
        half = len(answer.arguments) // 2
        for piece in ("", answer.arguments[:half], answer.arguments[half:]):
            delta = {"type": "input_json_delta", "partial_json": piece}
            events.append(event("content_block_delta", index=at, delta=delta))
        events.append(event("content_block_stop", index=at))
    stop = {"stop_reason": REASONS["tool" if answer.tool else "text"][1], "stop_sequence": None}
    events.append(event("message_delta", delta=stop, usage={"output_tokens": _completion_tokens(answer)}))
    events.append(event("message_stop"))
    return tuple(events)


def anthropic_whole(answer: Answer, model: str, prompt: int, cached: int, number: int) -> dict[str, Any]:
    """An Anthropic answer that does not stream."""
    content: list[dict[str, Any]] = [{"type": "text", "text": answer.text}] if answer.text else []
    if answer.tool:
        arguments = orjson.loads(answer.arguments)
        content.append({"type": "tool_use", "id": f"toolu_{number}", "name": answer.tool, "input": arguments})
    read = min(cached, prompt)
    return {
        "id": f"msg_{number}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": REASONS["tool" if answer.tool else "text"][1],
        "stop_sequence": None,
        "usage": {
            "input_tokens": prompt - read,
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": 0,
            "output_tokens": _completion_tokens(answer),
        },
    }
