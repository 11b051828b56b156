"""Counting tokens without a tokenizer: an estimate, equal for equal text, for when a provider does not report."""

from collections.abc import Iterable, Sequence
from typing import Final

import orjson

from modular_agent.engine.providers.messages import message_text
from modular_agent.engine.providers.port import ChatRequest, Message, ToolSchema, Usage

__all__ = ["estimate_messages", "estimate_tokens", "estimate_tools", "estimated_usage"]

CHARACTERS_PER_TOKEN: Final = 4
MESSAGE_OVERHEAD: Final = 4


def estimate_tokens(text: str) -> int:
    """About how many tokens `text` has: a quarter of its ASCII characters plus each other character. Empty is 0."""
    if not text:
        return 0
    if text.isascii():
        return -(-len(text) // CHARACTERS_PER_TOKEN)
    ascii_count = len(text.encode("ascii", "ignore"))
    return -(-ascii_count // CHARACTERS_PER_TOKEN) + len(text) - ascii_count


def estimate_messages(messages: Iterable[Message]) -> int:
    """About how many tokens a conversation has, its tool calls and four tokens for each message included."""
    total = 0
    for message in messages:
        total += MESSAGE_OVERHEAD + estimate_tokens(message_text(message))
        for call in message.get("tool_calls") or ():
            total += estimate_tokens(call["function"]["name"] + call["function"]["arguments"])
    return total


def estimate_tools(tools: Sequence[ToolSchema]) -> int:
    """About how many tokens the descriptions of `tools` have."""
    return sum(
        estimate_tokens(tool.name + tool.description)
        + -(-len(orjson.dumps(dict(tool.parameters))) // CHARACTERS_PER_TOKEN)
        for tool in tools
    )


def estimated_usage(request: ChatRequest, message: Message) -> Usage:
    """The usage of a call whose provider reported none, marked as estimated."""
    completion = estimate_messages((message,)) + estimate_tokens(message.get("reasoning", ""))
    return Usage(
        prompt_tokens=estimate_messages(request.messages) + estimate_tools(request.tools),
        completion_tokens=completion,
        source="estimated",
    )
