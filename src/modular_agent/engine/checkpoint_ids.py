"""The ids of checkpoints sort by the time of their making; the newest state of a session is the one with the last id.

LangGraph makes them (UUID version 6) and lets none come before one that it has made in the same process. Nothing of
that survives a restart: when the clock has been set back meanwhile, new states would sort before old ones, and a run
would go on from an old one. So whoever reads a state has the next ids come after it.
"""

import random
import time
from typing import Final
from uuid import UUID

from langgraph.checkpoint.base import id as made

__all__ = ["come_after", "next_id"]

_VERSION: Final = 6
_MEMORY: Final = "_last_v6_timestamp"  # LangGraph's only memory of what it has made; a test holds it to that
_SINCE: Final = 0x01B21DD213814000  # of 100 ns, from where UUIDs count to 1970


def next_id(step: int) -> str:
    """The id of a checkpoint that is made now: the text of LangGraph's `uuid6(clock_seq=step)`."""
    now = time.time_ns() // 100 + _SINCE
    last: int | None = getattr(made, _MEMORY)
    if last is not None and now <= last:
        now = last + 1
    setattr(made, _MEMORY, now)
    high = f"{now >> 12:012x}"
    rest = f"{_VERSION}{now & 0xFFF:03x}-{0x8000 | step & 0x3FFF:04x}-{random.getrandbits(48):012x}"
    return f"{high[:8]}-{high[8:]}-{rest}"


def come_after(checkpoint_id: str) -> None:
    """Has every id that this process makes from now on sort after this one; one of another kind changes nothing."""
    try:
        known = UUID(checkpoint_id)
    except ValueError:
        return
    if known.version != _VERSION:
        return
    time = (known.int >> 80) << 12 | (known.int >> 64) & 0xFFF
    last: int | None = getattr(made, _MEMORY)
    if last is None or last < time:
        setattr(made, _MEMORY, time)
