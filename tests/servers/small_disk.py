"""A real small disk, filled, emptied and made read-only as a test wants: a tmpfs in a mount namespace of its own.

    with SmallDisk(tmp_path / "data", megabytes=8) as disk:
        disk.fill()                       # what is written now meets ENOSPC
        disk.free()
        disk.read_only(); disk.writable()

It needs no privileges where user namespaces are allowed (`unshare -rm`), else those of root (`unshare -m`). A process
sees the disk at `folder` when it is started with `disk.prefix` in front of its command; everybody else at `disk.seen`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["NoSmallDisk", "SmallDisk"]

WAYS = (("-r", "-m"), ("-m",))
QUERY = """
import json, sqlite3, sys
path, sql, parameters = json.load(sys.stdin)
rows = sqlite3.connect(f"file:{path}?mode=ro", uri=True).execute(sql, parameters).fetchall()
print(json.dumps([[{"bytes": v.decode("utf-8")} if isinstance(v, bytes) else v for v in row] for row in rows]))
"""


class NoSmallDisk(Exception):
    """This machine lets nobody mount a disk; the message says what was tried."""


class SmallDisk:
    """The disk; a context manager that holds it. Raises `NoSmallDisk`."""

    def __init__(self, folder: Path, *, megabytes: int) -> None:
        self.folder = folder
        self._megabytes = megabytes
        self._keeper: subprocess.Popen[str] | None = None  # a shell in the namespace, which lives as long as it
        self._flags: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        tried: list[str] = []
        for flags in WAYS:
            self._flags = flags
            try:
                self._open(flags)
            except (OSError, NoSmallDisk) as error:
                tried.append(f"unshare {' '.join(flags)}: {error}")
                self._close()
            else:
                return self
        raise NoSmallDisk("; ".join(tried))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _open(self, flags: tuple[str, ...]) -> None:
        self._keeper = subprocess.Popen(
            ["unshare", *flags, "sh"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._say(f"mount -t tmpfs -o size={self._megabytes}m tmpfs '{self.folder}'")

    def _close(self) -> None:
        if self._keeper is not None:
            self._keeper.communicate()  # the end of its input is its end
            self._keeper = None

    def _say(self, command: str) -> None:
        """Has the shell in the namespace do something. Raises `NoSmallDisk` with what it said."""
        assert self._keeper is not None
        assert self._keeper.stdin is not None
        assert self._keeper.stdout is not None
        try:
            self._keeper.stdin.write(f'{command}; echo "ended $?"\n')
            self._keeper.stdin.flush()
        except BrokenPipeError:
            raise NoSmallDisk(self._keeper.stdout.read().strip()) from None
        said: list[str] = []
        for line in self._keeper.stdout:
            if line.startswith("ended "):
                if line != "ended 0\n":
                    raise NoSmallDisk(f"{command}: {''.join(said).strip()}")
                return
            said.append(line)
        raise NoSmallDisk("".join(said).strip())

    @property
    def prefix(self) -> tuple[str, ...]:
        """What stands in front of the command of a process that is to see the disk."""
        assert self._keeper is not None
        user = ("-U", "--preserve-credentials") if "-r" in self._flags else ()
        return ("nsenter", "-t", str(self._keeper.pid), *user, "-m", f"--wd={self.folder.parent}")

    @property
    def seen(self) -> Path:
        """Where processes outside of the namespace see the disk."""
        assert self._keeper is not None
        return Path(f"/proc/{self._keeper.pid}/root{self.folder}")

    @property
    def _ballast(self) -> Path:
        return self.seen / "ballast"

    def room(self) -> int:
        """How many bytes are free."""
        disk = os.statvfs(self.seen)
        return disk.f_bavail * disk.f_frsize

    def fill(self, *, leave: int = 0) -> None:
        """Writes a file that takes all room but `leave` bytes."""
        with self._ballast.open("ab", buffering=0) as file:
            for size in (1 << 20, 1 << 12):
                while self.room() - leave >= size:
                    file.write(b"x" * size)

    def free(self) -> None:
        """Takes that file away."""
        self._ballast.unlink()

    def read_only(self) -> None:
        """Raises `NoSmallDisk` where that is not allowed (a remount needs root on some kernels)."""
        self._say(f"mount -o remount,ro '{self.folder}'")

    def writable(self) -> None:
        self._say(f"mount -o remount,rw '{self.folder}'")

    def query(self, database: Path, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Rows of a SQLite database on the disk, read inside of the namespace: SQLite follows no path through /proc."""
        done = subprocess.run(
            [*self.prefix, sys.executable, "-c", QUERY],
            input=json.dumps([str(database), sql, parameters]),
            capture_output=True,
            text=True,
            check=True,
        )
        rows: list[list[Any]] = json.loads(done.stdout)
        return [tuple(v["bytes"].encode() if isinstance(v, dict) else v for v in row) for row in rows]
