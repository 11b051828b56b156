"""The files of the log as the mirror handles them: bytes put at their places, through descriptors kept open."""

import os
from collections import OrderedDict
from pathlib import Path
from typing import Final

__all__ = ["FileOperations", "MirrorFiles", "log_name", "log_path"]

OPEN_FILES: Final = 256
KEPT_EXCESS: Final = 256 * 1024 * 1024  # bytes


def log_path(history: Path, session_id: str, month: int) -> Path:
    """Where the log of a session and month is."""
    return history / log_name(session_id, month)


def log_name(session_id: str, month: int) -> str:
    """The same, below the folder of all logs."""
    return f"{month:06d}/{session_id}.jsonl"


class FileOperations:
    """What the mirror asks of the operating system, so that a test can refuse it. Every method may raise `OSError`."""

    def open(self, path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        return os.pwrite(descriptor, data, offset)

    def sync(self, descriptor: int) -> None:
        os.fdatasync(descriptor)

    def truncate(self, descriptor: int, length: int) -> None:
        os.ftruncate(descriptor, length)


class MirrorFiles:
    """Writes log files, by their names below `history`, and syncs them later. Belongs to the mirror's thread."""

    def __init__(self, history: Path, *, operations: FileOperations, limit: int = OPEN_FILES) -> None:
        self._history = history
        self._operations = operations
        self._limit = limit
        self._descriptors: OrderedDict[str, int] = OrderedDict()
        self._dirty: set[str] = set()
        self._folders: set[Path] = set()  # with new entries
        self.unsynced_bytes = 0

    @property
    def dirty(self) -> bool:
        return bool(self._dirty or self._folders)

    def write(self, name: str, data: bytes, offset: int) -> None:
        """Puts `data` at `offset`; the same bytes at the same place again do no harm."""
        descriptor = self._descriptor(name)
        self._dirty.add(name)
        self.unsynced_bytes += len(data)
        while data:  # a nearly full disk takes a part
            written = self._operations.pwrite(descriptor, data, offset)
            data, offset = data[written:], offset + written

    def cut_aside(self, name: str, length: int) -> None:
        """Like `cut`, but keeps what it takes away in `*.jsonl.cut`: it may be records of a database that was lost."""
        path = self._history / name
        with path.open("rb") as file:
            file.seek(length)
            excess = file.read(KEPT_EXCESS)
        if b"\n" in excess:
            with path.with_name(path.name + ".cut").open("ab") as aside:
                aside.write(excess)
        self.cut(name, length)

    def cut(self, name: str, length: int) -> None:
        """Takes away what lies behind `length`."""
        self._operations.truncate(self._descriptor(name), length)
        self._dirty.add(name)

    def sync(self) -> list[Path]:
        """Makes durable what was written since the last sync; returns the files that somebody has removed meanwhile."""
        gone: list[Path] = []
        for name in list(self._dirty):
            descriptor = self._descriptor(name)
            self._operations.sync(descriptor)
            if os.fstat(descriptor).st_nlink == 0:
                self._close(name)
                gone.append(self._history / name)
        for folder in sorted(self._folders, reverse=True):
            self._sync_folder(folder)
        self._dirty.clear()
        self._folders.clear()
        self.unsynced_bytes = 0
        return gone

    def remove(self, session_id: str) -> None:
        """Removes all files of a session; it may have been done before."""
        if not self._history.is_dir():
            return
        for folder in self._history.iterdir():
            path = folder / f"{session_id}.jsonl"
            name = f"{folder.name}/{path.name}"
            self._close(name)
            self._dirty.discard(name)
            for each in (path, path.with_name(path.name + ".cut")):
                if each.exists():
                    each.unlink()
                    self._folders.add(folder)

    def forget(self) -> None:
        """Closes everything without a sync: after a failed one no descriptor can be trusted."""
        for name in list(self._descriptors):
            self._close(name)
        self._dirty.clear()
        self.unsynced_bytes = 0

    def _descriptor(self, name: str) -> int:
        descriptor = self._descriptors.get(name)
        if descriptor is not None:
            self._descriptors.move_to_end(name)
            return descriptor
        path = self._history / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._folders |= {path.parent, self._history, self._history.parent}
        while len(self._descriptors) >= self._limit:
            self._close(next(iter(self._descriptors)))
        descriptor = self._descriptors[name] = self._operations.open(path)
        return descriptor

    def _sync_folder(self, folder: Path) -> None:
        if not folder.is_dir():
            return
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _close(self, name: str) -> None:
        descriptor = self._descriptors.pop(name, None)
        if descriptor is not None:
            os.close(descriptor)
