"""One process owns a data path: a lock of the operating system, which ends with the process however it ends."""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Final

from modular_agent.storage.errors import DataPathInUse, DataPathUnusable

__all__ = ["DataLock"]

LOCK_NAME: Final = "modular_agent.lock"


class DataLock:
    """Holds the lock files of some folders; each contains the process id of its owner. A context manager."""

    def __init__(self, *folders: Path) -> None:
        self._paths = list(dict.fromkeys(folder.resolve() / LOCK_NAME for folder in folders))
        self._descriptors: list[int] = []

    def acquire(self) -> None:
        """Raises `DataPathInUse` with the owner's process id when another process, or another object, holds one.

        Raises `DataPathUnusable` where no lock file can be.
        """
        for path in self._paths:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except OSError as error:
                self.release()
                reason = error.strerror or type(error).__name__
                raise DataPathUnusable(path=str(path.parent), reason=reason) from error
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
                os.close(descriptor)
                self.release()
                raise DataPathInUse(pid=owner or "?") from None
            self._descriptors.append(descriptor)
            with contextlib.suppress(OSError):  # a full disk: the lock holds, its owner has no name
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.pop())

    def __enter__(self) -> "DataLock":
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
