"""Workflows by name, and every content they ever had."""

import sqlite3
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Any, Final

import orjson

from modular_agent.kit.dataclass import dataclass
from modular_agent.storage.cache import Cache
from modular_agent.storage.models import workflow_versions, workflows
from modular_agent.storage.readers import Readers
from modular_agent.storage.repositories.searching import like_pattern
from modular_agent.storage.sql import column_list

__all__ = [
    "NewVersion",
    "VersionHead",
    "VersionRow",
    "WorkflowPage",
    "WorkflowRepository",
    "WorkflowRow",
    "put_version",
    "touch_workflow",
    "unload_workflow",
]

_COLUMNS: Final = column_list(workflows)
_VERSION_COLUMNS: Final = column_list(workflow_versions)


@dataclass(frozen=True, slots=True)
class WorkflowRow:
    """A workflow, in the order of the table's columns. Times in µs; `content_hash` is the version of new sessions."""

    workflow_id: str
    config_path: str
    content_hash: str
    loaded_at: int
    last_used: int | None
    usage_count: int
    unloaded: bool

    @classmethod
    def of(cls, values: Sequence[Any]) -> "WorkflowRow":
        """The row of SQL values in the order of the table's columns."""
        workflow_id, config_path, content_hash, loaded_at, last_used, usage_count, unloaded = values
        return cls(workflow_id, config_path, content_hash, loaded_at, last_used, usage_count, bool(unloaded))


@dataclass(frozen=True, slots=True)
class VersionRow:
    """One content of a workflow. `version` is the author's; `bundle` maps paths to texts."""

    content_hash: str
    workflow_id: str
    config_path: str
    version: str
    bundle: dict[str, str]
    created_at: int

    @classmethod
    def of(cls, values: Sequence[Any]) -> "VersionRow":
        """The row of SQL values in the order of the table's columns."""
        content_hash, workflow_id, config_path, version, bundle, created_at = values
        return cls(content_hash, workflow_id, config_path, version, orjson.loads(bundle), created_at)


@dataclass(frozen=True, slots=True)
class VersionHead:
    """A content of a workflow without its texts."""

    content_hash: str
    config_path: str
    version: str
    created_at: int


@dataclass(frozen=True, slots=True)
class WorkflowPage:
    """Some workflows in the order of their names, and how many there are."""

    workflows: list[WorkflowRow]
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVersion:
    """A content that was loaded."""

    workflow_id: str
    content_hash: str
    config_path: str
    version: str
    bundle: Mapping[str, str]
    now_us: int


def put_version(new: NewVersion) -> Callable[[sqlite3.Connection], bool]:
    """The step that makes a content the workflow's current version, and loads the workflow; True: it is a new content.

    A content that is known keeps its row, with the time it was first seen.
    """

    def step(connection: sqlite3.Connection) -> bool:
        connection.execute(
            "INSERT INTO workflows VALUES (?, ?, ?, ?, NULL, 0, 0) ON CONFLICT (workflow_id) DO UPDATE SET"
            " config_path = excluded.config_path, content_hash = excluded.content_hash,"
            " loaded_at = excluded.loaded_at, unloaded = 0",
            (new.workflow_id, new.config_path, new.content_hash, new.now_us),
        )
        done = connection.execute(
            "INSERT INTO workflow_versions VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (content_hash) DO NOTHING",
            (
                *(new.content_hash, new.workflow_id, new.config_path, new.version),
                *(orjson.dumps(dict(new.bundle)).decode(), new.now_us),
            ),
        )
        return done.rowcount == 1

    return step


def touch_workflow(workflow_id: str, *, now_us: int) -> Callable[[sqlite3.Connection], None]:
    """The step that counts one use of a workflow."""

    def step(connection: sqlite3.Connection) -> None:
        connection.execute(
            "UPDATE workflows SET usage_count = usage_count + 1, last_used = max(coalesce(last_used, 0), ?)"
            " WHERE workflow_id = ?",
            (now_us, workflow_id),
        )

    return step


