"""Where the files of a workflow come from: a folder, or a bundle of texts that were read before."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Final, Protocol

from modular_agent.engine.place import closest
from modular_agent.engine.spec.errors import FileNotFound, FileTooLarge, NotUtf8, PathOutsideRoot

__all__ = ["MAX_FILE_BYTES", "BundleSource", "DirectorySource", "OverlaySource", "Source", "bundle_hash"]

MAX_FILE_BYTES: Final = 1_000_000
_MAX_SUGGESTED = 5_000  # names looked at for a suggestion


class Source(Protocol):
    """Reads files by their path below the configs root. Reading blocks: call it off the event loop."""

    def locate(self, path: str) -> str:
        """The one name of the file that `path` means: relative to the root, `/` between parts, no root's own name.

        Raises `PathOutsideRoot` or `FileNotFound`.
        """
        ...

    def read(self, path: str) -> str:
        """The text of a file. Raises a `SourceError`."""
        ...


class DirectorySource:
    """The files below `root`, and no others: symbolic links that lead out of it are refused."""

    def __init__(self, root: Path, *, max_bytes: int = MAX_FILE_BYTES) -> None:
        self._root = root.resolve()
        self._max_bytes = max_bytes

    @property
    def root(self) -> Path:
        return self._root

    def locate(self, path: str) -> str:
        parts = _parts(path)
        candidates = [parts]
        if parts[0] == self._root.name and len(parts) > 1:
            candidates.append(parts[1:])
        for candidate in candidates:
            file = self._root.joinpath(*candidate)
            if self._is_file(file, path):
                return "/".join(candidate)
        raise FileNotFound(path, suggestion=closest("/".join(candidates[-1]), self._names()))

    def read(self, path: str) -> str:
        name = self.locate(path)
        try:
            with (self._root / name).open("rb") as file:
                content = file.read(self._max_bytes + 1)
        except OSError as error:
            raise FileNotFound(path) from error
        if len(content) > self._max_bytes:
            raise FileTooLarge(path, limit=self._max_bytes)
        try:
            return content.decode("utf-8").removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            raise NotUtf8(path) from error

    def _is_file(self, file: Path, path: str) -> bool:
        try:
            resolved = file.resolve()
            if not resolved.is_relative_to(self._root):
                raise PathOutsideRoot(path)
            return resolved.is_file()
        except (OSError, RuntimeError):  # a name too long, a loop of links
            return False

    def _names(self) -> list[str]:
        return list(islice(self._walk(), _MAX_SUGGESTED))

    def _walk(self) -> Iterator[str]:
        for folder, folders, files in os.walk(self._root):
            folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
            for name in sorted(files):
                yield (Path(folder) / name).relative_to(self._root).as_posix()


class BundleSource:
    """Texts by their path, as a `LoadedWorkflow.bundle` holds them."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self._files = files

    def locate(self, path: str) -> str:
        parts = _parts(path)
        for candidate in ("/".join(parts), "/".join(parts[1:])):
            if candidate in self._files:
                return candidate
        raise FileNotFound(path, suggestion=closest("/".join(parts), self._files))

    def read(self, path: str) -> str:
        text = self._files[self.locate(path)]
        try:
            size = len(text.encode("utf-8"))
        except UnicodeEncodeError as error:
            raise NotUtf8(path) from error
        if size > MAX_FILE_BYTES:
            raise FileTooLarge(path, limit=MAX_FILE_BYTES)
        return text


class OverlaySource:
    """Some texts in front of another source: a workflow that was posted and refers to files of the folder."""

    def __init__(self, files: Mapping[str, str], *, below: Source) -> None:
        self._above = BundleSource(files)
        self._below = below

    def locate(self, path: str) -> str:
        try:
            return self._above.locate(path)
        except FileNotFound:
            return self._below.locate(path)

    def read(self, path: str) -> str:
        try:
            return self._above.read(path)
        except FileNotFound:
            return self._below.read(path)


def bundle_hash(path: str, files: Mapping[str, str]) -> str:
    """SHA-256 (64 hex digits) that names the version: of the workflow's own path and every file's path and text.

    Each part is preceded by its length in bytes, so no two bundles share an encoding.
    """
    digest = hashlib.sha256(b"modular-agent-bundle/1\n")
    for part in _encoding(path, files):
        content = part.encode("utf-8")
        digest.update(b"%d:" % len(content))
        digest.update(content)
    return digest.hexdigest()


def _encoding(path: str, files: Mapping[str, str]) -> Iterable[str]:
    yield path
    for name in sorted(files):
        yield name
        yield files[name]


def _parts(path: str) -> list[str]:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    outside = path.startswith(("/", "~")) or "\\" in path or "\0" in path or ".." in parts or ":" in path[:2]
    if outside or not parts:
        raise PathOutsideRoot(path)
    return parts
