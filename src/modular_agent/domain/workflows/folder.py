"""The workflow files below the configs root: found, loaded, and what is wrong with those that cannot be used."""

import asyncio
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Final, TypeAlias

import structlog

from modular_agent.domain.workflows.catalog import WorkflowCatalog
from modular_agent.domain.workflows.errors import WorkflowNameDiffers, WorkflowNameTaken
from modular_agent.engine.spec.errors import FileNotFound, SourceError
from modular_agent.engine.spec.loader import LoadedWorkflow
from modular_agent.errors import AgentError, InvalidInput
from modular_agent.kit.clock import Clock
from modular_agent.kit.dataclass import dataclass
from modular_agent.storage.repositories.workflows import WorkflowRow

__all__ = ["BrokenFile", "WorkflowFolder", "workflow_paths"]

FOLDER: Final = "workflows"
MAX_FILES: Final = 10_000
_SUFFIXES: Final = frozenset({".yaml", ".yml"})
# What is wrong with each file, and the workflow whose last good version stays.
_Broken: TypeAlias = dict[str, tuple[str | None, AgentError]]
_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenFile:
    """A workflow file that cannot be used. `workflow_id` is the workflow whose last good version stays, if any.

    `since` (µs) is when this error was seen first.
    """

    config_path: str
    workflow_id: str | None
    error: AgentError
    since: int


class WorkflowFolder:
    """Keeps what is loaded equal to the files.

    A file whose name another file holds already, and a file that is gone or broken, are told in `broken`; the last good
    version of a workflow stays. What was unloaded stays so until somebody loads it.
    """

    def __init__(self, catalog: WorkflowCatalog, *, clock: Clock) -> None:
        self._catalog = catalog
        self._clock = clock
        self._broken: dict[str, BrokenFile] = {}
        self._scanning = asyncio.Lock()

    @property
    def broken(self) -> list[BrokenFile]:
        """The files that cannot be used, in the order of their paths."""
        return [self._broken[path] for path in sorted(self._broken)]

    async def scan(self) -> None:
        """Loads every workflow file that is new or has changed; notes those that cannot be used."""
        async with self._scanning:
            page = await self._catalog.rows.page(limit=MAX_FILES, unloaded=True)
            rows = {row.workflow_id: row for row in page.workflows}
            names = {row.config_path: row.workflow_id for row in page.workflows if not row.unloaded}
            paths = await asyncio.to_thread(workflow_paths, self._catalog.root)
            broken = _Broken()
            found: dict[str, list[LoadedWorkflow]] = {}
            for path in [*paths, *sorted(names.keys() - set(paths))]:
                try:
                    loaded = await self._catalog.read(path)
                    found.setdefault(loaded.spec.name, []).append(loaded)
                except (SourceError, InvalidInput) as error:
                    broken[path] = (names.get(path), error)
            for name, candidates in found.items():
                await self._settle(rows.get(name), candidates, broken)
            _note_renamed(rows.values(), found, broken)
            self._tell(broken)

    async def _settle(self, row: WorkflowRow | None, candidates: Sequence[LoadedWorkflow], broken: _Broken) -> None:
        """Loads one of the files that have the same name, and notes the others."""
        name = candidates[0].spec.name
        if row is not None and row.unloaded:
            return
        owner = candidates[0].path
        if row is not None:
            _, fault = broken.get(row.config_path, (None, None))
            if isinstance(fault, FileNotFound):
                broken.pop(row.config_path)  # the file was renamed
            elif fault is not None or any(each.path == row.config_path for each in candidates):
                owner = row.config_path
        for each in candidates:
            if each.path != owner:
                broken[each.path] = (None, WorkflowNameTaken(workflow_id=name, config_path=owner))
            elif row is None or (row.content_hash, row.config_path) != (each.content_hash, each.path):
                try:
                    await self._catalog.load(each.path)
                except (SourceError, InvalidInput) as error:  # changed again since it was read
                    broken[each.path] = (None if row is None else name, error)
                else:
                    _log.info("workflow loaded", workflow_id=name, config_path=owner, content_hash=each.content_hash)

    def _tell(self, broken: _Broken) -> None:
        """Remembers what is broken; logs what is newly so, or in another way."""
        known, self._broken = self._broken, {}
        for path, (name, error) in broken.items():
            before = known.get(path)
            if before is not None and (before.workflow_id, str(before.error)) == (name, str(error)):
                self._broken[path] = before
                continue
            self._broken[path] = BrokenFile(config_path=path, workflow_id=name, error=error, since=self._clock.now_us())
            _log.warning("workflow file cannot be used", config_path=path, workflow_id=name, error=str(error))
        for path in known.keys() - broken.keys():
            _log.info("workflow file can be used again", config_path=path)


def _note_renamed(rows: Iterable[WorkflowRow], found: Mapping[str, Sequence[LoadedWorkflow]], broken: _Broken) -> None:
    """Notes loaded workflows whose file holds another one by now."""
    holds = {loaded.path: name for name, candidates in found.items() for loaded in candidates}
    for row in rows:
        if not row.unloaded and row.workflow_id not in found and row.config_path in holds:
            name, path = row.workflow_id, row.config_path
            broken[path] = (name, WorkflowNameDiffers(config_path=path, found=holds[path], workflow_id=name))


def workflow_paths(root: Path) -> list[str]:
    """The workflow files below `root`, `workflows/**/*.y(a)ml`, relative to it and sorted; hidden ones left out.

    Folders that are symbolic links are not entered. Blocks.
    """
    return sorted(islice(_walk(root), MAX_FILES))


def _walk(root: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(root / FOLDER):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if Path(name).suffix.lower() in _SUFFIXES and not name.startswith("."):
                yield (Path(folder) / name).relative_to(root).as_posix()