def unload_workflow(workflow_id: str) -> Callable[[sqlite3.Connection], bool]:
    """The step that keeps new sessions away from a workflow; False: it was not loaded."""

    def step(connection: sqlite3.Connection) -> bool:
        done = connection.execute(
            "UPDATE workflows SET unloaded = 1 WHERE workflow_id = ? AND unloaded = 0", (workflow_id,)
        )
        return done.rowcount == 1

    return step


class WorkflowRepository:
    """Reads workflows and their versions, the former through the `cache` if there is one."""

    def __init__(self, readers: Readers, *, cache: Cache | None = None) -> None:
        self._readers = readers
        self._cache = cache

    async def get(self, workflow_id: str) -> WorkflowRow | None:
        """The workflow, an unloaded one too."""

        async def load() -> tuple[tuple[Any, ...], ...]:
            text = f"SELECT {_COLUMNS} FROM workflows WHERE workflow_id = ?"
            return tuple(await self._readers.query(text, (workflow_id,)))

        rows = await self._cached(("workflow", workflow_id), load)
        return WorkflowRow.of(rows[0]) if rows else None

    async def _cached(
        self, key: tuple[Hashable, ...], load: Callable[[], Awaitable[tuple[Any, ...]]]
    ) -> tuple[Any, ...]:
        return await load() if self._cache is None else await self._cache.read(key, load, tags=(workflows.name,))

    async def page(
        self,
        *,
        limit: int,
        offset: int = 0,
        after: str | None = None,
        search: str | None = None,
        unloaded: bool = False,
    ) -> WorkflowPage:
        """Loaded workflows (with `unloaded`, the others too) whose name or path contains `search`.

        `after` is a name: those behind it are answered; all are counted.
        """
        condition = "(?1 OR unloaded = 0) AND (?2 IS NULL OR workflow_id LIKE ?2 ESCAPE '\\'"
        condition += " OR config_path LIKE ?2 ESCAPE '\\')"
        values = (unloaded, like_pattern(search) if search else None)

        def read(connection: sqlite3.Connection) -> tuple[Any, ...]:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM workflows WHERE {condition} AND (?5 IS NULL OR workflow_id > ?5)"
                " ORDER BY workflow_id LIMIT ?3 OFFSET ?4",
                (*values, limit, offset, after),
            ).fetchall()
            total = connection.execute(f"SELECT count(*) FROM workflows WHERE {condition}", values).fetchone()[0]
            return (total, *rows)

        key = ("workflows", *values, limit, offset, after)
        total, *rows = await self._cached(key, lambda: self._readers.run(read))
        return WorkflowPage([WorkflowRow.of(row) for row in rows], total)

    async def version(self, content_hash: str) -> VersionRow | None:
        """A content by its hash."""
        rows = await self._readers.query(
            f"SELECT {_VERSION_COLUMNS} FROM workflow_versions WHERE content_hash = ?", (content_hash,)
        )
        return VersionRow.of(rows[0]) if rows else None

    async def versions(self, workflow_id: str) -> list[VersionRow]:
        """Every content of a workflow, newest first."""
        rows = await self._readers.query(
            f"SELECT {_VERSION_COLUMNS} FROM workflow_versions WHERE workflow_id = ?"
            " ORDER BY created_at DESC, rowid DESC",
            (workflow_id,),
        )
        return [VersionRow.of(row) for row in rows]

    async def version_heads(self, workflow_id: str) -> list[VersionHead]:
        """Every content of a workflow without its texts, newest first."""
        rows = await self._readers.query(
            "SELECT content_hash, config_path, version, created_at FROM workflow_versions WHERE workflow_id = ?"
            " ORDER BY created_at DESC, rowid DESC",
            (workflow_id,),
        )
        return [VersionHead(*row) for row in rows]
