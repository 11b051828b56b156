"""Python files below a folder, imported under names that can collide with nobody's.

The folder is a private package: a file may import its neighbours with `from .neighbour import name`, dataclasses and
pydantic find their module in `sys.modules`, and another package called `tools` is not touched. Byte code is never
read or written, so an edit within the same second is seen. When any loaded file has changed, the next load starts a
new generation in which every file is imported afresh; what was loaded before lives on for those who hold it.

The names are the same in every process: a type of an author's file that was stored in a checkpoint is found again.
"""

import hashlib
import importlib
import importlib.util
import sys
import threading
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Final

__all__ = ["ToolModules"]

PREFIX: Final = "_modular_agent_files_"


class _SourceLoader(SourceFileLoader):
    """Compiles from the source every time, and remembers what it compiled."""

    def __init__(self, fullname: str, path: str, digests: dict[Path, "_Seen"]) -> None:
        super().__init__(fullname, path)
        self._digests = digests

    def get_code(self, fullname: str) -> CodeType | None:
        path = Path(self.path)
        seen = _Seen(path)
        self._digests[path] = seen
        return self.source_to_code(seen.source, self.path)


class _Seen:
    """A file as it was when it was read."""

    __slots__ = ("digest", "source", "stamp")

    def __init__(self, path: Path) -> None:
        self.stamp = _stamp(path)
        self.source = path.read_bytes()
        self.digest = hashlib.sha256(self.source).digest()

    def has_changed(self, path: Path) -> bool:
        """True when the content at `path` is another; a touched file with the same content is not."""
        try:
            stamp = _stamp(path)
            if stamp == self.stamp:
                return False
            changed = hashlib.sha256(path.read_bytes()).digest() != self.digest
        except OSError:
            return True
        if not changed:
            self.stamp = stamp
        return changed


def _stamp(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return (status.st_mtime_ns, status.st_size, status.st_ino)


class ToolModules(MetaPathFinder):
    """The importable files below `folder`. Safe to use from threads; `close` forgets all of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._package = f"{PREFIX}{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"
        self._current = ""
        self._seen: dict[Path, _Seen] = {}
        self._lock = threading.RLock()

    def load(self, parts: Sequence[str]) -> ModuleType:
        """The module of the file `folder/parts[0]/.../parts[-1].py`; raises whatever the import raises."""
        with self._lock:
            if not self._current or any(seen.has_changed(path) for path, seen in self._seen.items()):
                self._start_generation()
            return importlib.import_module(".".join((self._current, *parts)))

    def close(self) -> None:
        with self._lock:
            self._forget()
            if self in sys.meta_path:
                sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The protocol of `sys.meta_path`; answers for the current generation only."""
        del path, target
        if not self._current or not fullname.startswith(self._current + "."):
            return None
        place = self._folder.joinpath(*fullname[len(self._current) + 1 :].split("."))
        init = place / "__init__.py"
        if init.is_file():
            return importlib.util.spec_from_file_location(
                fullname,
                init,
                loader=_SourceLoader(fullname, str(init), self._seen),
                submodule_search_locations=[str(place)],
            )
        source = place.with_name(place.name + ".py")
        if source.is_file():
            loader = _SourceLoader(fullname, str(source), self._seen)
            return importlib.util.spec_from_file_location(fullname, source, loader=loader)
        if place.is_dir():
            spec = ModuleSpec(fullname, None, is_package=True)
            spec.submodule_search_locations = [str(place)]
            return spec
        return None

    def _start_generation(self) -> None:
        self._forget()
        is_taken = self._package in sys.modules  # by another instance for the same folder
        self._current = f"{self._package}_{id(self):x}" if is_taken else self._package
        package = ModuleType(self._current)
        package.__path__ = [str(self._folder)]
        sys.modules[self._current] = package
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def _forget(self) -> None:
        self._seen = {}
        if not self._current:
            return
        for name in [name for name in sys.modules if name == self._current or name.startswith(self._current + ".")]:
            del sys.modules[name]
        self._current = ""
