"""`dataclass` whose values cost less to make.

`frozen` is enforced by the type checker, not by the interpreter: the standard one makes each assignment of a frozen
class's `__init__` a call of `object.__setattr__`, so five fields take 0.5 µs instead of 0.14, and a turn makes hundreds
of such values. Equality and hash are those of a frozen class.

`default_factory=list[X]` tells the type checker what the list holds, and makes it as `list` does: called as it is, it
tries to note `X` on every list, which a list refuses; that takes five times as long.
"""

import dataclasses
from collections.abc import Callable
from types import GenericAlias
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(*, frozen: bool = False, eq: bool = True, **options: bool) -> Callable[[type[Any]], type[Any]]:
        """Like `dataclasses.dataclass` with arguments; assigning to a field of a frozen one is not refused."""
        make = dataclasses.dataclass(eq=eq, unsafe_hash=frozen and eq, **options)

        def made(cls: type[Any]) -> type[Any]:
            for value in vars(cls).values():
                if isinstance(value, dataclasses.Field) and isinstance(value.default_factory, GenericAlias):
                    value.default_factory = value.default_factory.__origin__
            return make(cls)

        return made
