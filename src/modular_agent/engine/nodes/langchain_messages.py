"""Messages at the border of a user's LangGraph graph: ours are plain dicts, its own are LangChain's objects.

Inside the product no LangChain message is kept: what comes out of a graph is JSON before anything of ours sees it.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

import orjson
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    convert_to_messages,
    convert_to_openai_messages,
)

from modular_agent.engine.nodes.conversation import user_message
from modular_agent.engine.providers.port import Message
from modular_agent.kit.ids import new_id

__all__ = ["from_langchain", "plain", "to_langchain"]

_KNOWN: Final = ("role", "content", "tool_calls", "tool_call_id", "name", "id")
_PORTABLE: Final = (AIMessage, HumanMessage, SystemMessage, ToolMessage)


def to_langchain(value: Any) -> list[BaseMessage]:
    """LangChain messages from text (a person's), one of our messages, or a list of them; each keeps its `id`."""
    items: Sequence[Any] = cast("Sequence[Any]", value) if isinstance(value, list) else [value]
    return convert_to_messages([_readable(user_message(item) if isinstance(item, str) else item) for item in items])


def _readable(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message with the keys that LangChain knows; a call without arguments has an empty object of them."""
    known = {key: message[key] for key in _KNOWN if message.get(key) is not None}
    known.setdefault("content", "")
    if "tool_calls" in known:
        known["tool_calls"] = [_readable_call(call) for call in known["tool_calls"]]
    return known


def _readable_call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    return {"id": call["id"], "type": "function", "function": {**function, "arguments": function["arguments"] or "{}"}}


def from_langchain(message: BaseMessage, *, record_id: str | None = None) -> Message:
    """The message as our state keeps it, under the id of its record (a fresh one if None)."""
    if not isinstance(message, _PORTABLE):  # a chat message with a role of its own, or a function's
        message = AIMessage(content=message.content)
    converted = _assistant(message) if isinstance(message, AIMessage) else convert_to_openai_messages(message)
    converted["content"] = _json(converted.get("content"))
    converted["id"] = record_id or new_id("rec")
    if message.name:
        converted["name"] = message.name
    return cast("Message", converted)


def _assistant(message: AIMessage) -> dict[str, Any]:
    good = message.tool_calls
    calls = [(call["id"], call["name"], orjson.dumps(call["args"], default=str).decode()) for call in good]
    calls += [(call["id"], call["name"] or "", call["args"] or "") for call in message.invalid_tool_calls]
    converted: dict[str, Any] = {"role": "assistant", "content": str(message.text)}
    if calls:
        converted["content"] = converted["content"] or None
        converted["tool_calls"] = [
            {"id": call_id or new_id("call"), "type": "function", "function": {"name": name, "arguments": arguments}}
            for call_id, name, arguments in calls
        ]
    return converted


def plain(value: Any) -> Any:
    """A value of a user's graph as JSON: messages as our dicts, models and dataclasses as objects, the rest as text."""
    if isinstance(value, BaseMessage):
        return from_langchain(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in cast("Sequence[Any]", value)]
    return _json(value)


def _json(value: Any) -> Any:
    """The value itself if JSON has it, else what it can be read as."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    dump: Callable[..., Any] | None = getattr(value, "model_dump", None)
    if dump is not None:
        return plain(dump())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    return orjson.loads(orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS))
