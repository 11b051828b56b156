"""Checkpoints, the writes of finished tasks after them, and the items of append-only channels.

What they contain is the engine's business: here it is bytes. Writing goes through a unit of work (`put_*`), so that a
task's writes commit together with its records.
"""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import orjson

from modular_agent.events import SessionRef
from modular_agent.kit.dataclass import dataclass
from modular_agent.storage.models import checkpoint_writes, checkpoints, log_items
from modular_agent.storage.readers import Readers
from modular_agent.storage.sql import column_list
from modular_agent.storage.unit_of_work import CommonStep, Conflict, UnitOfWork

__all__ = [
    "CheckpointRepository",
    "CheckpointRow",
    "CheckpointSummary",
    "Extent",
    "SegmentItems",
    "StoredCheckpoint",
    "WriteRow",
    "checkpoint_extent",
    "put_checkpoint",
    "put_log_items",
    "put_writes",
    "save_checkpoint",
    "settled_checkpoint",
]

_COLUMNS: Final = column_list(checkpoints)
_WRITE_COLUMNS: Final = column_list(checkpoint_writes)
_SETTLED: Final = (
    "WITH newest(n, id) AS (SELECT j.value, (SELECT max(checkpoint_id) FROM checkpoints"
    " WHERE session_n = j.value AND ns = '') FROM json_each(?) j)"
    " SELECT json_group_array(json_array(n, id)) FROM newest WHERE id IS NOT NULL AND NOT EXISTS"
    " (SELECT 1 FROM checkpoint_writes WHERE session_n = n AND ns = '' AND checkpoint_id = id)"
)


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """A checkpoint, in the order of the table's columns. `ns` is "" for the root graph.

    `root_id` is None in the root namespace; for a sub-graph it is the root checkpoint that the sub-graph belongs to.
    `created_at` is in µs. `type` names the encoding of `checkpoint`; `metadata` is JSON.
    """

    session_n: int
    ns: str
    checkpoint_id: str
    parent_id: str | None
    root_id: str | None
    run_id: str | None
    step: int
    source: str
    created_at: int
    saved_name: str | None
    type: str
    checkpoint: bytes
    metadata: bytes

    def values(self) -> tuple[Any, ...]:
        """The SQL values."""
        return (
            *(self.session_n, self.ns, self.checkpoint_id, self.parent_id, self.root_id, self.run_id, self.step),
            *(self.source, self.created_at, self.saved_name, self.type, self.checkpoint, self.metadata),
        )


@dataclass(frozen=True, slots=True)
class WriteRow:
    """One value a finished task wrote to a channel, in the order of the table's columns."""

    session_n: int
    ns: str
    checkpoint_id: str
    task_id: str
    idx: int
    task_path: str
    channel: str
    type: str
    value: bytes

    def values(self) -> tuple[Any, ...]:
        """The SQL values."""
        return (
            *(self.session_n, self.ns, self.checkpoint_id, self.task_id, self.idx),
            *(self.task_path, self.channel, self.type, self.value),
        )


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A checkpoint with its pending writes, which are ordered by (task_path, task_id, idx)."""

    session: SessionRef
    row: CheckpointRow
    writes: tuple[WriteRow, ...]


@dataclass(frozen=True, slots=True)
class CheckpointSummary:
    """A checkpoint of the root graph without its contents. `size` is in bytes."""

    checkpoint_id: str
    parent_id: str | None
    run_id: str | None
    step: int
    source: str
    created_at: int
    saved_name: str | None
    size: int


@dataclass(frozen=True, slots=True)
class SegmentItems:
    """A part of an append-only channel; `more` says that the segment has grown since."""

    values: list[bytes]
    more: bool


def put_checkpoint(unit: UnitOfWork[Any], row: CheckpointRow) -> None:
    """Stores a checkpoint, or replaces the one with its id (which keeps its saved name and its time)."""
    unit.insert(checkpoints, row.values(), conflict=Conflict.REPLACE)


def put_writes(unit: UnitOfWork[Any], rows: Sequence[WriteRow], *, replace: bool) -> None:
    """Stores a task's writes; those that are there already are replaced or kept."""
    conflict = Conflict.REPLACE if replace else Conflict.IGNORE
    for row in rows:
        unit.insert(checkpoint_writes, row.values(), conflict=conflict)


def put_log_items(
    unit: UnitOfWork[Any],
    session: SessionRef,
    segment: str,
    *,
    start: int,
    values: Sequence[bytes],
    conflict: Conflict = Conflict.REPLACE,
) -> None:
    """Stores the items `start`, `start + 1`, ... of a segment of an append-only channel."""
    for position, value in enumerate(values, start):
        unit.insert(log_items, (session.n, segment, position, value), conflict=conflict)


