"""Ending a process's descendants, whatever they are doing."""

import os
import signal
import time
from contextlib import suppress
from typing import Final

import psutil

__all__ = ["kill_descendants", "kill_tree"]

PATIENCE: Final = 5.0  # seconds until a process that cannot be killed (in uninterruptible sleep) is given up


def kill_descendants(pid: int) -> bool:
    """Kills every descendant of `pid` and waits until they are gone; blocks. True when none is left.

    They are looked up again until there are none, because one of them may be starting another meanwhile. A zombie
    counts as gone: it executes nothing.
    """
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        alive = _living(pid)
        if not alive:
            return True
        for process in alive:
            _kill(process)
        psutil.wait_procs(alive, timeout=0.01)
    return not _living(pid)


def kill_tree(pid: int) -> bool:
    """As `kill_descendants`, and then kills `pid` itself (whose own parent reaps it)."""
    done = kill_descendants(pid)
    with suppress(ProcessLookupError):  # it ended by itself meanwhile
        os.kill(pid, signal.SIGKILL)
    return done


def _living(pid: int) -> list[psutil.Process]:
    try:
        children = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return [child for child in children if _executes(child)]


def _executes(process: psutil.Process) -> bool:
    try:
        return process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def _kill(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):  # it ended by itself meanwhile
        process.kill()
