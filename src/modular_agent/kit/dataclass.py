"""`dataclass` whose `frozen` the type checker enforces, not the interpreter.

The standard one makes each assignment of a frozen class's `__init__` a call of `object.__setattr__`: five fields take
0.5 µs instead of 0.14, and a turn makes hundreds of such values. Equality and hash are those of a frozen class.
"""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(*, frozen: bool = False, eq: bool = True, **options: bool) -> Callable[[type[Any]], type[Any]]:
        """Like `dataclasses.dataclass` with arguments; assigning to a field of a frozen one is not refused."""
        return dataclasses.dataclass(eq=eq, unsafe_hash=frozen and eq, **options)
