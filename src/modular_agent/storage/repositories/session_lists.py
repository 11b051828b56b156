"""Pages of sessions: filtered, searched, sorted and counted in SQL.

A page without a search is read out of the index of its order. With one, the grams say which sessions may hold what is
wanted: of a few, all are looked at; of many, only those that the page passes, in the order of the index. Those that
the grams are certain of are counted without being read.
"""

import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import orjson

from modular_agent.kit.pagination import CursorValue, decode_cursor, encode_cursor
from modular_agent.storage.cache import Cache
from modular_agent.storage.models import sessions
from modular_agent.storage.readers import Readers
from modular_agent.storage.repositories.searching import like_pattern
from modular_agent.storage.repositories.sessions import SessionRow
from modular_agent.storage.session_grams import Expressions, expressions_of, in_json
from modular_agent.storage.sql import column_list, marks

__all__ = ["SessionFilter", "SessionLists", "SessionPage", "SortKey"]

SortKey: TypeAlias = Literal["created_at", "updated_at", "status", "session_id", "cost", "tokens"]

FEW: Final = 3_000
NARROW: Final = 7  # a filter is, that lets no more than so many times `few` sessions through
STRETCH: Final = 4_000  # sessions of an order that are compared with a search before its grams are read
TOTAL_TTL: Final = 5.0  # seconds that the total of a search with more is kept, whatever happens meanwhile
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
            plain = like_pattern(self.search)
            terms.append(
                "(title LIKE ? ESCAPE '\\' OR metadata LIKE ? ESCAPE '\\' OR session_id LIKE ? ESCAPE '\\'"
                " OR workflow_id LIKE ? ESCAPE '\\')"
            )
            values += [plain, like_pattern(in_json(self.search)), plain, plain]
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
    """Reads pages of sessions; how many there are in all comes through the `cache` if there is one.

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

        Sessions of one status are sorted by `updated_at`. `total` may be some seconds old where a search finds very
        many.
        """
        order = _ORDERS[sort_by]
        listing = f"sessions:{sort_by}:{'desc' if descending else 'asc'}"
        place = None if cursor is None else decode_cursor(cursor, listing, [*order.kinds, "int"])
        offset = 0 if place else (page - 1) * page_size
        part = _Part(order, descending, place, page_size + 1, offset, self._few, self._stretch)
        grams = expressions_of(chosen.search) if chosen.search else None
        rows, total = await self._readers.run(lambda connection: _read(connection, chosen, grams, part))
        if total is None:
            total = await self._total(chosen, grams)
        following = None
        if len(rows) > page_size:
            following = encode_cursor(listing, rows[page_size - 1][: len(order.columns) + 1])
        width = len(order.columns)
        return SessionPage([SessionRow.of(row[width:]) for row in rows[:page_size]], total, following)

    async def _total(self, chosen: SessionFilter, grams: Expressions | None) -> int:
        async def load() -> int:
            return await self._readers.run(lambda connection: _count(connection, chosen, grams))

        if self._cache is None:
            return await load()
        if chosen.search:
            return await self._cache.read(("sessions", chosen), load, tags=(), ttl=TOTAL_TTL)
        return await self._cache.read(("sessions", chosen), load, tags=(sessions.name,))

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
) -> tuple[list[tuple[Any, ...]], int | None]:
    """The rows (what they are sorted by, then their columns), and how many there are in all where that is known."""
    chosen = _of_tenant(connection, chosen)
    condition = _there(connection, chosen, unindexed=part.order.walked_past)
    if grams is not None:
        candidates = _candidates(connection, chosen, grams, part)
        if len(candidates) <= part.few:
            return _read_few(connection, chosen, candidates, part)
        near = _stretch(connection, chosen, part)
        rows = [] if near is None else _rows(connection, condition.and_(*near), part)
        if len(rows) == part.limit:
            return rows, None
        condition = condition.and_(f"+n IN ({_MATCHING})", grams.possible)
    rows = _rows(connection, condition, part)
    ended = len(rows) < part.limit and part.place is None and (rows or not part.offset)
    return rows, part.offset + len(rows) if ended else None


def _candidates(connection: sqlite3.Connection, chosen: SessionFilter, grams: Expressions, part: _Part) -> list[int]:
    """The sessions that may hold what is searched, or more than `few`, some of which the filter may not let through."""
    found = connection.execute(f"{_MATCHING} LIMIT ?", (grams.possible, part.few + 1)).fetchall()
    if len(found) > part.few:
        among = _Condition(*replace(chosen, search=None).condition())
        chosen_ones = f"SELECT n FROM sessions WHERE {among.text}"
        beyond = (*among.values, part.few * NARROW)
        if connection.execute(f"{chosen_ones} LIMIT 1 OFFSET ?", beyond).fetchone() is None:
            text = f"{_MATCHING} AND +rowid IN ({chosen_ones}) LIMIT ?"
            found = connection.execute(text, (grams.possible, *among.values, part.few + 1)).fetchall()
    return [n for (n,) in found]


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


def _count(connection: sqlite3.Connection, chosen: SessionFilter, grams: Expressions | None) -> int:
    chosen = _of_tenant(connection, chosen)
    if grams is None:
        condition = _there(connection, chosen, unindexed=())
        return connection.execute(f"SELECT count(*) FROM sessions WHERE {condition.text}", condition.values).fetchone()[
            0
        ]
    total = 0
    if grams.certain is not None:
        total += _count_certain(connection, replace(chosen, search=None), grams.certain)
    if grams.uncertain is not None:
        condition = _there(connection, chosen, unindexed=_NOTHING_LOOKED_UP)
        condition = condition.and_("session_grams MATCH ?", grams.uncertain)
        text = (
            f"SELECT count(*) FROM session_grams CROSS JOIN sessions ON n = session_grams.rowid WHERE {condition.text}"
        )
        total += connection.execute(text, condition.values).fetchone()[0]
    return total


def _count_certain(connection: sqlite3.Connection, chosen: SessionFilter, expression: str) -> int:
    """How many of the sessions that fulfil the expression the filter (without a search) lets through."""

    def count(*among: Any) -> int:
        condition = _without_deleted(connection, _Condition("session_grams MATCH ?", [expression]), "rowid")
        condition = condition.and_(*among) if among else condition
        text = f"SELECT count(*) FROM session_grams WHERE {condition.text}"
        return connection.execute(text, condition.values).fetchone()[0]

    everything = _of_tenant(connection, SessionFilter())
    if chosen == everything:
        return count()
    of_status = chosen == replace(everything, status=chosen.status)
    if of_status and everything.tenant is not None and _most_have(connection, chosen):
        return count() - count(f"+rowid IN ({_OTHERS})", *[chosen.tenant, chosen.status] * 2)
    among, values = chosen.condition()
    return count(f"+rowid IN (SELECT n FROM sessions WHERE {among})", *values)


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
