"""Packages whose `__init__` runs when somebody asks it for a name, not when one of their modules is imported.

Python runs a package's `__init__` before any module below it. Where that only gathers names for those who want them,
one who needs a single module pays for all. Everything is still the package's own code, run once, at the latest moment:
what `importlib.util.LazyLoader` does, which does not let a package's modules be imported before it has run.
(https://docs.python.org/3.11/library/importlib.html#importlib.util.LazyLoader)
"""

import sys
import threading
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from importlib.abc import Loader

__all__ = ["LatePackages"]

_LATE: Final = "__modular_agent_late__"


class LatePackages:
    """Finds the packages that are named `names`; those that are already imported stay as they are."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = frozenset(names)

    def install(self) -> None:
        """Has the imports of this process from now on ask it first."""
        sys.meta_path.insert(0, self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of one of the packages; None for all others."""
        if fullname not in self._names:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None and spec.submodule_search_locations is not None:
            spec.loader = cast("Loader", _Late(spec.loader))  # duck-typed: `importlib.abc` imports much
        return spec


class _Late:
    """Leaves a package's code to be run by `loader`."""

    def __init__(self, loader: "Loader") -> None:
        self.loader = loader
        self._lock = threading.RLock()
        self._runs = False

    def create_module(self, spec: ModuleSpec) -> None:
        """Leaves it to Python."""

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self.loader  # who looks at the package sees nothing unusual
        module.__dict__[_LATE] = self
        module.__class__ = _LatePackage

    def run(self, module: ModuleType) -> None:
        """Runs the package's code, unless that was done, or is being done by this thread."""
        with self._lock:
            if self._runs or _LATE not in module.__dict__:
                return
            self._runs = True
            try:
                self.loader.exec_module(module)
            finally:
                self._runs = False
            del module.__dict__[_LATE]
            module.__class__ = ModuleType


class _LatePackage(ModuleType):
    """A package that has not run: asked for a name that it does not have, it does."""

    def __getattr__(self, name: str) -> Any:  # whatever the package holds
        late: _Late | None = self.__dict__.get(_LATE)
        if late is not None:
            late.run(self)
        return ModuleType.__getattribute__(self, name)
