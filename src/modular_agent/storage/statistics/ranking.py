"""The sessions that cost, used or failed most in a scope."""

import heapq
import sqlite3
from collections.abc import Iterator
from typing import Any, Final, Literal, TypeAlias

from modular_agent.kit.dataclass import dataclass
from modular_agent.storage.statistics.scope import Scope
from modular_agent.storage.statistics.sums import USAGE, read_sums

__all__ = ["RankedSession", "Ranking", "rank_by_errors", "rank_sessions"]

Ranking: TypeAlias = Literal["cost", "tokens"]

FEW: Final = 5_000  # calls in a range that are added up one by one
_ORDER: Final = {"cost": "cost_nano", "tokens": "(prompt_tokens + completion_tokens)"}
_SUMS: Final = (
    "count(*), coalesce(sum(c.cost_nano), 0), sum(c.prompt_tokens), sum(c.completion_tokens),"
    " sum(iif(c.cost_nano IS NULL, c.prompt_tokens + c.completion_tokens, 0))"
)


@dataclass(frozen=True, slots=True)
class RankedSession:
    """What a session used within a scope. `cost_nano` in nano-dollars."""

    session_id: str
    workflow_id: str
    calls: int
    cost_nano: int
    prompt_tokens: int
    completion_tokens: int
    unpriced_tokens: int

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


def rank_sessions(connection: sqlite3.Connection, scope: Scope, by: Ranking, *, limit: int) -> list[RankedSession]:
    """The sessions with the most of `by`, the first one first; those that have none of it are left out.

    A session's total is an upper bound of what it used in any range: sessions are looked at in the order of their
    totals, and no further than a total can still win.
    """
    if limit <= 0 or scope.first >= scope.last:
        return []
    calls = read_sums(connection, USAGE, scope, sums=("calls",)).get((), [0])[0]
    if calls <= FEW:
        return _added_up(connection, scope, by, limit)
    best: list[tuple[int, int, RankedSession]] = []  # a heap: the least of the best first
    for place, (n, session_id, workflow_id, total) in enumerate(_by_total(connection, scope, by)):
        if total == 0 or (len(best) == limit and total <= best[0][0]):
            break
        found = _within(connection, scope, n, session_id, workflow_id)
        value = found.cost_nano if by == "cost" else found.tokens
        if value:
            heapq.heappush(best, (value, -place, found))
            if len(best) > limit:
                heapq.heappop(best)
    return [found for _, _, found in sorted(best, key=lambda entry: entry[:2], reverse=True)]


def _added_up(connection: sqlite3.Connection, scope: Scope, by: Ranking, limit: int) -> list[RankedSession]:
    condition, values = scope.condition("c.ts")
    order = "4" if by == "cost" else "sum(c.prompt_tokens) + sum(c.completion_tokens)"
    text = (
        f"SELECT s.session_id, s.workflow_id, {_SUMS} FROM llm_calls c JOIN sessions s ON s.n = c.session_n"
        f" WHERE {condition} AND s.deleted_at IS NULL GROUP BY s.n ORDER BY {order} DESC, s.n LIMIT ?"
    )
    rows = connection.execute(text, [*values, scope.first, scope.last, limit])
    found = (RankedSession(*row) for row in rows)
    return [each for each in found if (each.cost_nano if by == "cost" else each.tokens)]


def _by_total(connection: sqlite3.Connection, scope: Scope, by: Ranking) -> Iterator[tuple[Any, ...]]:
    """(n, session_id, workflow_id, total) of the sessions that may have used something in the range."""
    tenants = [scope.tenant]
    if scope.tenant is None:  # the indexes begin with the tenant
        tenants = [row[0] for row in connection.execute("SELECT DISTINCT tenant FROM session_hour")]
    order = _ORDER[by]
    text = (
        f"SELECT n, session_id, workflow_id, {order} FROM sessions WHERE tenant = ? AND deleted_at IS NULL"
        f" AND +updated_at >= ? AND +created_at < ? ORDER BY {order} DESC, n DESC"
    )
    lists = [connection.execute(text, (tenant, scope.first, scope.last)) for tenant in tenants]
    return heapq.merge(*lists, key=lambda row: row[3], reverse=True)


def _within(connection: sqlite3.Connection, scope: Scope, n: int, session_id: str, workflow_id: str) -> RankedSession:
    row = connection.execute(
        f"SELECT {_SUMS} FROM llm_calls c WHERE c.session_n = ? AND c.ts >= ? AND c.ts < ?",
        (n, scope.first, scope.last),
    ).fetchone()
    return RankedSession(session_id, workflow_id, *(value or 0 for value in row))


def rank_by_errors(connection: sqlite3.Connection, scope: Scope, *, limit: int) -> list[tuple[str, int]]:
    """The sessions with the most errors in the range, and how many."""
    of_session = "" if scope.session_n is None else " AND session_n = ?"
    of_tenant = "" if scope.tenant is None else " AND (SELECT tenant FROM sessions WHERE n = session_n) = ?"
    values = [value for value in (scope.session_n, scope.tenant) if value is not None]
    counted = (  # out of an index; the sessions are read of those alone that are named
        "SELECT session_n, count(*) AS count FROM errors WHERE ts >= ? AND ts < ? AND session_n IS NOT NULL"
        f" AND session_n NOT IN (SELECT n FROM sessions WHERE deleted_at IS NOT NULL){of_session}{of_tenant}"
        " GROUP BY session_n ORDER BY 2 DESC, 1 LIMIT ?"
    )
    return connection.execute(
        f"SELECT s.session_id, e.count FROM ({counted}) e JOIN sessions s ON s.n = e.session_n"
        " ORDER BY e.count DESC, s.n",
        [scope.first, scope.last, *values, limit],
    ).fetchall()
