"""Messages as they were sent before: each call of a conversation sends all earlier messages again."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import orjson

from modular_agent.engine.providers.port import Message

__all__ = ["WireMemo"]

MAX_MESSAGES: Final = 8_192
MAX_BYTES: Final = 16 * 1024 * 1024
MAX_MESSAGE_BYTES: Final = 64 * 1024  # a longer one would push out too many others


class WireMemo:
    """The encoded form of the newest messages, found by identity: whoever changes a message makes a new one.

    Holds at most `max_messages` of them and `max_bytes` of their bytes; those not sent for longest are forgotten.
    """

    def __init__(self, *, max_messages: int = MAX_MESSAGES, max_bytes: int = MAX_BYTES) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._known: OrderedDict[int, tuple[Message, orjson.Fragment, int]] = OrderedDict()
        self._bytes = 0

    def fragment(self, message: Message, encode: Callable[[Message], bytes]) -> orjson.Fragment:
        """The message's JSON, made by `encode` unless it is known."""
        known = self._known.get(id(message))
        if known is not None:  # it is kept alive, so nobody else has its identity
            self._known.move_to_end(id(message))
            return known[1]
        wire = encode(message)
        fragment = orjson.Fragment(wire)
        if len(wire) <= MAX_MESSAGE_BYTES:
            self._known[id(message)] = (message, fragment, len(wire))
            self._bytes += len(wire)
            while len(self._known) > self._max_messages or self._bytes > self._max_bytes:
                self._bytes -= self._known.popitem(last=False)[1][2]
        return fragment
