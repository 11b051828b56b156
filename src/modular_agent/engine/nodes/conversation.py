"""Messages as the state keeps them, and as the log does."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from modular_agent.engine.errors import OutputInvalid
from modular_agent.engine.providers.port import Message, ToolCall
from modular_agent.events import Record, RecordType
from modular_agent.kit.ids import new_id

__all__ = [
    "last_message",
    "last_user_text",
    "message_record",
    "normalised",
    "open_tool_calls",
    "public",
    "text_of",
    "tool_results",
    "user_message",
]

_EXTRA_FIELDS: Final = frozenset({"tool_calls", "tool_call_id", "name", "reasoning"})
_MAPPINGS: Final = (dict, Mapping)  # a dictionary is told at once, any other mapping after a search
_ROLES: Final = frozenset({"system", "user", "assistant", "tool"})


def user_message(content: Any) -> Message:
    """A person's message; `content` is text or content parts."""
    return {"role": "user", "content": content, "id": new_id("rec")}


def normalised(value: Any, *, node: str, role: str = "assistant") -> list[Message]:
    """Messages from what a node wrote: text (of `role`), one message, or a list of these.

    Each gets the `id` that its record will have. Raises `OutputInvalid` for anything else.
    """
    items: Sequence[Any] = cast("Sequence[Any]", value) if isinstance(value, list) else [value]
    return [_one(item, node, role) for item in items]


def _one(item: Any, node: str, role: str) -> Message:
    if isinstance(item, str):
        item = {"role": role, "content": item}
    message = cast("Message", dict(cast("Mapping[str, Any]", item)) if isinstance(item, _MAPPINGS) else {})
    if message.get("role") not in _ROLES:
        raise OutputInvalid(node=node, reason="a message is text or {role, content, ...}")
    message.setdefault("content", None)
    if "id" not in message:
        message["id"] = new_id("rec")
    return message


def message_record(
    message: Message, run_id: str, node: str | None, *, in_conversation: bool = True, **more: Any
) -> Record:
    """The `message` record of a message; its `record_id` is the message's id.

    `in_conversation` is false for what a model was asked or answered beside the conversation.
    """
    fields: dict[str, Any] = {"message_type": message["role"], "content": message["content"], **more}
    fields |= {key: value for key, value in message.items() if key in _EXTRA_FIELDS}
    return Record(
        record_type=RecordType.MESSAGE,
        record_id=message.get("id") or new_id("rec"),
        run_id=run_id,
        node=node,
        fields=fields,
        metadata={} if in_conversation else {"in_conversation": False},
    )


def last_message(state: Mapping[str, Any]) -> Message | None:
    messages = state.get("messages")
    return messages[-1] if messages else None


def text_of(message: Mapping[str, Any] | None) -> str:
    """The text of a message; of content parts, the text parts."""
    content = message.get("content") if message else None
    if isinstance(content, list):
        parts = cast("list[dict[str, Any]]", content)
        return "".join(str(part.get("text", "")) for part in parts if part.get("type") == "text")
    return content or ""


def last_user_text(state: Mapping[str, Any]) -> str:
    """The text of the newest user message, or an empty text."""
    for message in reversed(state.get("messages") or ()):
        if message["role"] == "user":
            return text_of(message)
    return ""


def open_tool_calls(state: Mapping[str, Any]) -> list[ToolCall]:
    """The calls of the last assistant message that no tool message has answered yet."""
    answered: set[str] = set()
    for message in reversed(state.get("messages") or ()):
        if message["role"] == "tool":
            answered.add(message.get("tool_call_id", ""))
        elif message["role"] == "assistant":
            calls = cast("list[ToolCall]", message.get("tool_calls") or [])
            return [call for call in calls if call["id"] not in answered]
        else:
            return []
    return []


def public(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state without the engine's own keys."""
    return {key: value for key, value in state.items() if not key.startswith("__")}


def tool_results(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The results of tool calls in a conversation, oldest first."""
    return [
        {"tool_call_id": m.get("tool_call_id"), "tool_name": m.get("name"), "content": m.get("content")}
        for m in messages
        if m["role"] == "tool"
    ]
