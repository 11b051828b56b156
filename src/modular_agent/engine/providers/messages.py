"""Reading conversations in the neutral shape of `port.py`."""

from collections.abc import Iterable, Sequence

from modular_agent.engine.providers.port import Message
from modular_agent.kit.ids import new_id

__all__ = ["fresh_call_id", "last_user_text", "leading_systems", "message_text", "system_text", "used_call_ids"]


def message_text(message: Message) -> str:
    """The text of a message; of content parts, the text parts joined by newlines."""
    content = message["content"]
    if isinstance(content, str):
        return content
    if not content:
        return ""
    return "\n".join(
        part["text"] for part in content if part.get("type") == "text" and isinstance(part.get("text"), str)
    )


def last_user_text(messages: Iterable[Message]) -> str:
    """The text of the last user message, empty if there is none."""
    text = ""
    for message in messages:
        if message["role"] == "user":
            text = message_text(message)
    return text


def system_text(messages: Iterable[Message]) -> str:
    """The texts of the system messages, blank lines between them."""
    return "\n\n".join(text for message in messages if message["role"] == "system" and (text := message_text(message)))


def leading_systems(messages: Sequence[Message]) -> int:
    """How many system messages a conversation begins with: they are made anew for each call, unlike what follows."""
    for count, message in enumerate(messages):
        if message["role"] != "system":
            return count
    return len(messages)


def used_call_ids(messages: Iterable[Message]) -> set[str]:
    """The ids of all tool calls of a conversation."""
    calling = [message for message in messages if "tool_calls" in message]  # few of many, and all are looked at
    return {call["id"] for message in calling for call in message["tool_calls"] or ()}


def fresh_call_id(wanted: str, used: set[str]) -> str:
    """`wanted`, or a new id if that is empty or in `used`; the answer is added to `used`.

    Providers number calls from 0 in every answer, or name them after the tool; the effect ledger needs them unique.
    """
    call_id = wanted if wanted and wanted not in used else new_id("call")
    used.add(call_id)
    return call_id
