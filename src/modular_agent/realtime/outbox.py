"""Answers on their way to one client, bounded by bytes: whoever adds more waits until the client has read."""

import asyncio
from collections import deque
from collections.abc import Callable

__all__ = ["Outbox"]


class Outbox:
    """A bounded queue with one reader. `on_add` is called when something came in."""

    def __init__(self, *, max_bytes: int, on_add: Callable[[], None]) -> None:
        self._payloads: deque[bytes] = deque()
        self._bytes = 0
        self._max_bytes = max_bytes
        self._on_add = on_add
        self._room = asyncio.Event()
        self._room.set()

    async def room(self) -> None:
        """Waits until there is room; whoever takes messages in waits here first, so that its answers are bounded."""
        await self._room.wait()

    def add(self, payload: bytes) -> None:
        """Adds at once; beyond the bound only by what was taken in before."""
        self._payloads.append(payload)
        self._bytes += len(payload)
        if self._bytes >= self._max_bytes:
            self._room.clear()
        self._on_add()

    def take(self) -> bytes | None:
        """The oldest, or None."""
        if not self._payloads:
            return None
        payload = self._payloads.popleft()
        self._bytes -= len(payload)
        if self._bytes < self._max_bytes:
            self._room.set()
        return payload
