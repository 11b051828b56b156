"""Identifiers: unguessable, short enough to read aloud, with their kind in front."""

import os
import secrets
import threading
from typing import Final

from modular_agent.kit.clock import utc_datetime

__all__ = ["new_id", "session_id"]


class _Randomness:
    """Random bytes of the operating system, fetched many at a time.

    Each fetch gives up the GIL, which a busy process then has to win back: for two dozen ids of a turn that cost more
    than all the rest of making them. A child process starts with none of its parent's.
    """

    SIZE: Final = 4_000  # bytes, a multiple of what an id takes

    def __init__(self) -> None:
        self._renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._hex = ""
        self._at = 0

    def take(self, size: int) -> str:
        """`size` bytes as hexadecimal digits, each byte handed out once."""
        digits = 2 * size
        with self._lock:
            if self._at + digits > len(self._hex):
                self._hex, self._at = os.urandom(self.SIZE).hex(), 0
            self._at += digits
            return self._hex[self._at - digits : self._at]


_RANDOMNESS: Final = _Randomness()


def new_id(kind: str) -> str:
    """A new identifier such as `run_1f73e8c09ab45d1e22f0`: its kind and 80 random bits."""
    return f"{kind}_{_RANDOMNESS.take(10)}"


def session_id(name: str, now_us: int) -> str:
    """A candidate session id such as `react-251022-174800-1f73e8` (name, UTC date, time, 24 random bits).

    24 bits collide within a busy second: whoever stores it tries again on a conflict.
    """
    return f"{name}-{utc_datetime(now_us):%y%m%d-%H%M%S}-{secrets.token_hex(3)}"
