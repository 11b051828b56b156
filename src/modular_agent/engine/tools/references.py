"""References to Python code, `module:attribute`, and what they stand for.

`tools.NAME:attribute` is the file `tools/NAME.py` below the configs root (`tools.PACKAGE.NAME` a file one folder
deeper). Any other module must be allowed by name or by a parent's name.
"""

import difflib
import importlib
import importlib.util
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from modular_agent.engine.tools.errors import (
    AttributeMissing,
    ImportFailed,
    ModuleMissing,
    NotCallable,
    ReferenceMalformed,
    ReferenceNotAllowed,
)
from modular_agent.engine.tools.syntax import Definition, definitions
from modular_agent.engine.tools.tool_modules import ToolModules
from modular_agent.kit.dataclass import dataclass

__all__ = ["CheckedReference", "Reference", "References"]

FOLDER: Final = "tools"
DOTTED: Final = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference taken apart: `text` is `module:attribute`; `attribute` may be dotted."""

    text: str
    module: str
    attribute: str

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """Raises `ReferenceMalformed`."""
        module, colon, attribute = text.partition(":")
        if not colon or not DOTTED.fullmatch(module) or not DOTTED.fullmatch(attribute):
            raise ReferenceMalformed(reference=text)
        return cls(text, module, attribute)

    @property
    def is_file(self) -> bool:
        """True when this names a file below the configs root."""
        return self.module.startswith(FOLDER + ".")

    @property
    def parts(self) -> tuple[str, ...]:
        """The path of the file below the folder `tools`, without its extension."""
        return tuple(self.module.split(".")[1:])


@dataclass(frozen=True, slots=True)
class CheckedReference:
    """What is known of a reference without importing it.

    `is_async` is None where only the import can tell (a decorated function, an allowed module). `line` is where the
    file defines the name.
    """

    reference: Reference
    file: Path | None = None
    line: int | None = None
    is_async: bool | None = None


class References:
    """Resolves references. `root` is the configs root, `allowed_modules` names of modules or of their parents.

    Every method blocks (it reads files, it imports): call it off the event loop. Safe to use from threads.
    Errors are subclasses of `BadReference`.
    """

    def __init__(self, root: Path, *, allowed_modules: Iterable[str] = ()) -> None:
        self._root = root.resolve()
        self._allowed = frozenset(name.strip() for name in allowed_modules if name.strip())
        self._modules = ToolModules(self._root / FOLDER)

    @property
    def root(self) -> Path:
        return self._root

    @property
    def allowed_modules(self) -> tuple[str, ...]:
        return tuple(sorted(self._allowed))

    def check(self, reference: str) -> CheckedReference:
        """What can be said without importing anything; raises what `load` would raise, as far as that can be seen."""
        parsed = self._permitted(reference)
        if not parsed.is_file:
            if not _module_may_exist(parsed.module):
                raise ModuleMissing(reference=reference, module=parsed.module)
            return CheckedReference(parsed)
        file = self._file(parsed)
        try:
            found, complete = definitions(file.read_bytes(), f"{parsed.module.replace('.', '/')}.py")
        except (SyntaxError, ValueError) as error:
            raise self._import_failed(parsed, error) from error
        return _checked(parsed, file, found, complete=complete)

    def load(self, reference: str) -> Any:  # whatever the author's module holds
        """The object itself. A file that changed since it was loaded is loaded again."""
        parsed = self._permitted(reference)
        module = self._import(parsed)
        value: Any = module
        for name in parsed.attribute.split("."):
            try:
                value = getattr(value, name)
            except AttributeError as error:
                raise _attribute_missing(parsed, dir(module)) from error
        return value

    def load_callable(self, reference: str) -> Callable[..., Any]:
        """As `load`; raises `NotCallable` too."""
        value = self.load(reference)
        if not callable(value):
            raise NotCallable(reference=reference, type=type(value).__name__)
        return value

    def close(self) -> None:
        """Forgets the modules that were loaded from files."""
        self._modules.close()

    def _permitted(self, text: str) -> Reference:
        reference = Reference.parse(text)
        if reference.is_file:
            return reference
        parts = reference.module.split(".")
        if not any(".".join(parts[:count]) in self._allowed for count in range(1, len(parts) + 1)):
            raise ReferenceNotAllowed(reference=text, module=reference.module)
        return reference

    def _file(self, reference: Reference) -> Path:
        """The file of a reference below the root. A link that leads out of the root counts as missing."""
        place = self._root.joinpath(FOLDER, *reference.parts)
        for candidate in (place.with_name(place.name + ".py"), place / "__init__.py"):
            file = candidate.resolve()
            if file.is_file() and file.is_relative_to(self._root):
                return file
        names = [path.stem for path in place.parent.glob("*.py")] if place.parent.is_dir() else []
        close = difflib.get_close_matches(reference.parts[-1], names, n=1)
        suggestion = ".".join((FOLDER, *reference.parts[:-1], close[0])) + f":{reference.attribute}" if close else None
        raise ModuleMissing(reference=reference.text, module=reference.module, suggestion=suggestion)

    def _import(self, reference: Reference) -> ModuleType:
        if reference.is_file:
            self._file(reference)
        try:
            if reference.is_file:
                return self._modules.load(reference.parts)
            return importlib.import_module(reference.module)
        except ModuleNotFoundError as error:
            if not reference.is_file and error.name and f"{reference.module}.".startswith(f"{error.name}."):
                raise ModuleMissing(reference=reference.text, module=reference.module) from error
            raise self._import_failed(reference, error) from error
        except (Exception, SystemExit) as error:  # an author's module may raise anything
            raise self._import_failed(reference, error) from error

    def _import_failed(self, reference: Reference, error: BaseException) -> ImportFailed:
        if isinstance(error, SyntaxError):
            text = f"{error.msg} (line {error.lineno})"
        else:
            text = str(error).replace(f"{self._root}/", "").replace(str(self._root), "")
        return ImportFailed(
            reference=reference.text,
            module=reference.module,
            error_type=type(error).__name__,
            error=text,
            line=error.lineno if isinstance(error, SyntaxError) else None,
        )


def _checked(reference: Reference, file: Path, found: dict[str, Definition], *, complete: bool) -> CheckedReference:
    definition = found.get(reference.attribute.partition(".")[0])
    if definition is None:
        if complete:
            raise _attribute_missing(reference, found)
        return CheckedReference(reference, file)
    known = {"function": False, "async_function": True}
    is_async = None if "." in reference.attribute else known.get(definition.kind)
    return CheckedReference(reference, file, definition.line, is_async)


def _attribute_missing(reference: Reference, names: Iterable[str]) -> AttributeMissing:
    close = difflib.get_close_matches(reference.attribute, [name for name in names if not name.startswith("__")], n=1)
    return AttributeMissing(
        reference=reference.text,
        module=reference.module,
        attribute=reference.attribute,
        suggestion=close[0] if close else None,
    )


def _module_may_exist(module: str) -> bool:
    """False when the top-level module does not exist; what is below a package only its import can tell."""
    top = module.partition(".")[0]
    try:
        return importlib.util.find_spec(top) is not None
    except (ImportError, ValueError):
        return True