def save_checkpoint(
    session: SessionRef, *, name: str, checkpoint_id: str | None = None
) -> Callable[[sqlite3.Connection], str | None]:
    """The step that marks a root checkpoint (the newest, unless one is given) as saved; pruning then keeps it.

    Its result is the checkpoint's id, or None when there is none.
    """

    def step(connection: sqlite3.Connection) -> str | None:
        rows = connection.execute(
            "UPDATE checkpoints SET saved_name = ?1 WHERE session_n = ?2 AND ns = '' AND checkpoint_id = coalesce(?3,"
            " (SELECT max(checkpoint_id) FROM checkpoints WHERE session_n = ?2 AND ns = '')) RETURNING checkpoint_id",
            (name, session.n, checkpoint_id),
        ).fetchall()
        return rows[0][0] if rows else None

    return step


def settled_checkpoint(session: SessionRef) -> CommonStep[SessionRef, str | None]:
    """The step that answers the root graph's newest checkpoint; None when tasks have written something after it."""
    return CommonStep(_settled_checkpoints, session, apart=True)


def _settled_checkpoints(
    connection: sqlite3.Connection, sessions: Sequence[SessionRef]
) -> list[str | Exception | None]:
    (found,) = connection.execute(_SETTLED, (orjson.dumps([session.n for session in sessions]).decode(),)).fetchone()
    settled: dict[int, str] = dict(orjson.loads(found))
    return [settled.get(session.n) for session in sessions]


class Extent(NamedTuple):
    """What is stored of a root checkpoint and the sub-graphs under it: it grows as long as a run goes on from there."""

    checkpoints: int
    writes: int
    is_newest: bool


def checkpoint_extent(connection: sqlite3.Connection, session: SessionRef, checkpoint_id: str) -> Extent:
    """Nothing at all when there is no such checkpoint."""
    row = connection.execute(
        "SELECT count(*), coalesce(sum((SELECT count(*) FROM checkpoint_writes w WHERE w.session_n = c.session_n"
        " AND w.ns = c.ns AND w.checkpoint_id = c.checkpoint_id)), 0), NOT EXISTS (SELECT 1 FROM checkpoints n"
        " WHERE n.session_n = ?1 AND n.ns = '' AND n.checkpoint_id > ?2) FROM checkpoints c WHERE c.session_n = ?1 AND"
        " ((c.ns = '' AND c.checkpoint_id = ?2) OR (c.ns <> '' AND c.root_id = ?2))",
        (session.n, checkpoint_id),
    ).fetchone()
    return Extent(row[0], row[1], bool(row[2]))


