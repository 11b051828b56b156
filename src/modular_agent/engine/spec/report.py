"""The faults of one file, collected while it is checked."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

from modular_agent.engine.place import KeyPath, Place, fault_at, path_text
from modular_agent.engine.spec.document import Document
from modular_agent.engine.spec.shape import Shape
from modular_agent.errors import Fault, Text

__all__ = ["Report", "no_such"]


def no_such(english: str, chinese: str, name: str) -> Text:
    """That `name` stands for nothing of its kind."""
    return Text(f"there is no {english} {name!r}", f"没有{chinese} {name!r}")


class Report:
    """Collects faults. Paths are those of the specification; the places are those of the file."""

    def __init__(self, document: Document, shape: Shape) -> None:
        self._document = document
        self._indexes = shape.indexes
        self._faults: list[Fault] = list(document.faults)
        self._told = {fault.path for fault in document.faults if fault.path}
        self.extend(fault for fault in shape.faults if fault.path not in self._told)
        data = document.data()
        self._data: Mapping[str, Any] = cast("dict[str, Any]", data) if isinstance(data, dict) else {}

    @property
    def faults(self) -> list[Fault]:
        """All faults, in file order; those of other files after this one's."""
        own = self._document.file

        def order(fault: Fault) -> tuple[bool, str, int, int]:
            return (fault.file != own, fault.file or "", fault.line or 0, fault.column or 0)

        return sorted(self._faults, key=order)

    def names(self, section: str) -> tuple[str, ...]:
        """The names that the file gives in `section`, those with faults included."""
        found = self._data.get(section)
        return tuple(cast("dict[str, Any]", found)) if isinstance(found, dict) else ()

    def add(
        self,
        path: KeyPath,
        code: str,
        text: Text,
        *,
        suggestion: str | None = None,
        key: bool = False,
        offset: int | None = None,
        missing: str | None = None,
    ) -> None:
        """One fault at the value of `path` (`key`: at its key; `missing`: about a key that is not there)."""
        path = self._in_file(path)
        if path_text(path) in self._told:
            return  # a value that is not there, because its variable is missing, is told of already
        place = self._document.place(path, key=key or missing is not None, offset=offset)
        shown = None if missing is None else path_text((*path, missing))
        self._faults.append(fault_at(place, code, text, suggestion=suggestion, path=shown))

    def extend(self, faults: Iterable[Fault]) -> None:
        """Faults of other files, or that have their place already."""
        self._faults.extend(fault for fault in faults if fault not in self._faults)

    def place(self, path: KeyPath, *, offset: int | None = None) -> Place:
        """Where the value of `path` stands in the file."""
        return self._document.place(self._in_file(path), offset=offset)

    def shown(self, path: KeyPath, value: object) -> str:
        """`value` for a message, without what came from the environment."""
        return self._document.shown(self._in_file(path), value)

    def _in_file(self, path: KeyPath) -> KeyPath:
        if len(path) > 1 and isinstance(path[1], int) and path[0] in self._indexes:
            return (path[0], self._indexes[path[0]][path[1]], *path[2:])
        return path
