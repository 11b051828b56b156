"""A folder that paths cannot lead out of, and work on it that ends when its caller is cancelled."""

import asyncio
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

from modular_agent.engine.tools.builtin.tool import Refused

__all__ = ["Folder", "in_thread"]

T = TypeVar("T")


class Folder:
    """The files below `root`. Methods block. What is refused is refused without telling a path of the server."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def place(self, path: str) -> Path:
        """The real place of the relative `path`, which exists. Raises `Refused`."""
        parts = Path(path).parts
        if "\x00" in path or Path(path).is_absolute() or ".." in parts or path.startswith("~"):
            raise Refused(f"{path!r} is not a path below the folder: write it relative to it, without '..'.")
        try:
            real = (self.root / path).resolve(strict=True)
        except (OSError, RuntimeError):  # a loop of links is a RuntimeError
            raise Refused(f"There is no file {path!r}.") from None
        if not real.is_relative_to(self.root):
            raise Refused(f"There is no file {path!r}.")
        return real

    def open(self, path: str) -> BinaryIO:
        """The regular file `path`, for reading. Raises `Refused`."""
        place = self.place(path)
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        try:
            descriptor = os.open(place, flags)
        except OSError as error:
            raise Refused(f"{path!r} cannot be read: {error.strerror}.") from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise Refused(f"{path!r} is not a file.")
        return os.fdopen(descriptor, "rb")


async def in_thread(work: Callable[[Callable[[], bool]], T]) -> T:
    """Calls `work(stopped)` in a thread. When cancelled, `stopped()` turns true and the thread is waited for."""
    stopped = threading.Event()
    task = asyncio.create_task(asyncio.to_thread(work, stopped.is_set))
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            stopped.set()
            cancelled = True
    if cancelled:
        task.exception()  # seen; the cancellation is what counts
        raise asyncio.CancelledError
    return task.result()
