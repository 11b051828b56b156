"""The channels that a session's state is made of.

`AppendLog` keeps a list that only grows (the conversation) at a cost per step that does not depend on its length: its
checkpoint is a reference to segments of stored items, and only new items are stored. `Reduced` keeps one value.
"""

import secrets
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from langgraph.channels import LastValue
from langgraph.channels.base import BaseChannel
from langgraph.errors import EmptyChannelError
from langgraph.types import Overwrite

from modular_agent.kit.dataclass import dataclass

__all__ = ["MISSING", "AppendLog", "LogRef", "Reduced", "Segment"]


# The library's own mark for "no value", as its channels answer it: None is a value.
MISSING: Final[Any] = cast("Any", LastValue(object)).checkpoint()

Segment = tuple[str, int]  # (segment id, how many of its items belong to the list)


@dataclass(frozen=True, slots=True)
class LogRef:
    """What a checkpoint says of an append log: the segments the list is made of, in order.

    `items` is the whole list, `new` what was appended since the last checkpoint (the last items of the last segment).
    `frozen` says that the last segment has items beyond this list: another branch went on there.
    """

    segments: tuple[Segment, ...]
    items: list[Any]
    new: Sequence[Any] = ()
    frozen: bool = False


def _is_overwrite(value: object) -> bool:
    return isinstance(value, Overwrite)


class AppendLog(BaseChannel[list[Any], Any, LogRef]):
    """A list that grows by what nodes write: an item, or a list of items; `Overwrite` replaces the whole.

    Readers get the list itself and must not change it: `update` makes a new one.
    """

    __slots__ = ("frozen", "items", "segments", "stored")

    def __init__(self, typ: Any = list, key: str = "") -> None:
        super().__init__(typ, key)
        self.items: list[Any] | None = None
        self.segments: tuple[Segment, ...] = ()
        self.stored = 0
        self.frozen = False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AppendLog)

    __hash__ = None  # type: ignore[assignment]  # channels are compared by kind, never hashed

    @property
    def ValueType(self) -> Any:  # noqa: N802 - the library's name
        return list

    @property
    def UpdateType(self) -> Any:  # noqa: N802 - the library's name
        return list

    def copy(self) -> "AppendLog":
        new = AppendLog(self.typ, self.key)
        new.items, new.segments, new.stored, new.frozen = self.items, self.segments, self.stored, self.frozen
        return new

    def from_checkpoint(self, checkpoint: Any) -> "AppendLog":
        new = AppendLog(self.typ, self.key)
        if isinstance(checkpoint, LogRef):
            new.items, new.segments = checkpoint.items, checkpoint.segments
            new.stored, new.frozen = len(checkpoint.items), checkpoint.frozen
        return new

    def checkpoint(self) -> Any:
        """The reference to store; called once for every stored step, it counts what is new as stored."""
        if self.items is None:
            return super().checkpoint()
        new = self.items[self.stored :]
        if new:
            self._extend(len(new))
            self.stored = len(self.items)
        return LogRef(self.segments, self.items, new, self.frozen)

    def _extend(self, count: int) -> None:
        if self.segments and not self.frozen:
            last, length = self.segments[-1]
            self.segments = (*self.segments[:-1], (last, length + count))
        else:
            self.segments = (*self.segments, (secrets.token_hex(8), count))
            self.frozen = False

    def get(self) -> list[Any]:
        if self.items is None:
            raise EmptyChannelError
        return self.items

    def is_available(self) -> bool:
        return self.items is not None

    def update(self, values: Sequence[Any]) -> bool:
        if not values:
            return False
        items = list(self.items or ())
        for value in values:
            if _is_overwrite(value):
                items = list(value.value or ())
                self.segments, self.stored, self.frozen = (), 0, False
            elif isinstance(value, list):
                items.extend(value)  # pyright: ignore[reportUnknownArgumentType]
            else:
                items.append(value)
        self.items = items
        return True


class Reduced(BaseChannel[Any, Any, Any]):
    """One value; what several nodes write in a step is folded in, in the order of the nodes' tasks."""

    __slots__ = ("reducer", "value")

    def __init__(self, reducer: Callable[[Any, Any], Any], typ: Any = object, key: str = "") -> None:
        super().__init__(typ, key)
        self.reducer = reducer
        self.value: Any = MISSING

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reduced) and other.reducer is self.reducer

    __hash__ = None  # type: ignore[assignment]  # channels are compared by kind, never hashed

    @property
    def ValueType(self) -> Any:  # noqa: N802 - the library's name
        return self.typ

    @property
    def UpdateType(self) -> Any:  # noqa: N802 - the library's name
        return self.typ

    def copy(self) -> "Reduced":
        new = Reduced(self.reducer, self.typ, self.key)
        new.value = self.value
        return new

    def from_checkpoint(self, checkpoint: Any) -> "Reduced":
        new = Reduced(self.reducer, self.typ, self.key)
        new.value = checkpoint
        return new

    def checkpoint(self) -> Any:
        return self.value

    def get(self) -> Any:
        if self.value is MISSING:
            raise EmptyChannelError
        return self.value

    def is_available(self) -> bool:
        return self.value is not MISSING

    def update(self, values: Sequence[Any]) -> bool:
        for value in values:
            if _is_overwrite(value):
                self.value = value.value
            else:
                self.value = value if self.value is MISSING else self.reducer(self.value, value)
        return bool(values)
