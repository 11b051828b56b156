"""Pages of sessions: filtered, searched, sorted and counted in SQL.

A page without a search is read out of the index of its order, from whichever end is nearer. With one, the grams say
which sessions may hold what is wanted: of a few, all are looked at; of many, only those that the page passes, in the
order of the index. Where a filter lets few of many through, and for totals, all that match are known as a set
(`session_matches`).
"""

import sqlite3
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from typing import Any, Final, Literal, NamedTuple, TypeAlias, TypeVar

import orjson

from modular_agent.kit.dataclass import dataclass
from modular_agent.kit.pagination import CursorValue, decode_cursor, encode_cursor
from modular_agent.storage.cache import Cache, Frozen, Key, Tag
from modular_agent.storage.models import sessions
from modular_agent.storage.readers import Readers
from modular_agent.storage.repositories.session_matches import (
    SESSION_TEXTS,
    Matches,
    brought_forward,
    occurs,
    read_matches,
)
from modular_agent.storage.repositories.sessions import SessionRow
from modular_agent.storage.session_grams import Expressions, expressions_of
from modular_agent.storage.session_sets import members, set_of
from modular_agent.storage.sql import column_list, marks

__all__ = ["SessionFilter", "SessionLists", "SessionPage", "SortKey"]

V = TypeVar("V", bound=Frozen)

SortKey: TypeAlias = Literal["created_at", "updated_at", "status", "session_id", "cost", "tokens"]

FEW: Final = 3_000
NARROW: Final = 7  # a filter is, that lets no more than so many times `few` sessions through
STRETCH: Final = 4_000  # sessions of an order that are compared with a search before its grams are read
_ROWS: Final = (sessions.name,)  # the cache's tag
_COLUMNS: Final = column_list(sessions)
_MATCHING: Final = "SELECT rowid FROM session_grams WHERE session_grams MATCH ?"
_OTHERS: Final = (  # two ranges of the index: of an inequality all of it would be read
    "SELECT n FROM sessions WHERE tenant = ? AND status < ? UNION ALL"
    " SELECT n FROM sessions WHERE tenant = ? AND status > ?"
)


class _Order(NamedTuple):
    """What a list is sorted by, before `n`; and which columns a filter must not be looked up by, so that the index of
    the order is walked: it holds the others, and is quicker than sorting."""

    columns: tuple[str, ...]
    kinds: tuple[Literal["str", "int"], ...]
    walked_past: Collection[str] = ("status", "workflow_id")

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.columns, "n")


