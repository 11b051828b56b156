"""Workflow versions: read from files, remembered in the database, and made ready to run."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from modular_agent.domain.workflows.errors import WorkflowUnknown, WorkflowVersionUnknown
from modular_agent.engine.authoring import Authoring
from modular_agent.engine.registry import WorkflowRegistry
from modular_agent.engine.spec.loader import LoadedWorkflow, hash_with_agent, with_session_agent
from modular_agent.engine.spec.source import BundleSource, DirectorySource
from modular_agent.engine.workflow import Workflow
from modular_agent.kit.clock import Clock
from modular_agent.storage.database import Database
from modular_agent.storage.repositories.workflows import NewVersion, WorkflowRepository, WorkflowRow, put_version
from modular_agent.storage.unit_of_work import UnitOfWork

__all__ = ["WorkflowCatalog"]

KEPT_VERSIONS: Final = 256
NO_CONFIG: Final[Mapping[str, Any]] = MappingProxyType({})
SETTLED_NS: Final = 50_000_000  # file systems count time in steps of some milliseconds
Signature = tuple[tuple[str, int, int, int], ...]


@dataclass(slots=True, eq=False)
class _Read:
    """A file as it was read last, how its files looked then, and whether this is the current version of its name."""

    loaded: LoadedWorkflow
    signature: Signature | None
    is_current: bool = False


class WorkflowCatalog:
    """Finds the version that a path, a name or a session means.

    A version is stored with the text of every file it consists of, so that a session runs the same one after the
    files have changed or gone.
    """

    def __init__(self, database: Database, *, registry: WorkflowRegistry, authoring: Authoring, clock: Clock) -> None:
        self._writer = database.writer
        self._rows = WorkflowRepository(database.readers, cache=database.cache)
        self._registry = registry
        self._authoring = authoring
        self._clock = clock
        self._source = DirectorySource(authoring.root)
        self._files: dict[str, _Read] = {}  # by the one name of each file
        self._storing = asyncio.Lock()
        self._checked: OrderedDict[str, LoadedWorkflow] = OrderedDict()  # by content hash

    @property
    def root(self) -> Path:
        return self._authoring.root

    @property
    def rows(self) -> WorkflowRepository:
        return self._rows

    @property
    def authoring(self) -> Authoring:
        return self._authoring

    async def prepare(self) -> None:
        """Makes ready what the first runs will need: worker processes, clients of models."""
        await self._registry.prepare()

    async def read(self, path: str) -> LoadedWorkflow:
        """The workflow in a file below the configs root, checked; nothing is stored. Raises as `load`."""
        return (await self._newest(path)).loaded

    async def load(self, path: str) -> LoadedWorkflow:
        """The workflow in a file below the configs root, as the current version of its name.

        Raises `SourceError` when the file cannot be read, `WorkflowInvalid` with every fault.
        """
        read = await self._newest(path)
        if not read.is_current:
            async with self._storing:
                read = await self._newest(path)  # meanwhile it may have been stored, or changed again
                if not read.is_current:
                    await self._store(read)
        return read.loaded

    async def _newest(self, path: str) -> _Read:
        name, read = await asyncio.to_thread(self._read, path)
        self._files[name] = read
        return read

    def _read(self, path: str) -> tuple[str, _Read]:
        name = self._source.locate(path)
        known = self._files.get(name)
        if known is not None and known.signature == _signature(self.root, known.loaded.bundle) is not None:
            return name, known
        began = time.time_ns()
        loaded = self._authoring.read(self._source, name)
        return name, _Read(loaded, _signature(self.root, loaded.bundle, settled_before=began - SETTLED_NS))

    async def _store(self, read: _Read) -> None:
        loaded = read.loaded
        row = await self._rows.get(loaded.spec.name)
        if row is None or row.unloaded or (row.content_hash, row.config_path) != (loaded.content_hash, loaded.path):
            await self._writer.commit(UnitOfWork(then=put_version(self._version(loaded))))
        self.forget(loaded.spec.name)  # another file may have held the name
        read.is_current = True
        self._keep(loaded)

    def forget(self, workflow_id: str) -> None:
        """Has the next `load` make its file the current version of the name again (after it was unloaded)."""
        for read in self._files.values():
            if read.loaded.spec.name == workflow_id:
                read.is_current = False

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
        known = self._checked.get(content_hash)
        if known is not None:
            self._checked.move_to_end(content_hash)
            return known
        row = await self._rows.version(content_hash)
        if row is None:
            raise WorkflowVersionUnknown(content_hash=content_hash)
        loaded = await asyncio.to_thread(self._authoring.read, BundleSource(row.bundle), row.config_path)
        self._keep(loaded)
        return loaded

    def _keep(self, loaded: LoadedWorkflow) -> None:
        self._checked[loaded.content_hash] = loaded
        self._checked.move_to_end(loaded.content_hash)
        if len(self._checked) > KEPT_VERSIONS:
            self._checked.popitem(last=False)

    async def workflow(self, content_hash: str, config: Mapping[str, Any] = NO_CONFIG) -> Workflow:
        """A stored version, ready to run; with the agent (of the version there) that a session's `config` names."""
        agent_hash: str | None = config.get("agent_version")
        whole = content_hash if agent_hash is None else hash_with_agent(content_hash, agent_hash)
        ready = self._registry.ready(whole)
        if ready is not None:
            return ready
        loaded = await self.loaded(content_hash)
        if agent_hash is not None:
            loaded = with_session_agent(loaded, await self.loaded(agent_hash))
        return await self._registry.workflow(loaded)

    async def ready(self, loaded: LoadedWorkflow) -> Workflow:
        """A loaded version, ready to run."""
        return await self._registry.workflow(loaded)


def _signature(root: Path, bundle: Mapping[str, str], *, settled_before: int | None = None) -> Signature | None:
    """How the files of a bundle look: times of change and size. Blocks.

    None when one is gone, or was changed after `settled_before` (ns): what was read of it may be older than that.
    """
    try:
        stats = [(name, (root / name).stat()) for name in bundle]
    except OSError:
        return None
    if settled_before is not None and any(
        max(stat.st_mtime_ns, stat.st_ctime_ns) > settled_before for _, stat in stats
    ):
        return None
    return tuple((name, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size) for name, stat in stats)
