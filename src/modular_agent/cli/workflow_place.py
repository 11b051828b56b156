"""Where a workflow that was named on the command line is: its configs root, and its path below it."""

from pathlib import Path
from typing import Final

from modular_agent.cli.errors import NothingFound
from modular_agent.kit.dataclass import dataclass

__all__ = ["WorkflowPlace", "find_place", "find_places"]

FOLDER: Final = "workflows"
SUFFIXES: Final = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True, order=True)
class WorkflowPlace:
    """`path` is relative to `root`, with `/` between its parts."""

    root: Path
    path: str

    @property
    def shown(self) -> str:
        """The file as a person would name it from here."""
        return _shown(self.root / self.path)


def find_place(written: str, *, root: Path, root_is_given: bool) -> WorkflowPlace:
    """The place of a workflow written as a file or as a name (`react` is `workflows/react.yaml` below the root).

    A file outside the root, when nobody said what the root is, has its own: the folder above its `workflows`, else
    its folder. What does not exist is taken as a path below the root, and found missing by whoever reads it.
    """
    file = Path(written)
    if file.is_file():
        return _of_file(file, root=root, root_is_given=root_is_given)
    if "/" not in written and not file.suffix:
        for suffix in SUFFIXES:
            if (root / FOLDER / f"{written}{suffix}").is_file():
                return WorkflowPlace(root, f"{FOLDER}/{written}{suffix}")
    return WorkflowPlace(root, written)


def find_places(written: list[str], *, root: Path, root_is_given: bool) -> list[WorkflowPlace]:
    """The workflow files that the arguments name; a folder means every file in it, no argument the root's.

    Raises `NothingFound` for a folder without any.
    """
    found: list[WorkflowPlace] = []
    for name in written or [str(root)]:
        folder = Path(name)
        if not folder.is_dir():
            found.append(find_place(name, root=root, root_is_given=root_is_given))
            continue
        inside = (folder / FOLDER, folder / root.name / FOLDER)  # a configs root, or a project that has one
        where = next((each for each in inside if each.is_dir()), folder)
        files = sorted(file for file in where.rglob("*") if file.suffix in SUFFIXES and file.is_file())
        if not files:
            raise NothingFound(path=name)
        found += [_of_file(file, root=root, root_is_given=root_is_given) for file in files]
    if not found:
        raise NothingFound(path=root)
    return list(dict.fromkeys(found))


def _of_file(file: Path, *, root: Path, root_is_given: bool) -> WorkflowPlace:
    absolute = file.absolute()
    inside = root.absolute()
    if absolute.is_relative_to(inside):
        return WorkflowPlace(root, absolute.relative_to(inside).as_posix())
    if root_is_given:
        return WorkflowPlace(root, str(file))
    above = next((parent for parent in absolute.parents if parent.name == FOLDER), None)
    own = above.parent if above is not None else absolute.parent
    return WorkflowPlace(Path(_shown(own)), absolute.relative_to(own).as_posix())


def _shown(path: Path) -> str:
    """Relative to the working directory where it is below it."""
    absolute, here = path.absolute(), Path.cwd()
    return absolute.relative_to(here).as_posix() if absolute.is_relative_to(here) else str(absolute)
