"""The process between the server and the one that runs Python code: nothing outlives it.

    server ── guard ── runner (the author's code) ── whatever that starts

The guard forks the runner and does nothing but wait. It is a child subreaper (`prctl(2)`, Linux), so that a process
that detaches itself from the runner becomes the guard's child and is found. When the server dies, by whatever signal,
the life pipe ends: the guard kills everything below it and exits. When the runner ends, so does the rest. When the
guard itself is killed, the runner gets SIGKILL (`PR_SET_PDEATHSIG`) and notices the end of its input besides.
"""

import ctypes
import os
import select
import signal
import sys
from collections.abc import Callable
from typing import Final

__all__ = ["run_guarded"]

PR_SET_PDEATHSIG: Final = 1
PR_SET_CHILD_SUBREAPER: Final = 36
SIGNALLED: Final = 128  # exit code of the guard: this plus the signal that ended the runner, as a shell does it


def run_guarded(life: int, run: Callable[[], None]) -> None:
    """Calls `run` in a child that this process guards while the pipe `life` is open. Does not return in the guard."""
    prctl = _prctl()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    guard = os.getpid()
    runner = os.fork()
    if runner == 0:
        os.close(life)
        prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() != guard:  # it died before the request was in force
            os._exit(1)
        run()
    else:
        os._exit(_watch(life, runner))


def _watch(life: int, runner: int) -> int:
    """Waits for the end of the runner or of the server; returns the exit code when nothing is left."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(woken, False)
    signal.signal(signal.SIGCHLD, _ignore)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for inherited in (0, 1):  # the runner's; held open here they would hide its end
        os.close(inherited)
    code: int | None = None
    while code is None:
        code = _reap(runner)
        if code is None:
            ready, _, _ = select.select([life, woken], [], [])
            if woken in ready:
                os.read(woken, 512)
            if life in ready:
                code = 0
    _kill_rest()
    return code


def _reap(runner: int) -> int | None:
    """Collects whoever has ended; the exit code when the runner is among them."""
    code: int | None = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if pid == 0:
            return code
        if pid == runner:
            ended = os.waitstatus_to_exitcode(status)
            code = ended if ended >= 0 else SIGNALLED - ended


def _ignore(_number: int, _frame: object) -> None:
    """The wake-up pipe says what the signal says."""


def _kill_rest() -> None:
    from modular_agent.engine.tools.process_tree import kill_descendants  # psutil is needed at the end only

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps from here on
    kill_descendants(os.getpid())


def _prctl() -> Callable[[int, int], object]:
    if not sys.platform.startswith("linux"):
        return lambda _option, _value: None
    libc = ctypes.CDLL(None, use_errno=True)
    return lambda option, value: libc.prctl(option, value, 0, 0, 0)
