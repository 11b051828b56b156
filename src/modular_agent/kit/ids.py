"""Identifiers: unguessable, short enough to read aloud, with their kind in front."""

import secrets

from modular_agent.kit.clock import utc_datetime

__all__ = ["new_id", "session_id"]


def new_id(kind: str) -> str:
    """A new identifier such as `run_1f73e8c09ab45d1e22f0`: its kind and 80 random bits."""
    return f"{kind}_{secrets.token_hex(10)}"


def session_id(name: str, now_us: int) -> str:
    """A candidate session id such as `react-251022-174800-1f73e8` (name, UTC date, time, 24 random bits).

    24 bits collide within a busy second: whoever stores it tries again on a conflict.
    """
    return f"{name}-{utc_datetime(now_us):%y%m%d-%H%M%S}-{secrets.token_hex(3)}"