_ORDERS: Final[dict[SortKey, _Order]] = {
    "created_at": _Order(("created_at",), ("int",)),
    "updated_at": _Order(("updated_at",), ("int",), ("workflow_id",)),
    "status": _Order(("status", "updated_at"), ("str", "int"), ("workflow_id",)),
    "session_id": _Order(("session_id",), ("str",)),
    "cost": _Order(("cost_nano",), ("int",)),
    "tokens": _Order(("(prompt_tokens + completion_tokens)",), ("int",)),  # as the index has it
}
_NOTHING_LOOKED_UP: Final = ("tenant", "status", "workflow_id", "created_at")


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

    def condition(self, *, unindexed: Collection[str] = ()) -> tuple[str, list[Any]]:
        """The WHERE condition and its parameters; by the columns `unindexed` no index is searched."""
        terms, values = ["1"], list[Any]()
        for column, operator, value in (
            ("tenant", "=", self.tenant),
            ("status", "=", self.status),
            ("workflow_id", "=", self.workflow_id),
            ("created_at", ">=", self.start),
            ("created_at", "<", self.end),
        ):
            if value is not None:
                terms.append(f"{'+' if column in unindexed else ''}{column} {operator} ?")
                values.append(value)
        if self.search:
            text, more = occurs(self.search)
            terms.append(text)
            values += more
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
    """Reads pages of sessions; how many there are in all, and which match, comes through the `cache` if there is one.

    A search looks at one and all of the sessions that may match while they are `few`; at the next `stretch` of all
    sessions before it looks for those that may match.
    """

    def __init__(self, readers: Readers, *, cache: Cache | None = None, few: int = FEW, stretch: int = STRETCH) -> None:
        self._readers = readers
        self._cache = cache
        self._few = few
        self._stretch = stretch

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
        """The page with that number, or the page behind `cursor`. Raises `InvalidCursor`.

        Sessions of one status are sorted by `updated_at`.
        """
        order = _ORDERS[sort_by]
        listing = f"sessions:{sort_by}:{'desc' if descending else 'asc'}"
        place = None if cursor is None else decode_cursor(cursor, listing, [*order.kinds, "int"])
        offset = 0 if place else (page - 1) * page_size
        part = _Part(order, descending, place, page_size + 1, offset, self._few, self._stretch)
        grams = expressions_of(chosen.search) if chosen.search else None
        found = await self._readers.run(lambda connection: _read(connection, chosen, grams, part))
        if found is None:
            kept = await self._kept(chosen)
            found = await self._readers.run(lambda connection: _read_kept(connection, chosen, kept, part))
        rows, total = found
        if total is None:
            total = await self._total(chosen)
        following = None
        if len(rows) > page_size:
            following = encode_cursor(listing, rows[page_size - 1][: len(order.columns) + 1])
        width = len(order.columns)
        return SessionPage([SessionRow.of(row[width:]) for row in rows[:page_size]], total, following)

    async def _total(self, chosen: SessionFilter) -> int:
        if chosen.search:
            return (await self._kept(chosen)).bit_count()

        async def load() -> int:
            return await self._readers.run(lambda connection: _count(connection, chosen))

        return await self._through_cache(("sessions", chosen), load, tags=_ROWS)

    async def _kept(self, chosen: SessionFilter) -> int:
        """The set of the sessions that a filter with a search lets through."""

        async def load() -> int:
            assert chosen.search
            matches = await self._matches(chosen.search)
            return await self._readers.run(lambda connection: _let_through(connection, chosen, matches, few=self._few))

        return await self._through_cache(("kept", chosen), load, tags=_ROWS)

    async def _matches(self, search: str) -> Matches:
        async def load() -> Matches:
            return await self._readers.run(lambda connection: read_matches(connection, search))

        return await self._through_cache(("matches", search), load, tags=(SESSION_TEXTS,))

    async def _through_cache(self, key: Key, load: Callable[[], Awaitable[V]], *, tags: Sequence[Tag]) -> V:
        return await load() if self._cache is None else await self._cache.read(key, load, tags=tags)

    async def count_by_status(self, *, tenant: str | None = None) -> dict[str, int]:
        """How many sessions there are in each status."""
        condition, values = SessionFilter(tenant=tenant).condition()
        text = f"SELECT status, count(*) FROM sessions WHERE {condition} AND deleted_at IS NULL GROUP BY status"
        return dict(await self._readers.query(text, values))


class _Condition(NamedTuple):
    text: str
    values: list[Any]  # SQL values

    def and_(self, text: str, *values: Any) -> "_Condition":  # SQL values
        return _Condition(f"{text} AND {self.text}", [*values, *self.values])


class _Part(NamedTuple):
    """Which part of a list: rows behind `place`, or from number `offset` on. For the others see `SessionLists`."""

    order: _Order
    descending: bool
    place: Sequence[CursorValue] | None
    limit: int
    offset: int
    few: int
    stretch: int

    @property
    def sorting(self) -> str:
        direction = "DESC" if self.descending else "ASC"
        return f"ORDER BY {', '.join(f'{name} {direction}' for name in self.order.names)}"

    def behind(self, condition: _Condition) -> _Condition:
        """Of those of the condition, the ones behind `place`."""
        if not self.place:
            return condition
        beyond = "<" if self.descending else ">"
        return condition.and_(f"({', '.join(self.order.names)}) {beyond} ({marks(len(self.place))})", *self.place)


def _read(
    connection: sqlite3.Connection, chosen: SessionFilter, grams: Expressions | None, part: _Part
) -> tuple[list[tuple[Any, ...]], int | None] | None:
    """The rows (what they are sorted by, then their columns), and how many there are in all where that is known.

    None where all that match have to be known: there are many, and the filter lets few of them through.
    """
    chosen = _of_tenant(connection, chosen)
    if chosen == SessionFilter(tenant=chosen.tenant):
        return _read_all(connection, chosen, part)
    condition = _there(connection, chosen, unindexed=part.order.walked_past)
    if grams is not None:
        candidates = _candidates(connection, grams, part)
        if len(candidates) <= part.few:
            return _read_few(connection, chosen, candidates, part)
        if _is_narrow(connection, chosen, part.few):
            return None
        near = _stretch(connection, chosen, part)
        rows = [] if near is None else _rows(connection, condition.and_(*near), part)
        if len(rows) == part.limit:
            return rows, None
        condition = condition.and_(f"+n IN ({_MATCHING})", grams.possible)
    rows = _rows(connection, condition, part)
    ended = len(rows) < part.limit and part.place is None and (rows or not part.offset)
    return rows, part.offset + len(rows) if ended else None


