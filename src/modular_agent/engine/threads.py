"""The threads of this process, watched: a run whose synchronous code still executes in one has not stopped.

Nothing can end a thread from outside. Our own nodes run synchronous code in worker processes; a user's LangGraph graph
runs it in the event loop's threads, so these say to which run they belong.
"""

import asyncio
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, ParamSpec, TypeVar

from modular_agent.engine.live import LiveNodes

__all__ = ["WatchedThreads", "threads_of"]

P = ParamSpec("P")
T = TypeVar("T")
MAX_THREADS: Final = 64

_OWNER: Final[ContextVar[tuple[LiveNodes, str]]] = ContextVar("modular_agent_threads_of")


class WatchedThreads(ThreadPoolExecutor):
    """An event loop's default executor: what is submitted below `threads_of` is live until it has ended."""

    def __init__(self) -> None:
        super().__init__(MAX_THREADS, thread_name_prefix="work")

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        owner = _OWNER.get(None)
        future = super().submit(fn, *args, **kwargs)
        if owner is not None:
            live, node = owner
            _leave_when_done(future, live.enter(node))
        return future


def _leave_when_done(future: "Future[Any]", leave: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()

    def done(_: object) -> None:  # in the thread
        if not loop.is_closed():
            loop.call_soon_threadsafe(leave)

    future.add_done_callback(done)


@contextmanager
def threads_of(live: LiveNodes, node: str) -> Generator[None]:
    """Has what is executed in threads from here on belong to `node` of a run."""
    token = _OWNER.set((live, node))
    try:
        yield
    finally:
        _OWNER.reset(token)
