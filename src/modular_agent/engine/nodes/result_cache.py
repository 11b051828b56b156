"""Reuse of a node's result for equal input, as its `cache` asks."""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import orjson

from modular_agent.engine.nodes.visit import Updates

__all__ = ["ResultCache"]


class ResultCache:
    """The results of one node of one workflow version, in memory; bounded in number and age (`ttl` in seconds).

    Entries are kept as JSON, so that nobody changes what another run was given.
    """

    def __init__(self, *, ttl: float, size: int = 1_000) -> None:
        self._ttl = ttl
        self._size = size
        self._entries: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()

    def key(self, state: Mapping[str, Any], sent: Any) -> bytes:
        """A digest of all that a node reads; the messages' ids do not count."""
        messages = [{k: v for k, v in m.items() if k != "id"} for m in state.get("messages", ())]
        read = orjson.dumps([{**state, "messages": messages}, sent], option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(read).digest()

    def get(self, key: bytes, now: float) -> Updates | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if now >= entry[0]:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        updates: Updates = orjson.loads(entry[1])
        for message in updates.get("messages", ()):
            message.pop("id", None)  # it will be another message
        return updates

    def put(self, key: bytes, updates: Updates, now: float) -> None:
        self._entries[key] = (now + self._ttl, orjson.dumps(updates))
        self._entries.move_to_end(key)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)
