"""Background tasks with an owner: bounded in number, their failures logged, all awaited before the owner is gone."""

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import structlog

__all__ = ["OwnedTasks", "TasksClosed", "TooManyTasks"]

T = TypeVar("T")

DEFAULT_LIMIT: Final = 10_000
CANCEL_PATIENCE: Final = 1.0  # seconds between two cancellations of a task that swallowed one


class TooManyTasks(RuntimeError):
    """The owner's limit is reached; the coroutine was closed without having run."""


class TasksClosed(RuntimeError):
    """The owner takes no more tasks; the coroutine was closed without having run."""


class OwnedTasks:
    """A set of tasks that outlive the call that started them, but never their owner.

    Unlike `asyncio.TaskGroup`, one task's failure is logged and leaves the others alone. Leaving the context waits
    `grace` seconds for tasks to end by themselves, then cancels them, again and again if a task swallows it.
    """

    def __init__(self, name: str, *, limit: int = DEFAULT_LIMIT, grace: float = 0.0) -> None:
        self._name = name
        self._limit = limit
        self._grace = grace
        self._tasks: set[asyncio.Task[Any]] = set()  # whatever the coroutines return
        self._closed = False
        self._log = structlog.stdlib.get_logger(__name__)

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, coroutine: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
        """Runs `coroutine` as a task. Raises `TasksClosed` or `TooManyTasks`; awaiting the task is up to the caller."""
        if self._closed:
            coroutine.close()
            raise TasksClosed(self._name)
        if len(self._tasks) >= self._limit:
            coroutine.close()
            raise TooManyTasks(f"{self._name}: {self._limit}")
        task = asyncio.get_running_loop().create_task(coroutine, name=f"{self._name}/{name}")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("task failed", task=task.get_name(), exc_info=error)

    async def close(self) -> None:
        """Takes no more tasks, and returns when the last one has ended."""
        self._closed = True
        others = self._others()
        if others and self._grace > 0:
            await asyncio.wait(others, timeout=self._grace)
        while others := self._others():
            for task in others:
                task.cancel()
            await asyncio.wait(others, timeout=CANCEL_PATIENCE)

    def _others(self) -> set[asyncio.Task[Any]]:
        """The tasks that still run, without the one that asks: it cannot wait for itself."""
        return self._tasks - {asyncio.current_task()}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
