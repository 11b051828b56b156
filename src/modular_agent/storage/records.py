"""Reading a session's log from the database: by place, time, kind, run and node, across months.

Whatever one answer needs is one call to a reader thread, and the lines of a page come as one value, because every
fetched row is one more trip through the GIL.
"""

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

import orjson

from modular_agent.events import CommittedRecord, SessionRef
from modular_agent.kit.dataclass import dataclass
from modular_agent.storage.cache import Cache
from modular_agent.storage.models import MESSAGE_TYPE_SQL
from modular_agent.storage.readers import Readers
from modular_agent.storage.sql import marks

__all__ = ["RecordFilter", "RecordPage", "Records"]

_FIELDS: Final = "seq, ts, record_type, record_id, run_id, node, length, line"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordFilter:
    """Which records of a session: those to which everything that is set applies.

    `start` (inclusive) and `end` (exclusive) are in µs. `message_types` are the roles of messages (user, assistant,
    system, tool) and leaves every other kind of record out.
    """

    start: int | None = None
    end: int | None = None
    types: Sequence[str] = ()
    message_types: Sequence[str] = ()
    run_id: str | None = None
    node: str | None = None
    record_id: str | None = None
    after_seq: int | None = None
    before_seq: int | None = None

    def condition(self, session_n: int) -> tuple[str, list[Any]]:
        """The WHERE condition and its parameters."""
        terms: list[str] = ["session_n = ?"]
        values: list[Any] = [session_n]
        for column, operator, value in (
            ("seq", ">", self.after_seq),
            ("seq", "<", self.before_seq),
            ("ts", ">=", self.start),
            ("ts", "<", self.end),
            ("run_id", "=", self.run_id),
            ("node", "=", self.node),
            ("record_id", "=", self.record_id),
        ):
            if value is not None:
                terms.append(f"{column} {operator} ?")
                values.append(value)
        if self.types:
            terms.append(f"record_type IN ({marks(len(self.types))})")
            values.extend(str(kind) for kind in self.types)
        if self.message_types:
            terms.append("record_type = 'message'")
            terms.append(f"{MESSAGE_TYPE_SQL} IN ({marks(len(self.message_types))})")
            values.extend(self.message_types)
        return " AND ".join(terms), values

    @property
    def source(self) -> str:
        """What to select from; the index that has the types of messages is not chosen by itself."""
        return "records INDEXED BY ix_records_messages" if self.message_types else "records"


@dataclass(frozen=True, slots=True)
class RecordPage:
    """Some of the records that a filter lets through, and how many it lets through in all."""

    records: list[CommittedRecord]
    total: int


class Records:
    """The log as the readers see it. `limit` is always the largest number of records to return.

    How many records there are comes through the `cache` if there is one.
    """

    def __init__(self, readers: Readers, *, cache: Cache | None = None) -> None:
        self._readers = readers
        self._cache = cache

    async def after(self, session: SessionRef, *, seq: int, limit: int) -> list[CommittedRecord]:
        """The records after `seq`, in order."""
        chosen = RecordFilter(after_seq=seq)
        return await self._readers.run(lambda connection: _fetch(connection, session, chosen, limit=limit))

    async def newest(
        self, session: SessionRef, *, limit: int, chosen: RecordFilter | None = None
    ) -> list[CommittedRecord]:
        """The newest records, oldest of them first."""
        which = chosen or RecordFilter()
        return await self._readers.run(
            lambda connection: _fetch(connection, session, which, limit=limit, newest=True)[::-1]
        )

    async def part(
        self, session: SessionRef, chosen: RecordFilter, *, limit: int, offset: int = 0, newest_first: bool = False
    ) -> list[CommittedRecord]:
        """The records from number `offset` on."""
        return await self._readers.run(
            lambda connection: _fetch(connection, session, chosen, limit=limit, offset=offset, newest=newest_first)
        )

    async def page(
        self, session: SessionRef, chosen: RecordFilter, *, limit: int, offset: int = 0, newest_first: bool = False
    ) -> RecordPage:
        """The same, with the number of all that the filter lets through."""
        found = await self.part(session, chosen, limit=limit, offset=offset, newest_first=newest_first)
        ended = len(found) < limit and (found or not offset)
        return RecordPage(found, offset + len(found) if ended else await self.count(session, chosen))

    async def count(self, session: SessionRef, chosen: RecordFilter | None = None) -> int:
        """How many records the filter lets through."""
        which = chosen or RecordFilter()
        condition, values = which.condition(session.n)

        async def load() -> int:
            return (await self._readers.query(f"SELECT count(*) FROM {which.source} WHERE {condition}", values))[0][0]

        if self._cache is None:
            return await load()
        return await self._cache.read(("records", condition, *values), load, tags=(session.n,))

    async def get(self, session: SessionRef, record_id: str) -> CommittedRecord | None:
        """One record by its id."""
        chosen = RecordFilter(record_id=record_id)
        found = await self._readers.run(lambda connection: _fetch(connection, session, chosen, limit=1))
        return found[0] if found else None

    async def last_seq(self, session: SessionRef) -> int:
        """The `seq` of the newest record; 0 while there is none."""
        rows = await self._readers.query("SELECT last_seq FROM sessions WHERE n = ?", (session.n,))
        return rows[0][0] if rows else 0


def _fetch(
    connection: sqlite3.Connection,
    session: SessionRef,
    chosen: RecordFilter,
    *,
    limit: int,
    offset: int = 0,
    newest: bool = False,
) -> list[CommittedRecord]:
    condition, values = chosen.condition(session.n)
    order = "DESC" if newest else "ASC"
    heads, lines = connection.execute(
        "SELECT json_group_array(json_array(seq, ts, record_type, record_id, run_id, node, length)),"
        f" CAST(group_concat(line, '') AS BLOB) FROM (SELECT {_FIELDS} FROM {chosen.source}"
        f" WHERE {condition} ORDER BY seq {order} LIMIT ? OFFSET ?)",
        (*values, limit, offset),
    ).fetchone()
    found: list[CommittedRecord] = []
    start = 0
    for seq, ts, kind, record_id, run_id, node, length in orjson.loads(heads):
        end = start + length
        found.append(CommittedRecord(session, seq, ts, kind, record_id, run_id, node, lines[start:end]))
        start = end
    return found
