"""A wall clock that a test sets, for a process that knows nothing of it.

`clock.environment` has the interpreter load a `sitecustomize` that adds the seconds in a file to `time.time` and
`time.time_ns`: where the product, its worker processes and every library in them read the time of day. The monotonic
clock stays as it is, as when somebody sets a machine's clock. It needs no privileges and nothing installed; what is
written in C and asks the kernel itself (`datetime.now`, SQLite's `now`) is not moved, and the product uses neither.
"""

import struct
from pathlib import Path

__all__ = ["JumpingClock"]

SITE = """\
import mmap
import struct
import time

with open({file!r}, "rb") as _handle:
    _ahead = mmap.mmap(_handle.fileno(), 8, access=mmap.ACCESS_READ)
_time_ns, _unpack = time.time_ns, struct.Struct("<q").unpack_from


def _moved_ns():
    return _time_ns() + _unpack(_ahead)[0]


time.time_ns = _moved_ns
time.time = lambda: _moved_ns() / 1e9
"""


class JumpingClock:
    """The clock; `folder` gets its two files."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "ahead"
        self._file.write_bytes(struct.pack("<q", 0))
        (folder / "sitecustomize.py").write_text(SITE.format(file=str(self._file)), encoding="utf-8")
        self.environment = {"PYTHONPATH": str(folder)}
        self.ahead = 0.0

    def jump(self, seconds: float) -> None:
        """Sets the clock forwards, or back when `seconds` is negative; processes that run see it at once."""
        self.ahead += seconds
        with self._file.open("r+b") as file:
            file.write(struct.pack("<q", int(self.ahead * 1e9)))
