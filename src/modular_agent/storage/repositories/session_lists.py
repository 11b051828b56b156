"""Pages of sessions: filtered, searched, sorted and counted in SQL."""

import base64
import binascii
import sqlite3
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeAlias

import orjson

from modular_agent.errors import CursorInvalid
from modular_agent.storage.cache import Cache
from modular_agent.storage.models import sessions
from modular_agent.storage.readers import Readers
from modular_agent.storage.repositories.searching import like_pattern
from modular_agent.storage.repositories.sessions import SessionRow
from modular_agent.storage.sql import column_list

__all__ = ["SessionFilter", "SessionLists", "SessionPage", "SortKey"]

SortKey: TypeAlias = Literal["created_at", "updated_at", "status", "session_id", "cost", "tokens"]

MAX_INTEGER: Final = 2**63 - 1  # SQLite's
_COLUMNS: Final = column_list(sessions)
# Not `deleted_at IS NULL`, for which every row that a page skips would have to be read: the indexes have `n`.
_THERE: Final = "n NOT IN (SELECT n FROM sessions WHERE deleted_at IS NOT NULL)"
_SORTS: Final[dict[str, str]] = {
    "created_at": "created_at",
    "updated_at": "updated_at",
    "status": "status",
    "session_id": "session_id",
    "cost": "cost_nano",
    "tokens": "(prompt_tokens + completion_tokens)",  # as the index has it
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFilter:
    """Which sessions: those to which everything that is set applies.

    `search` is a piece of the id, the workflow, the title or the metadata, taken literally; ASCII letters match in
    either case. `start` (inclusive) and `end` (exclusive) bound `created_at`, in µs.
    """

    tenant: str | None = None
    status: str | None = None
    search: str | None = None
    workflow_id: str | None = None
    start: int | None = None
    end: int | None = None

    def condition(self) -> tuple[str, list[Any]]:
        """The WHERE condition and its parameters."""
        terms, values = [_THERE], list[Any]()
        for term, value in (
            ("tenant = ?", self.tenant),
            ("status = ?", self.status),
            ("workflow_id = ?", self.workflow_id),
            ("created_at >= ?", self.start),
            ("created_at < ?", self.end),
        ):
            if value is not None:
                terms.append(term)
                values.append(value)
        if self.search:
            plain = like_pattern(self.search)
            in_json = like_pattern(orjson.dumps(self.search).decode()[1:-1])  # quotes are escaped in JSON text
            terms.append(
                "(session_id LIKE ? ESCAPE '\\' OR workflow_id LIKE ? ESCAPE '\\' OR title LIKE ? ESCAPE '\\'"
                " OR metadata LIKE ? ESCAPE '\\')"
            )
            values += [plain, plain, plain, in_json]
        return " AND ".join(terms), values


@dataclass(frozen=True, slots=True)
class SessionPage:
    """A page of sessions, the number of all that the filter lets through, and the cursor of the next page."""

    sessions: list[SessionRow]
    total: int
    cursor: str | None

    @property
    def has_next(self) -> bool:
        return self.cursor is not None


class SessionLists:
    """Reads pages of sessions; how many there are in all comes through the `cache` if there is one."""

    def __init__(self, readers: Readers, *, cache: Cache | None = None) -> None:
        self._readers = readers
        self._cache = cache

    async def page(
        self,
        chosen: SessionFilter,
        *,
        sort_by: SortKey = "created_at",
        descending: bool = True,
        page: int = 1,
        page_size: int = 20,
        cursor: str | None = None,
    ) -> SessionPage:
        """The page with that number, or the page behind `cursor`. Raises `CursorInvalid`."""
        place = None if cursor is None else _decode(cursor, sort_by=sort_by, descending=descending)
        condition, values = (await self._indexed(chosen)).condition()
        total = await self._total(condition, values)

        def read(connection: sqlite3.Connection) -> SessionPage:
            found = _rows(
                connection,
                condition,
                values,
                sort=_SORTS[sort_by],
                descending=descending,
                place=place,
                limit=page_size + 1,
                offset=0 if place else (page - 1) * page_size,
            )
            following = None
            if len(found) > page_size:
                value, n = found[page_size - 1][0], found[page_size - 1][1]
                following = _encode(value, n, sort_by=sort_by, descending=descending)
            return SessionPage([SessionRow.of(row[1:]) for row in found[:page_size]], total, following)

        return await self._readers.run(read)

    async def _indexed(self, chosen: SessionFilter) -> SessionFilter:
        """The same, by the only tenant if there is only one: the indexes begin with the tenant."""
        if chosen.tenant is not None:
            return chosen
        rows = await self._readers.query("SELECT DISTINCT tenant FROM session_hour LIMIT 2")
        return replace(chosen, tenant=rows[0][0]) if len(rows) == 1 else chosen

    async def _total(self, condition: str, values: list[Any]) -> int:
        async def load() -> int:
            return (await self._readers.query(f"SELECT count(*) FROM sessions WHERE {condition}", values))[0][0]

        if self._cache is None:
            return await load()
        return await self._cache.read(("sessions", condition, *values), load, tags=(sessions.name,))

    async def count_by_status(self, *, tenant: str | None = None) -> dict[str, int]:
        """How many sessions there are in each status."""
        condition, values = SessionFilter(tenant=tenant).condition()
        return dict(
            await self._readers.query(
                f"SELECT status, count(*) FROM sessions WHERE {condition} GROUP BY status", values
            )
        )


def _rows(
    connection: sqlite3.Connection,
    condition: str,
    values: list[Any],
    *,
    sort: str,
    descending: bool,
    place: tuple[Any, int] | None,
    limit: int,
    offset: int,
) -> list[tuple[Any, ...]]:
    direction, beyond = ("DESC", "<") if descending else ("ASC", ">")
    after = "" if place is None else f" AND ({sort}, n) {beyond} (?, ?)"
    order = f"ORDER BY {sort} {direction}, n {direction}"
    return connection.execute(  # the keys first, out of an index: skipped rows are not read
        f"SELECT {sort}, {_COLUMNS} FROM sessions WHERE n IN"
        f" (SELECT n FROM sessions WHERE {condition}{after} {order} LIMIT ? OFFSET ?) {order}",
        (*values, *(place or ()), limit, offset),
    ).fetchall()


def _encode(value: object, n: int, *, sort_by: str, descending: bool) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([sort_by, descending, value, n])).decode().rstrip("=")


def _decode(cursor: str, *, sort_by: str, descending: bool) -> tuple[Any, int]:
    try:
        kept = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        known_sort, known_order, value, n = kept
    except (ValueError, TypeError, binascii.Error):
        raise CursorInvalid from None
    kind = str if sort_by in {"status", "session_id"} else int
    if (known_sort, known_order) != (sort_by, descending) or type(n) is not int or type(value) is not kind:
        raise CursorInvalid
    if n > MAX_INTEGER or (isinstance(value, int) and value > MAX_INTEGER):
        raise CursorInvalid
    return value, n
