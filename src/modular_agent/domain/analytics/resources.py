"""What this process uses of the machine."""

import os
from typing import Any

import psutil

__all__ = ["ProcessResources"]


class ProcessResources:
    """Reads the process's own use; blocking, for less than a millisecond."""

    def __init__(self) -> None:
        self._process = psutil.Process(os.getpid())
        self._process.cpu_percent()  # the first answer is 0: each measures since the former

    def view(self) -> dict[str, Any]:
        """CPU in percent of one core since the last look, bytes of memory, threads."""
        with self._process.oneshot():
            return {
                "cpu_percent": self._process.cpu_percent(),
                "memory_bytes": self._process.memory_info().rss,
                "threads": self._process.num_threads(),
            }
