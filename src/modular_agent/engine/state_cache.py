"""The newest states of sessions, as this process has stored them: a run that follows another begins with one."""

from collections import OrderedDict
from typing import NamedTuple

from modular_agent.engine.channels import LogRef, Segment
from modular_agent.engine.store import CheckpointRow

__all__ = ["Held", "StateCache"]


class Held(NamedTuple):
    """A checkpoint, with what its references stand for."""

    row: CheckpointRow
    logs: dict[tuple[Segment, ...], LogRef]  # the lists of its append logs


class StateCache:
    """The newest root checkpoints, by session; bounded."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._held: OrderedDict[int, Held] = OrderedDict()

    def put(self, n: int, held: Held) -> None:
        self._held[n] = held
        self._held.move_to_end(n)
        if len(self._held) > self._size:
            self._held.popitem(last=False)

    def get(self, n: int, checkpoint_id: str | None) -> Held | None:
        held = self._held.get(n)
        return held if held is not None and held.row.checkpoint_id == checkpoint_id else None

    def holds(self, n: int) -> bool:
        return n in self._held

    def drop(self, n: int) -> None:
        self._held.pop(n, None)
