"""Tool calls and their results as models insist on them: each call of a message has one result, right after it."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from modular_agent.engine.providers.port import Message

__all__ = ["NO_RESULT", "WHOLE", "Pairing", "is_paired", "paired", "pairing"]

NO_RESULT: Final = "The run was interrupted before this call had a result."


Pairing: TypeAlias = "frozenset[str] | None"  # the calls that wait for their results; None: something is torn apart
WHOLE: Final[Pairing] = frozenset()


def pairing(before: Pairing, messages: Sequence[Message]) -> Pairing:
    """How calls and results stand after `messages`, which follow others that stand as `before` says."""
    if before is None:
        return None
    waiting = set(before)
    for message in messages:
        if message["role"] == "tool":
            call_id = message.get("tool_call_id", "")
            if call_id not in waiting:
                return None
            waiting.discard(call_id)
        elif waiting:
            return None
        elif calls := message.get("tool_calls"):
            waiting = {call["id"] for call in calls}
    return frozenset(waiting)


def is_paired(messages: Sequence[Message]) -> bool:
    """Whether every call has its result right after it, and every result its call."""
    return pairing(WHOLE, messages) == WHOLE


def paired(messages: Sequence[Message]) -> list[Message]:
    """The messages with every result behind its call: one that is missing is made up, one without a call left out.

    An edit, a state from outside or an end before the tools ran can tear them apart, and no provider takes such a
    conversation. The state stays as it is.
    """
    results: dict[str, deque[Message]] = {}
    for message in messages:
        if message["role"] == "tool":
            results.setdefault(message.get("tool_call_id", ""), deque()).append(message)
    found: list[Message] = []
    for message in messages:
        if message["role"] != "tool":
            found += [message, *_results(message, results)]
    return found


def _results(message: Message, results: Mapping[str, deque[Message]]) -> Iterator[Message]:
    for call in message.get("tool_calls") or ():
        if known := results.get(call["id"]):
            yield known.popleft()
        else:
            name = call["function"]["name"]
            yield {"role": "tool", "content": NO_RESULT, "tool_call_id": call["id"], "name": name}
