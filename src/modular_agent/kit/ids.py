"""Identifiers: unguessable, short enough to read aloud, with their kind in front."""

import os
import secrets
from typing import Final

from modular_agent.kit.clock import utc_datetime

__all__ = ["new_id", "session_id"]


class _Randomness:
    """Random bytes of the operating system, fetched many at a time.

    Each fetch gives up the GIL, which a busy process then has to win back: for two dozen ids of a turn that cost more
    than all the rest of making them. A child process starts with none of its parent's.
    """

    SIZE: Final = 10  # bytes of an id
    STOCK: Final = 400  # ids

    def __init__(self) -> None:
        self.renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.renew)

    def renew(self) -> None:
        """Fetches a stock of 80 bits as hexadecimal digits each."""
        digits, size = os.urandom(self.SIZE * self.STOCK).hex(), 2 * self.SIZE
        self.stock = iter([digits[at : at + size] for at in range(0, len(digits), size)])


_RANDOMNESS: Final = _Randomness()


def new_id(kind: str) -> str:
    """A new identifier such as `run_1f73e8c09ab45d1e22f0`: its kind and 80 random bits."""
    while True:
        for digits in _RANDOMNESS.stock:  # one step of the interpreter: two threads never get the same
            return f"{kind}_{digits}"
        _RANDOMNESS.renew()


def session_id(name: str, now_us: int) -> str:
    """A candidate session id such as `react-251022-174800-1f73e8` (name, UTC date, time, 24 random bits).

    24 bits collide within a busy second: whoever stores it tries again on a conflict.
    """
    return f"{name}-{utc_datetime(now_us):%y%m%d-%H%M%S}-{secrets.token_hex(3)}"
