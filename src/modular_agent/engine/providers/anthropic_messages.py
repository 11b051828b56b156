"""Turning a conversation into the shape of Anthropic's Messages API.

System messages go apart; an assistant's calls become `tool_use` blocks, tool messages `tool_result` blocks, and those
that follow one another one user message, as the API demands. Thinking blocks, kept under `extra_content.anthropic`, go
back first in their message, unchanged: the API checks their signatures.
"""

import re
from collections.abc import Sequence
from typing import Any, Final, cast

import orjson

from modular_agent.engine.providers.messages import system_text
from modular_agent.engine.providers.port import Message, ToolCall

__all__ = ["wire_messages", "wire_tool_choice"]

_Block = dict[str, Any]  # a content block of the API: JSON

_BAD_IN_ID: Final = re.compile(r"[^a-zA-Z0-9_-]")
_DATA_URL: Final = re.compile(r"^data:([\w.+/-]+);base64,(.*)$", re.DOTALL)


def wire_messages(messages: Sequence[Message]) -> tuple[str, list[_Block]]:
    """The system prompt, and the other messages in the API's shape."""
    wire: list[_Block] = []
    for message in messages:
        role = message["role"]
        if role == "system":
            continue
        if role == "assistant":
            blocks = _assistant_blocks(message)
        elif role == "tool":
            role, blocks = "user", [_tool_result(message)]
        else:
            blocks = _content_blocks(message["content"])
        if not blocks:
            continue
        if wire and wire[-1]["role"] == role:
            wire[-1]["content"].extend(blocks)
        else:
            wire.append({"role": role, "content": blocks})
    return system_text(messages), wire


def wire_tool_choice(choice: Any, *, parallel: bool | None) -> _Block | None:  # a word, a tool's name, or an object
    """The API's `tool_choice`; None where its default is meant."""
    if isinstance(choice, dict):
        given = cast("_Block", choice)
        wire: _Block = {"type": "tool", "name": given["function"]["name"]} if "function" in given else dict(given)
    elif choice in (None, "auto"):
        wire = {"type": "auto"}
    elif choice == "required":
        wire = {"type": "any"}
    elif choice == "none":
        return {"type": "none"}
    else:
        wire = {"type": "tool", "name": str(choice)}
    if parallel is not None:
        wire["disable_parallel_tool_use"] = not parallel
    return None if wire == {"type": "auto"} else wire


def _assistant_blocks(message: Message) -> list[_Block]:
    blocks = _thinking_blocks(message)
    blocks += _content_blocks(message["content"])
    blocks += [_tool_use(call) for call in message.get("tool_calls") or ()]
    return blocks


def _thinking_blocks(message: Message) -> list[_Block]:
    own = message.get("extra_content", {}).get("anthropic")
    if not isinstance(own, dict):
        return []
    return list(cast("_Block", own).get("thinking") or ())


def _content_blocks(content: str | list[_Block] | None) -> list[_Block]:
    if not content:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content.strip() else []
    return [block for part in content if (block := _content_block(part)) is not None]


def _content_block(part: _Block) -> _Block | None:
    kind = part.get("type")
    if kind == "text":
        return {"type": "text", "text": part["text"]} if part.get("text", "").strip() else None
    if kind == "image_url":
        image: Any = part["image_url"]
        url = str(cast("_Block", image)["url"] if isinstance(image, dict) else image)
        if match := _DATA_URL.match(url):
            return {"type": "image", "source": {"type": "base64", "media_type": match[1], "data": match[2]}}
        return {"type": "image", "source": {"type": "url", "url": url}}
    return part  # one of the API's own kinds


def _tool_use(call: ToolCall) -> _Block:
    text = call["function"]["arguments"]
    try:
        arguments = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        arguments = text
    if not isinstance(arguments, dict):  # the API takes objects only; the model shall see what it wrote
        arguments = {"arguments": arguments}
    return {
        "type": "tool_use",
        "id": _wire_id(call["id"]),
        "name": call["function"]["name"],
        "input": cast("dict[str, Any]", arguments),
    }


def _tool_result(message: Message) -> _Block:
    content = message["content"]
    block: _Block = {"type": "tool_result", "tool_use_id": _wire_id(message.get("tool_call_id", ""))}
    if content:
        block["content"] = content if isinstance(content, str) else _content_blocks(content)
    return block


def _wire_id(call_id: str) -> str:
    """A call's id in the alphabet the API takes (another provider's may hold more)."""
    return _BAD_IN_ID.sub("_", call_id)
