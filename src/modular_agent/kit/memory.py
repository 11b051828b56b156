"""When Python looks for cycles among the objects of this process.

Reference counts free nearly everything at once; the collector finds the rest, and looks at every object that has stayed
to do so. A server keeps some hundred thousand from its imports alone: with Python's thresholds, looking at these over
and over took a third of a turn's time, with the GIL held. (https://docs.python.org/3.11/library/gc.html)
"""

import gc
from typing import Final

__all__ = ["has_started", "is_starting"]

_STARTING: Final = (1_000_000, 50, 50)  # twice of what there is after all imports, of which one in a hundred is garbage
_SERVING: Final = (50_000, 20, 50)  # new objects; then how often the younger generation before the older one


def is_starting() -> None:
    """Called first thing: what a process makes while it starts mostly stays."""
    gc.set_threshold(*_STARTING)


def has_started() -> None:
    """Called once the process serves: what is there now is never looked at again."""
    gc.freeze()
    gc.set_threshold(*_SERVING)
