"""Workflows: found, listed, loaded, checked, drawn and unloaded."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, Final, Self

import orjson

from modular_agent.domain.workflows.catalog import WorkflowCatalog
from modular_agent.domain.workflows.errors import (
    SessionOfOtherWorkflow,
    WorkflowNameDiffers,
    WorkflowUnknown,
    WorkflowVersionUnknown,
)
from modular_agent.domain.workflows.folder import BrokenFile, WorkflowFolder
from modular_agent.domain.workflows.views import (
    LiveState,
    difference_view,
    drawing_view,
    summary_view,
    version_view,
    workflow_view,
)
from modular_agent.domain.workflows.watching import watch_folder
from modular_agent.engine.spec.errors import SourceError, WorkflowInvalid
from modular_agent.engine.spec.loader import LoadedWorkflow
from modular_agent.engine.spec.source import DirectorySource, OverlaySource
from modular_agent.errors import Fault, InvalidInput
from modular_agent.events import RecordType
from modular_agent.kit.clock import Clock
from modular_agent.kit.dataclass import dataclass
from modular_agent.kit.pagination import Page, PageRequest, decode_cursor, encode_cursor
from modular_agent.kit.tasks import OwnedTasks
from modular_agent.storage.database import Database
from modular_agent.storage.errors import SessionUnknown
from modular_agent.storage.records import RecordFilter
from modular_agent.storage.repositories.runs import RunRepository
from modular_agent.storage.repositories.sessions import SessionRepository, SessionRow
from modular_agent.storage.repositories.workflows import VersionRow, WorkflowRow, unload_workflow
from modular_agent.storage.unit_of_work import UnitOfWork

__all__ = ["Checked", "LoadResult", "WorkflowsService"]

UNNAMED: Final = "workflow.yaml"  # what faults call a text that was given without a path
WATCH_GRACE: Final = 1.0  # seconds
_LISTING: Final = "workflows:workflow_id:asc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What checking a workflow found: the workflow, or what is wrong with it."""

    loaded: LoadedWorkflow | None
    faults: Sequence[Fault]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    """A workflow that was loaded. `is_new`: the content was not known before."""

    workflow_id: str
    config_path: str
    content_hash: str
    is_new: bool


