"""Which nodes of a run are executing right now: a run has stopped only when none is."""

import asyncio
from collections.abc import Callable
from functools import partial

__all__ = ["LiveNodes"]


class LiveNodes:
    """A register that every node enters and leaves, whatever ends it."""

    def __init__(self) -> None:
        self._nodes: dict[str, int] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    def enter(self, node: str) -> Callable[[], None]:
        """Says that a node executes, until what this answers is called."""
        if not self._nodes:
            self._empty.clear()
        self._nodes[node] = self._nodes.get(node, 0) + 1
        return partial(self._leave, node)

    def _leave(self, node: str) -> None:
        self._nodes[node] -= 1
        if not self._nodes[node]:
            del self._nodes[node]
        if not self._nodes:
            self._empty.set()

    @property
    def names(self) -> list[str]:
        """The nodes executing now, sorted."""
        return sorted(self._nodes)

    async def wait_empty(self) -> None:
        await self._empty.wait()
