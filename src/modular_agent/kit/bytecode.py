"""Byte code is kept on the disk whole or not at all.

Python caches what it compiles. Before 3.12.8 and 3.13.1 it did not look whether all of it was written: a file that was
cut short on a full disk stayed, and its module could not be imported ever again ("marshal data too short",
https://github.com/python/cpython/issues/126606). A server imports some of its modules late, and a full disk must not
outlast itself.
"""

import contextlib
import os
import sys
from importlib.machinery import SourceFileLoader
from typing import Any

__all__ = ["keep_whole"]

_MENDED = (3, 13, 1)  # and 3.12.8, where it does no harm


def keep_whole() -> None:
    """Has the imports of this process keep whole files only, where Python does not do so by itself."""
    if sys.version_info < _MENDED:
        SourceFileLoader.set_data = _set_data


def _set_data(self: SourceFileLoader, path: str, data: Any, *, _mode: int = 0o666) -> None:
    """Writes bytes beside their place and moves them there; gives up in silence, as what it replaces does."""
    part = f"{path}.{os.getpid()}-{id(data)}"
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 - `pathlib` is not needed otherwise
        descriptor = os.open(part, os.O_EXCL | os.O_CREAT | os.O_WRONLY, _mode & 0o666)
        try:
            with open(descriptor, "wb", buffering=0) as file:  # noqa: PTH123
                whole = file.write(data) == len(data)
            if whole:
                os.replace(part, path)  # noqa: PTH105
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part)  # noqa: PTH108