def _read_all(connection: sqlite3.Connection, chosen: SessionFilter, part: _Part) -> tuple[list[tuple[Any, ...]], int]:
    """The same, of all sessions (of a tenant): how many there are is known, so the nearer end is known too."""
    condition = _there(connection, chosen, unindexed=part.order.walked_past)
    total = _count_all(connection, chosen)
    behind = total - part.offset - part.limit
    if part.place is not None or behind >= part.offset:
        return _rows(connection, condition, part), total
    backwards = part._replace(
        descending=not part.descending, offset=max(behind, 0), limit=max(min(part.limit, total - part.offset), 0)
    )
    return _rows(connection, condition, backwards)[::-1], total


def _count_all(connection: sqlite3.Connection, chosen: SessionFilter) -> int:
    of_tenant, values = ("", []) if chosen.tenant is None else (" AND +tenant = ?", [chosen.tenant])
    made = f"(SELECT coalesce(sum(count), 0) FROM session_hour WHERE 1{of_tenant})"
    deleted = f"(SELECT count(*) FROM sessions WHERE deleted_at IS NOT NULL{of_tenant})"
    return connection.execute(f"SELECT {made} - {deleted}", values * 2).fetchone()[0]


def _candidates(connection: sqlite3.Connection, grams: Expressions, part: _Part) -> list[int]:
    """The sessions that may hold what is searched, or more than `few`."""
    text = f"SELECT json_group_array(rowid) FROM ({_MATCHING} LIMIT ?)"
    return orjson.loads(connection.execute(text, (grams.possible, part.few + 1)).fetchone()[0])


def _is_narrow(connection: sqlite3.Connection, chosen: SessionFilter, few: int) -> bool:
    """Whether the filter lets few sessions through, whatever is searched."""
    among, values = replace(chosen, search=None).condition()
    text = f"SELECT n FROM sessions WHERE {among} LIMIT 1 OFFSET ?"
    return connection.execute(text, (*values, few * NARROW)).fetchone() is None


def _read_kept(
    connection: sqlite3.Connection, chosen: SessionFilter, kept: int, part: _Part
) -> tuple[list[tuple[Any, ...]], int]:
    """The rows, and how many there are in all, where those that the filter lets through are known and few.

    Of a page near the beginning, those it skips are looked up in the index of the order; otherwise all are sorted.
    """
    chosen = replace(_of_tenant(connection, chosen), search=None)
    total = kept.bit_count()
    near = 2 * (part.offset + part.limit) < total
    condition = _there(connection, chosen, unindexed=part.order.walked_past if near else _NOTHING_LOOKED_UP)
    condition = condition.and_(f"{'+' if near else ''}n IN (SELECT value FROM json_each(?))", _json(members(kept)))
    return _rows(connection, condition, part), total


def _let_through(connection: sqlite3.Connection, chosen: SessionFilter, matches: Matches, *, few: int) -> int:
    """The set of the sessions that match and that the filter lets through."""
    assert chosen.search
    found = brought_forward(connection, matches, chosen.search).sessions
    found &= ~_set(connection, "SELECT n FROM sessions WHERE deleted_at IS NOT NULL")
    chosen, everything = replace(_of_tenant(connection, chosen), search=None), _of_tenant(connection, SessionFilter())
    if chosen == everything:
        return found
    of_status = everything.tenant is not None and chosen == replace(everything, status=chosen.status)
    if of_status and not _is_narrow(connection, chosen, few) and _most_have(connection, chosen):
        return found & ~_set(connection, _OTHERS, *[chosen.tenant, chosen.status] * 2)
    among, values = chosen.condition()
    return found & _set(connection, f"SELECT n FROM sessions WHERE {among}", *values)


def _set(connection: sqlite3.Connection, text: str, *values: Any) -> int:  # SQL values
    return set_of(orjson.loads(connection.execute(f"SELECT json_group_array(n) FROM ({text})", values).fetchone()[0]))


