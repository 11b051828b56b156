"""What going over a conversation gives, remembered: each call of a model sends it again, a few messages longer."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, Generic, NamedTuple, TypeVar

from modular_agent.engine.providers.port import Message

__all__ = ["Folded"]

T = TypeVar("T")

MAX_CONVERSATIONS: Final = 512
MAX_MESSAGES: Final = 50_000  # of all conversations together
MAX_BYTES: Final = 32 * 1024 * 1024


class _Known(NamedTuple, Generic[T]):
    messages: list[Message]
    value: T
    size: int  # bytes


class Folded(Generic[T]):
    """The value of a conversation, brought forward from that of its beginning.

    `extend(value, messages)` answers the value of a conversation with `messages` behind it, without changing `value`;
    `start` is that of none. A conversation is found by its first message, and is the same one only if all messages that
    are remembered are equal to those it has now: which takes nanoseconds each, as long as they are the very same.
    Those not asked for longest are forgotten beyond `max_messages` in all, and `max_bytes` of values that are bytes.
    """

    def __init__(
        self,
        extend: Callable[[T, Sequence[Message]], T],
        start: T,
        *,
        max_messages: int = MAX_MESSAGES,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._extend = extend
        self._start = start
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._known: OrderedDict[int, _Known[T]] = OrderedDict()
        self._messages = self._bytes = 0

    def of(self, messages: Sequence[Message]) -> T:
        """The value of the whole conversation. Raises what `extend` raises."""
        if not messages:
            return self._start
        asked = list(messages)
        known = self._known.pop(id(asked[0]), None)  # a remembered message is alive: no other has its identity
        value, length = self._start, 0
        if known is not None:
            self._forget(known)
            if asked[: len(known.messages)] == known.messages:
                value, length = known.value, len(known.messages)
        if length < len(asked):
            value = self._extend(value, asked[length:])
        size = len(value) if isinstance(value, bytes) else 0
        self._known[id(asked[0])] = _Known(asked, value, size)
        self._messages += len(asked)
        self._bytes += size
        while (
            len(self._known) > MAX_CONVERSATIONS or self._messages > self._max_messages or self._bytes > self._max_bytes
        ):
            self._forget(self._known.popitem(last=False)[1])
        return value

    def _forget(self, known: _Known[T]) -> None:
        self._messages -= len(known.messages)
        self._bytes -= known.size