class WorkflowsService:
    """The verbs about workflows. An async context manager: entering loads every workflow file below the configs root.

    With `watch` the files are watched and loaded again when they change; a broken edit keeps the last good version.
    `changed` is awaited before, for what else stands there.
    """

    def __init__(
        self,
        database: Database,
        *,
        catalog: WorkflowCatalog,
        clock: Clock,
        watch: bool = False,
        changed: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self._changed = changed
        self._writer = database.writer
        self._records = database.records
        self._sessions = SessionRepository(database.readers)
        self._runs = RunRepository(database.readers)
        self._catalog = catalog
        self._folder = WorkflowFolder(catalog, clock=clock)
        self._watch = watch
        self._stop = asyncio.Event()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._folder.scan()
        if self._watch:
            tasks = await self._stack.enter_async_context(OwnedTasks("workflows", limit=1, grace=WATCH_GRACE))
            self._stack.callback(self._stop.set)
            tasks.start(watch_folder(self._catalog.root, self._files_changed, stop=self._stop), name="watch")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _files_changed(self) -> None:
        if self._changed is not None:
            await self._changed()
        await self._folder.scan()

    @property
    def is_watching(self) -> bool:
        """Whether changed files are loaded again by themselves."""
        return self._watch

    @property
    def broken(self) -> list[BrokenFile]:
        """The workflow files that cannot be used, by path."""
        return self._folder.broken

    async def refresh(self) -> None:
        """Loads what is new or has changed below the configs root."""
        await self._folder.scan()

    # -- looking -----------------------------------------------------------------------------------------------

    async def page(self, request: PageRequest, *, search: str | None = None) -> Page[dict[str, Any]]:
        """Loaded workflows by name, of which `search` is a part of the name or path. Raises `InvalidCursor`."""
        after = None
        if request.cursor is not None:
            (value,) = decode_cursor(request.cursor, _LISTING, ["str"])
            after = str(value)
        found = await self._catalog.rows.page(
            limit=request.page_size + 1,
            offset=0 if after is not None else request.offset,
            after=after,
            search=search or None,
        )
        cut = Page[WorkflowRow].cut(found.workflows, request, total=found.total)
        cursor = encode_cursor(_LISTING, [cut.items[-1].workflow_id]) if cut.has_next else None
        return Page(
            items=[summary_view(row, await self._usable(row)) for row in cut.items],
            total=cut.total,
            page=cut.page,
            page_size=cut.page_size,
            has_next=cut.has_next,
            cursor=cursor,
        )

    async def _usable(self, row: WorkflowRow) -> LoadedWorkflow | None:
        """The current version; None when what it needs outside its files is gone (a variable, a module)."""
        try:
            return await self._catalog.loaded(row.content_hash)
        except (InvalidInput, SourceError):
            return None

    async def get(self, workflow_id: str) -> dict[str, Any]:
        """Everything about a loaded workflow. Raises `WorkflowUnknown`, `WorkflowInvalid`."""
        row = await self._catalog.named(workflow_id)
        loaded = await self._catalog.loaded(row.content_hash)
        return workflow_view(row, loaded, await self._catalog.rows.version_heads(workflow_id))

    async def versions(self, workflow_id: str) -> list[dict[str, Any]]:
        """Every content the workflow ever had, newest first, also after it was unloaded. Raises `WorkflowUnknown`."""
        row = await self._known(workflow_id)
        return [version_view(version, row) for version in await self._catalog.rows.version_heads(workflow_id)]

    async def difference(self, workflow_id: str, *, old: str, new: str) -> dict[str, Any]:
        """What changed between two versions (content hashes). Raises `WorkflowUnknown`, `WorkflowVersionUnknown`."""
        await self._known(workflow_id)
        first, second = await self._version(workflow_id, old), await self._version(workflow_id, new)
        return await asyncio.to_thread(difference_view, first, second)

    async def _known(self, workflow_id: str) -> WorkflowRow:
        row = await self._catalog.rows.get(workflow_id)
        if row is None:
            raise WorkflowUnknown(workflow_id=workflow_id)
        return row

    async def _version(self, workflow_id: str, content_hash: str) -> VersionRow:
        version = await self._catalog.rows.version(content_hash)
        if version is None or version.workflow_id != workflow_id:
            raise WorkflowVersionUnknown(content_hash=content_hash)
        return version

    async def drawing(
        self,
        workflow_id: str,
        *,
        content_hash: str | None = None,
        session_id: str | None = None,
        tenant: str | None = None,
    ) -> dict[str, Any]:
        """What draws a workflow: its current version, the given one, or a session's, with that session's live state.

        Raises `WorkflowUnknown`, `WorkflowVersionUnknown`, `SessionUnknown`, `SessionOfOtherWorkflow`.
        """
        live = None
        if session_id is not None:
            session = await self._session_of(workflow_id, session_id, tenant)
            live = await self._live(session)
            content_hash = content_hash or session.workflow_version
        if content_hash is None:
            content_hash = (await self._catalog.named(workflow_id)).content_hash
        else:
            await self._known(workflow_id)
            await self._version(workflow_id, content_hash)
        loaded = await self._catalog.loaded(content_hash)
        return await asyncio.to_thread(drawing_view, workflow_id, loaded, live)

    async def _session_of(self, workflow_id: str, session_id: str, tenant: str | None) -> SessionRow:
        session = await self._sessions.get(session_id, tenant=tenant)
        if session is None:
            raise SessionUnknown(session_id=session_id)
        if session.workflow_id != workflow_id:
            await self._known(workflow_id)
            raise SessionOfOtherWorkflow(session_id=session_id, found=session.workflow_id, workflow_id=workflow_id)
        return session

    async def _live(self, session: SessionRow) -> LiveState:
        newest = await self._runs.page(session.ref, limit=1)
        if not newest.runs:
            return LiveState(session_id=session.session_id)
        run = newest.runs[0]
        chosen = RecordFilter(types=(RecordType.STEP,), run_id=run.run_id)
        steps = await self._records.newest(session.ref, limit=1, chosen=chosen)
        last: Mapping[str, Any] = orjson.loads(steps[0].line) if steps else {}
        return LiveState(
            session_id=session.session_id,
            run_id=run.run_id,
            run_status=run.status.value,
            current_node=last.get("current_node"),
            node_states=last.get("node_states") or {},
        )

    # -- changing ----------------------------------------------------------------------------------------------

    async def load(self, config_path: str) -> LoadResult:
        """Makes the workflow in a file below the configs root the current version of its name.

        Raises `SourceError` (such as `PathOutsideRoot`), `WorkflowInvalid` with every fault.
        """
        loaded = await self._catalog.read(config_path)
        known = await self._catalog.rows.version(loaded.content_hash)
        loaded = await self._catalog.load(config_path)
        await self._folder.scan()  # another file may have lost the name, or this one may be mended
        return LoadResult(
            workflow_id=loaded.spec.name,
            config_path=loaded.path,
            content_hash=loaded.content_hash,
            is_new=known is None,
        )

    async def load_as(self, workflow_id: str, config_path: str | None = None) -> LoadResult:
        """As `load`, for a file that must hold `workflow_id`; without a path, the one it was loaded from.

        Raises `WorkflowUnknown`, `WorkflowNameDiffers` too.
        """
        if config_path is None:
            config_path = (await self._known(workflow_id)).config_path
        found = await self._catalog.read(config_path)
        if found.spec.name != workflow_id:
            raise WorkflowNameDiffers(config_path=found.path, found=found.spec.name, workflow_id=workflow_id)
        return await self.load(config_path)

    async def unload(self, workflow_id: str) -> None:
        """Keeps new sessions away from a workflow until it is loaded again; its sessions go on.

        Raises `WorkflowUnknown`.
        """
        done = await self._writer.commit(UnitOfWork(then=unload_workflow(workflow_id)))
        self._catalog.forget(workflow_id)
        if not done.result:
            raise WorkflowUnknown(workflow_id=workflow_id)
        await self._folder.scan()

    # -- checking ----------------------------------------------------------------------------------------------

    async def check_file(self, config_path: str) -> Checked:
        """All that is wrong with a file below the configs root. Raises `SourceError` when it cannot be read."""
        try:
            return Checked(loaded=await self._catalog.read(config_path), faults=())
        except WorkflowInvalid as error:
            return Checked(loaded=None, faults=error.faults)

    async def check_text(self, text: str, *, config_path: str | None = None) -> Checked:
        """All that is wrong with a YAML text, as if it stood at `config_path` below the configs root.

        What it refers to is read there. Nothing is stored. Raises `PathOutsideRoot`, `FileTooLarge`.
        """
        path = self._name_of(config_path)
        source = OverlaySource({path: text}, below=DirectorySource(self._catalog.root))
        try:
            loaded = await asyncio.to_thread(self._catalog.authoring.read, source, path)
        except WorkflowInvalid as error:
            return Checked(loaded=None, faults=error.faults)
        return Checked(loaded=loaded, faults=())

    async def check_document(self, document: Mapping[str, Any], *, config_path: str | None = None) -> Checked:
        """As `check_text`, for a workflow as JSON: its faults have key paths, but neither line nor column."""
        text = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS).decode()
        checked = await self.check_text(text, config_path=config_path)
        path = self._name_of(config_path)
        faults = [
            replace(fault, file=None, line=None, column=None) if fault.file == path else fault
            for fault in checked.faults
        ]
        return Checked(loaded=checked.loaded, faults=faults)

    def _name_of(self, config_path: str | None) -> str:
        """The one name of a file that need not exist; a path that leaves the root is left for the source to refuse."""
        if config_path is None or config_path.startswith("/"):
            return config_path or UNNAMED
        parts = [part for part in config_path.split("/") if part not in ("", ".")]
        if len(parts) > 1 and parts[0] == self._catalog.root.name:
            del parts[0]
        return "/".join(parts) or config_path