def _stretch(connection: sqlite3.Connection, chosen: SessionFilter, part: _Part) -> tuple[Any, ...] | None:
    """The condition (and its values) that only the next sessions of the order fulfil; None where all are near.

    They hold the page of a search that finds much, which is then read without all that the grams would name.
    """
    condition = part.behind(_there(connection, replace(chosen, search=None), unindexed=part.order.walked_past))
    names = ", ".join(part.order.names)
    place = connection.execute(
        f"SELECT {names} FROM sessions WHERE {condition.text} {part.sorting} LIMIT 1 OFFSET ?",
        (*condition.values, part.stretch - 1),
    ).fetchone()
    if place is None:
        return None
    return f"({names}) {'>=' if part.descending else '<='} ({marks(len(place))})", *place


def _read_few(
    connection: sqlite3.Connection, chosen: SessionFilter, candidates: list[int], part: _Part
) -> tuple[list[tuple[Any, ...]], int]:
    """The same, of sessions that are all compared with what is wanted."""
    condition = _there(connection, chosen, unindexed=_NOTHING_LOOKED_UP)
    condition = condition.and_("n IN (SELECT value FROM json_each(?))", _json(candidates))
    behind = part.behind(_Condition("1", []))
    kept = connection.execute(
        f"SELECT n, {behind.text} FROM sessions WHERE {condition.text} {part.sorting}",
        (*behind.values, *condition.values),
    ).fetchall()
    page = [n for n, is_behind in kept if is_behind][part.offset : part.offset + part.limit]
    among = _Condition("n IN (SELECT value FROM json_each(?))", [_json(page)])
    return _rows(connection, among, part._replace(place=None, offset=0)), len(kept)


def _count(connection: sqlite3.Connection, chosen: SessionFilter) -> int:
    condition = _there(connection, _of_tenant(connection, chosen), unindexed=())
    return connection.execute(f"SELECT count(*) FROM sessions WHERE {condition.text}", condition.values).fetchone()[0]


def _most_have(connection: sqlite3.Connection, chosen: SessionFilter) -> bool:
    """Whether at least half of the tenant's sessions have the status: then it is quicker to count the others."""
    half = "SELECT sum(count) / 2 FROM session_hour WHERE tenant = ?"
    text = f"{_OTHERS} LIMIT 1 OFFSET ({half})"
    place = (chosen.tenant, chosen.status)
    return connection.execute(text, (*place, *place, chosen.tenant)).fetchone() is None


def _of_tenant(connection: sqlite3.Connection, chosen: SessionFilter) -> SessionFilter:
    """The same, of the only tenant if there is only one: the indexes begin with the tenant."""
    if chosen.tenant is not None:
        return chosen
    tenants = _tenants(connection)
    return replace(chosen, tenant=tenants[0]) if len(tenants) == 1 else chosen


def _tenants(connection: sqlite3.Connection) -> list[str]:
    """All tenants that have sessions, or two of them."""
    return [tenant for (tenant,) in connection.execute("SELECT DISTINCT tenant FROM session_hour LIMIT 2")]


def _there(connection: sqlite3.Connection, chosen: SessionFilter, *, unindexed: Collection[str]) -> _Condition:
    """The filter's condition, without the sessions that are being deleted."""
    return _without_deleted(connection, _Condition(*chosen.condition(unindexed=unindexed)), "n")


def _without_deleted(connection: sqlite3.Connection, condition: _Condition, column: str) -> _Condition:
    """The condition, without the sessions that are being deleted.

    Those are named: for `deleted_at IS NULL` every row would have to be read that a page skips.
    """
    rows = connection.execute("SELECT n FROM sessions WHERE deleted_at IS NOT NULL").fetchall()
    if not rows:
        return condition
    return condition.and_(f"+{column} NOT IN (SELECT value FROM json_each(?))", _json([n for (n,) in rows]))


def _rows(connection: sqlite3.Connection, condition: _Condition, part: _Part) -> list[tuple[Any, ...]]:
    order = part.sorting
    condition = part.behind(condition)
    return connection.execute(  # the keys first, out of an index: skipped rows are not read
        f"SELECT {', '.join(part.order.columns)}, {_COLUMNS} FROM sessions WHERE n IN"
        f" (SELECT n FROM sessions WHERE {condition.text} {order} LIMIT ? OFFSET ?) {order}",
        (*condition.values, part.limit, part.offset),
    ).fetchall()


def _json(numbers: list[int]) -> str:
    return orjson.dumps(numbers).decode()
