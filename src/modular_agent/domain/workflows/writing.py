"""Workflow files written through the API: whole or not at all, and never over what the caller has not seen."""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson
import yaml

from modular_agent.domain.workflows.catalog import WorkflowCatalog
from modular_agent.domain.workflows.errors import (
    WorkflowChanged,
    WorkflowExists,
    WorkflowNameDiffers,
    WorkflowUnknown,
)
from modular_agent.domain.workflows.service import WorkflowsService
from modular_agent.engine.spec.document import read_document
from modular_agent.engine.spec.errors import FileNotFound, PathOutsideRoot, SourceError, WorkflowInvalid
from modular_agent.engine.spec.loader import LoadedWorkflow
from modular_agent.engine.spec.source import DirectorySource, OverlaySource
from modular_agent.errors import InvalidInput
from modular_agent.kit.dataclass import dataclass
from modular_agent.storage.repositories.workflows import WorkflowRow

__all__ = ["WorkflowSource", "WorkflowWriting", "workflow_text"]

FOLDER: Final = "workflows"
UNSAVED: Final = "workflows/new.yaml"  # what faults call a text until its name is known


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowSource:
    """A workflow's file as it stands on the disk; `etag` is what an update has to name."""

    workflow_id: str
    config_path: str
    content: str
    etag: str


class WorkflowWriting:
    """Creates and updates workflow files. Of updates at once exactly one wins; the others hear what is there now."""

    def __init__(self, workflows: WorkflowsService, *, catalog: WorkflowCatalog) -> None:
        self._workflows = workflows
        self._catalog = catalog
        self._source = DirectorySource(catalog.root)
        self._writing = asyncio.Lock()

    async def source(self, workflow_id: str) -> WorkflowSource:
        """The text of the workflow's file. Raises `WorkflowUnknown`, `SourceError`."""
        row = await self._row(workflow_id)
        text = await asyncio.to_thread(self._source.read, row.config_path)
        etag = await self._etag(row)
        return WorkflowSource(workflow_id=workflow_id, config_path=row.config_path, content=text, etag=etag)

    async def create(self, text: str) -> str:
        """Writes a new workflow below the configs root and loads it; answers its name.

        Raises `WorkflowInvalid` with every fault, `WorkflowExists`.
        """
        name = (await self._checked(text, UNSAVED)).spec.name
        path = f"{FOLDER}/{name}.yaml"
        async with self._writing:
            row = await self._catalog.rows.get(name)
            if row is not None and not row.unloaded:
                raise WorkflowExists(workflow_id=name, config_path=row.config_path)
            await self._checked(text, path)
            try:
                await asyncio.to_thread(self._write, path, text, replace=False)
            except FileExistsError:
                raise WorkflowExists(workflow_id=name, config_path=path) from None
            await self._workflows.load(path)
        return name

    async def update(self, workflow_id: str, text: str, *, seen: str) -> str:
        """Replaces the text of a workflow's file, if its version still is the one that was `seen`; answers the new one.

        Raises `WorkflowUnknown`, `WorkflowInvalid`, `WorkflowNameDiffers`, `WorkflowChanged`.
        """
        async with self._writing:
            row = await self._row(workflow_id)
            checked = await self._checked(text, row.config_path)
            if checked.spec.name != workflow_id:
                raise WorkflowNameDiffers(config_path=row.config_path, found=checked.spec.name, workflow_id=workflow_id)
            current = await self._etag(row)
            if current != seen:
                raise WorkflowChanged(workflow_id=workflow_id, current=current)
            await asyncio.to_thread(self._write, row.config_path, text, replace=True)
            return (await self._workflows.load(row.config_path)).content_hash

    async def _row(self, workflow_id: str) -> WorkflowRow:
        row = await self._catalog.rows.get(workflow_id)
        if row is None or row.unloaded:
            raise WorkflowUnknown(workflow_id=workflow_id)
        return row

    async def _etag(self, row: WorkflowRow) -> str:
        """The version of what is on the disk now; of a file that cannot be used, a hash of its text.

        Of a file that is gone it is the last version: nothing there could be overwritten unseen.
        """
        try:
            return (await self._catalog.read(row.config_path)).content_hash
        except FileNotFound:
            return row.content_hash
        except (SourceError, InvalidInput):
            return await asyncio.to_thread(self._raw_hash, row.config_path)

    def _raw_hash(self, path: str) -> str:
        try:
            content = (self._catalog.root / path).read_bytes()
        except OSError:
            content = b""
        return f"text-{hashlib.sha256(content).hexdigest()}"

    async def _checked(self, text: str, path: str) -> LoadedWorkflow:
        source = OverlaySource({path: text}, below=self._source)
        return await asyncio.to_thread(self._catalog.authoring.read, source, path)

    def _write(self, path: str, text: str, *, replace: bool) -> None:
        """Writes beside the file, syncs, then names it: a crash leaves the old file or the new one. Blocks.

        Without `replace` raises `FileExistsError` when the file is there.
        """
        root = self._catalog.root.resolve()
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.resolve().is_relative_to(root):
            raise PathOutsideRoot(path)
        temporary = target.with_name(f".{target.name}.tmp")  # hidden: nobody loads it; a left one is written over
        try:
            with temporary.open("w", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            if replace:
                temporary.replace(target.resolve())  # a symbolic link inside the root stays one
            else:
                _name_new(temporary, target)
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
        _sync_folder(target.parent)


def _name_new(temporary: Path, target: Path) -> None:
    """Gives a file a name that no other has. Raises `FileExistsError`."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: this process is the only one that writes here
        if target.exists():
            raise FileExistsError(target) from None
        temporary.replace(target)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def workflow_text(document: Mapping[str, Any]) -> str:
    """A workflow given as JSON, as YAML that means the same; as JSON where YAML would not."""
    text = yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True, width=120)
    try:
        if read_document(text).data() == document:
            return text
    except WorkflowInvalid:
        return _json_text(document)
    return _json_text(document)


def _json_text(document: Mapping[str, Any]) -> str:
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()