class CheckpointRepository:
    """Reads checkpoints. Their ids grow with time, so the newest is the one with the largest id."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def load(
        self, session: SessionRef, *, ns: str = "", checkpoint_id: str | None = None
    ) -> StoredCheckpoint | None:
        """The checkpoint (the newest of the namespace unless one is named) with its pending writes."""

        def read(connection: sqlite3.Connection) -> StoredCheckpoint | None:
            which, values = ("AND checkpoint_id = ?", (checkpoint_id,)) if checkpoint_id else ("", ())
            found = connection.execute(
                f"SELECT {_COLUMNS} FROM checkpoints WHERE session_n = ? AND ns = ? {which}"
                " ORDER BY checkpoint_id DESC LIMIT 1",
                (session.n, ns, *values),
            ).fetchone()
            return None if found is None else _with_writes(connection, session, CheckpointRow(*found))

        return await self._readers.run(read)

    async def extent(self, session: SessionRef, checkpoint_id: str) -> Extent:
        return await self._readers.run(lambda connection: checkpoint_extent(connection, session, checkpoint_id))

    async def newest_id(self, session: SessionRef, *, ns: str = "") -> str | None:
        """The id of the namespace's newest checkpoint: one indexed read."""
        rows = await self._readers.query(
            "SELECT max(checkpoint_id) FROM checkpoints WHERE session_n = ? AND ns = ?", (session.n, ns)
        )
        return rows[0][0]

    async def last_saved_id(self, session: SessionRef) -> str | None:
        """The id of the newest root checkpoint that has a name, however many came after it."""
        rows = await self._readers.query(
            "SELECT max(checkpoint_id) FROM checkpoints WHERE session_n = ? AND ns = '' AND saved_name IS NOT NULL",
            (session.n,),
        )
        return rows[0][0]

    async def left_by(self, session: SessionRef, run_id: str) -> bool:
        """Whether a run of the session has left a checkpoint that its input is a part of."""
        rows = await self._readers.query(
            "SELECT 1 FROM checkpoints WHERE session_n = ? AND ns = '' AND run_id = ?"
            " ORDER BY checkpoint_id DESC LIMIT 1",  # those of the last run, nearly always
            (session.n, run_id),
        )
        return bool(rows)

    async def page(
        self,
        session: SessionRef | None,
        *,
        ns: str | None = None,
        checkpoint_id: str | None = None,
        before: str | None = None,
        run_id: str | None = None,
        limit: int | None = None,
    ) -> list[StoredCheckpoint]:
        """Checkpoints with their writes, newest first; of every session when `session` is None, of every namespace
        when `ns` is None; only those with a smaller id than `before`."""
        terms, values = ["s.deleted_at IS NULL"], list[Any]()
        for term, value in (
            ("c.session_n = ?", None if session is None else session.n),
            ("c.ns = ?", ns),
            ("c.checkpoint_id = ?", checkpoint_id),
            ("c.checkpoint_id < ?", before),
            ("c.run_id = ?", run_id),
        ):
            if value is not None:
                terms.append(term)
                values.append(value)
        text = (
            f"SELECT s.session_id, {column_list(checkpoints, alias='c')} FROM checkpoints c"
            f" JOIN sessions s ON s.n = c.session_n WHERE {' AND '.join(terms)} ORDER BY c.checkpoint_id DESC LIMIT ?"
        )

        def read(connection: sqlite3.Connection) -> list[StoredCheckpoint]:
            rows = connection.execute(text, (*values, -1 if limit is None else limit)).fetchall()
            return [_with_writes(connection, SessionRef(row[1], row[0]), CheckpointRow(*row[1:])) for row in rows]

        return await self._readers.run(read)

    async def summaries(self, session: SessionRef, *, limit: int, before: str | None = None) -> list[CheckpointSummary]:
        """The root graph's checkpoints without their contents, newest first."""
        rows = await self._readers.query(
            "SELECT checkpoint_id, parent_id, run_id, step, source, created_at, saved_name, length(checkpoint)"
            " FROM checkpoints WHERE session_n = ?1 AND ns = '' AND (?2 IS NULL OR checkpoint_id < ?2)"
            " ORDER BY checkpoint_id DESC LIMIT ?3",
            (session.n, before, limit),
        )
        return [CheckpointSummary(*row) for row in rows]

    async def log_items(self, session: SessionRef, segments: Sequence[tuple[str, int]]) -> list[bytes]:
        """The items of the segments, one segment after the other, each below its length."""
        return [value for items in await self.log_segments(session, segments) for value in items.values]

    async def log_segments(self, session: SessionRef, segments: Sequence[tuple[str, int]]) -> list[SegmentItems]:
        """For each segment its items below the length, and whether it has more."""

        def read(connection: sqlite3.Connection) -> list[SegmentItems]:
            return [_segment_items(connection, session, segment, length) for segment, length in segments]

        return await self._readers.run(read)

    async def segment_lengths(self, session: SessionRef, segments: Sequence[str]) -> dict[str, int]:
        """How many items each segment holds now; those without any are left out."""
        rows = await self._readers.query(
            "SELECT segment, max(position) + 1 FROM log_items WHERE session_n = ?"
            " AND segment IN (SELECT value FROM json_each(?)) GROUP BY segment",
            (session.n, orjson.dumps(list(segments)).decode()),
        )
        return dict(rows)


def _with_writes(connection: sqlite3.Connection, session: SessionRef, row: CheckpointRow) -> StoredCheckpoint:
    writes = connection.execute(
        f"SELECT {_WRITE_COLUMNS} FROM checkpoint_writes WHERE session_n = ? AND ns = ? AND checkpoint_id = ?"
        " ORDER BY task_path, task_id, idx",
        (session.n, row.ns, row.checkpoint_id),
    ).fetchall()
    return StoredCheckpoint(session, row, tuple(WriteRow(*values) for values in writes))


def _segment_items(connection: sqlite3.Connection, session: SessionRef, segment: str, length: int) -> SegmentItems:
    # One value instead of thousands of rows: each row is a trip through the GIL.
    joined, more = connection.execute(
        "SELECT group_concat(hex(value), ' '), EXISTS (SELECT 1 FROM log_items WHERE session_n = ?1 AND segment = ?2"
        " AND position >= ?3) FROM (SELECT value FROM log_items WHERE session_n = ?1 AND segment = ?2"
        " AND position < ?3 ORDER BY position)",
        (session.n, segment, length),
    ).fetchone()
    return SegmentItems([] if joined is None else [bytes.fromhex(part) for part in joined.split(" ")], bool(more))
