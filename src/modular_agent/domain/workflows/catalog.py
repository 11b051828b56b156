"""Workflow versions: read from files, remembered in the database, and made ready to run."""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from modular_agent.domain.workflows.errors import WorkflowUnknown, WorkflowVersionUnknown
from modular_agent.engine.registry import WorkflowRegistry
from modular_agent.engine.spec.known import References
from modular_agent.engine.spec.loader import LoadedWorkflow, load_workflow
from modular_agent.engine.spec.source import BundleSource, DirectorySource, Source
from modular_agent.engine.workflow import Workflow
from modular_agent.kit.clock import Clock
from modular_agent.storage.database import Database
from modular_agent.storage.repositories.workflows import NewVersion, WorkflowRepository, WorkflowRow, put_version
from modular_agent.storage.unit_of_work import UnitOfWork

__all__ = ["Authoring", "WorkflowCatalog"]

Signature = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Authoring:
    """What workflow files are checked against: the configs root, variables, code and built-in tools they may use."""

    root: Path
    environment: Mapping[str, str]
    references: References
    builtin_tools: Collection[str]

    def read(self, source: Source, path: str) -> LoadedWorkflow:
        """Loads and checks a workflow. Blocks. Raises `SourceError` or `WorkflowInvalid`."""
        return load_workflow(
            source,
            path,
            environment=self.environment,
            references=self.references,
            builtin_tools=self.builtin_tools,
        )


@dataclass(frozen=True, slots=True)
class _Read:
    """A file as it was read last, and how its files looked then."""

    loaded: LoadedWorkflow
    signature: Signature | None


class WorkflowCatalog:
    """Finds the version that a path, a name or a session means.

    A version is stored with the text of every file it consists of, so that a session runs the same one after the
    files have changed or gone.
    """

    def __init__(self, database: Database, *, registry: WorkflowRegistry, authoring: Authoring, clock: Clock) -> None:
        self._writer = database.writer
        self._rows = WorkflowRepository(database.readers)
        self._registry = registry
        self._authoring = authoring
        self._clock = clock
        self._source = DirectorySource(authoring.root)
        self._files: dict[str, _Read] = {}

    @property
    def root(self) -> Path:
        return self._authoring.root

    @property
    def rows(self) -> WorkflowRepository:
        return self._rows

    @property
    def authoring(self) -> Authoring:
        return self._authoring

    async def load(self, path: str) -> LoadedWorkflow:
        """The workflow in a file below the configs root, as the current version of its name.

        Raises `SourceError` when the file cannot be read, `WorkflowInvalid` with every fault.
        """
        known = self._files.get(path)
        read = await asyncio.to_thread(self._read, path, known)
        if read is not known:
            await self._writer.commit(UnitOfWork(then=put_version(self._version(read.loaded))))
            self._files[path] = read
        return read.loaded

    def _read(self, path: str, known: _Read | None) -> _Read:
        if known is not None and _signature(self.root, known.loaded.bundle) == known.signature:
            return known
        loaded = self._authoring.read(self._source, path)
        return _Read(loaded, _signature(self.root, loaded.bundle))

    def forget_file(self, path: str) -> None:
        """Has the next `load` of a path store its version again (after it was unloaded)."""
        self._files.pop(path, None)

    def _version(self, loaded: LoadedWorkflow) -> NewVersion:
        return NewVersion(
            workflow_id=loaded.spec.name,
            content_hash=loaded.content_hash,
            config_path=loaded.path,
            version=loaded.spec.version,
            bundle=loaded.bundle,
            now_us=self._clock.now_us(),
        )

    async def named(self, workflow_id: str) -> WorkflowRow:
        """The loaded workflow of that name. Raises `WorkflowUnknown`."""
        row = await self._rows.get(workflow_id)
        if row is None or row.unloaded:
            raise WorkflowUnknown(workflow_id=workflow_id)
        return row

    async def loaded(self, content_hash: str) -> LoadedWorkflow:
        """A stored version, checked again from its stored texts. Raises `WorkflowVersionUnknown`, `WorkflowInvalid`."""
        ready = self._registry.ready(content_hash)
        if ready is not None:
            return ready.loaded
        row = await self._rows.version(content_hash)
        if row is None:
            raise WorkflowVersionUnknown(content_hash=content_hash)
        return await asyncio.to_thread(self._authoring.read, BundleSource(row.bundle), row.config_path)

    async def workflow(self, content_hash: str) -> Workflow:
        """A stored version, ready to run."""
        ready = self._registry.ready(content_hash)
        if ready is not None:
            return ready
        return await self._registry.workflow(await self.loaded(content_hash))

    async def ready(self, loaded: LoadedWorkflow) -> Workflow:
        """A loaded version, ready to run."""
        return await self._registry.workflow(loaded)


def _signature(root: Path, bundle: Mapping[str, str]) -> Signature | None:
    """How the files of a bundle look: time of change and size. None when one is gone. Blocks."""
    try:
        stats = [(name, (root / name).stat()) for name in bundle]
    except OSError:
        return None
    return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in stats)
