"""What was made of a value that stays: of the tools of a node, which each of its calls sends and counts again."""

from collections.abc import Callable
from typing import Final, Generic, TypeVar

__all__ = ["Remembered"]

K = TypeVar("K")
T = TypeVar("T")

MAX_REMEMBERED: Final = 256


class Remembered(Generic[K, T]):
    """What `make` makes of values that nobody changes, each found by its identity; the oldest make room."""

    def __init__(self, make: Callable[[K], T]) -> None:
        self._make = make
        self._known: dict[int, tuple[K, T]] = {}  # a remembered value is alive: no other has its identity

    def of(self, value: K) -> T:
        """Raises what `make` raises."""
        known = self._known.get(id(value))
        if known is None:
            known = (value, self._make(value))
            if len(self._known) >= MAX_REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[id(value)] = known
        return known[1]
