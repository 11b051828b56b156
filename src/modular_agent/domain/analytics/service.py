"""The verbs about statistics: how fast, how many tokens, how much money, what failed, and how that develops."""

import asyncio
import sqlite3
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final

import orjson

from modular_agent.domain.analytics.figures import (
    cost_figures,
    error_figures,
    error_unit,
    run_figures,
    session_count,
    timing_figures,
    token_figures,
    with_throughput,
)
from modular_agent.domain.analytics.period import Period
from modular_agent.domain.analytics.resources import ProcessResources
from modular_agent.domain.analytics.session_figures import sessions_in_all, statistics_of_session
from modular_agent.domain.analytics.trends import Trend, trend_of
from modular_agent.events import SessionRef
from modular_agent.kit.clock import Clock
from modular_agent.storage.cache import ANY, Key
from modular_agent.storage.database import Database
from modular_agent.storage.errors import SessionUnknown
from modular_agent.storage.repositories.sessions import SessionRepository
from modular_agent.storage.statistics.parts import SPENT, TIMINGS, Part, Wanted, joined, read_part, split, tags_of
from modular_agent.storage.statistics.scope import Scope

__all__ = ["AnalyticsService"]

TOP: Final = 20  # sessions
ROOM: Final = 100  # answers: in a smaller cache the parts of one range would drive out all others
MOMENT: Final = 1.0  # seconds: how old the last point of a trend may be while nothing is written


class AnalyticsService:
    """Answers in the shapes of the API (JSON objects), each from one snapshot. With a `session_id`, of that session.

    Raises `SessionUnknown`.
    """

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._readers = database.readers
        self._cache = database.cache
        self._sessions = SessionRepository(database.readers)
        self._clock = clock
        self._resources = ProcessResources()

    async def performance(self, period: Period, *, session_id: str | None = None) -> dict[str, Any]:
        """Response times, throughput, failures; and what the process uses now."""
        scope = await self._scope(period, session_id)
        timings = await self._kept_of_parts(
            ("performance", scope), scope, TIMINGS, lambda connection, part: timing_figures(connection, scope, part)
        )
        figures = with_throughput(timings, scope, now_us=self._clock.now_us())
        resources = await asyncio.to_thread(self._resources.view)
        return {"session_id": session_id, **period.view(), **figures, "resource_usage": resources}

    async def tokens(self, period: Period, *, session_id: str | None = None, top: int = TOP) -> dict[str, Any]:
        scope = await self._scope(period, session_id)
        key = ("tokens", scope, top)
        figures = await self._kept_of_parts(
            key, scope, SPENT, lambda connection, part: token_figures(connection, scope, part, top=top)
        )
        return {"session_id": session_id, **period.view(), **figures}

    async def cost(self, period: Period, *, session_id: str | None = None, top: int = TOP) -> dict[str, Any]:
        scope = await self._scope(period, session_id)
        key = ("cost", scope, top)
        figures = await self._kept_of_parts(
            key, scope, SPENT, lambda connection, part: cost_figures(connection, scope, part, top=top)
        )
        return {"session_id": session_id, **period.view(), **figures}

    async def errors(self, period: Period, *, session_id: str | None = None, top: int = TOP) -> dict[str, Any]:
        scope = await self._scope(period, session_id)
        unit = error_unit(scope, now_us=self._clock.now_us())
        key = ("errors", scope, top, unit)
        figures = await self._kept(key, lambda connection: error_figures(connection, scope, top=top, unit=unit))
        return {"session_id": session_id, **period.view(), **figures}

    async def trend(self, trend: Trend, *, session_id: str | None = None) -> dict[str, Any]:
        scope = await self._scope(Period(), session_id)
        now = self._clock.now_us()
        figures = await self._kept(
            ("trend", trend, scope),
            lambda connection: trend_of(connection, trend, now_us=now, session_n=scope.session_n, tenant=scope.tenant),
            ttl=MOMENT,
        )
        return {"session_id": session_id, **figures}

    async def everything(self, period: Period, *, top: int = TOP) -> dict[str, Any]:
        """All figures of a period, for a report."""
        scope = period.scope()
        now = self._clock.now_us()

        def read(connection: sqlite3.Connection) -> dict[str, Any]:
            spent = read_part(connection, scope, SPENT)
            timings = timing_figures(connection, scope, read_part(connection, scope, TIMINGS))
            return {
                "sessions": {"created": session_count(connection, scope)},
                "runs": run_figures(connection, scope),
                "performance": with_throughput(timings, scope, now_us=now),
                "tokens": token_figures(connection, scope, spent, top=top),
                "cost": cost_figures(connection, scope, spent, top=top),
                "errors": error_figures(connection, scope, top=top, unit=error_unit(scope, now_us=now)),
            }

        return {**period.view(), **await self._readers.run(read)}

    async def all_sessions(self) -> dict[str, Any]:
        """How many sessions there are, and how their runs went."""
        return await self._kept(("all sessions",), lambda connection: sessions_in_all(connection, Scope()))

    async def session(self, session: SessionRef) -> dict[str, Any]:
        """What one session has come to."""
        found = await self._readers.run(lambda connection: statistics_of_session(connection, session))
        if found is None:
            raise SessionUnknown(session_id=session.session_id)
        return found

    async def _kept(
        self,
        key: tuple[Hashable, ...],
        read: Callable[[sqlite3.Connection], dict[str, Any]],
        *,
        ttl: float | None = None,
    ) -> dict[str, Any]:
        """Figures that are kept, as bytes, until there is a commit; those that time changes too have a `ttl`."""

        async def load() -> bytes:
            return _bytes(await self._readers.run(read))

        kept = await self._cache.read(("analytics", *key), load, tags=(ANY,), ttl=ttl)
        figures: dict[str, Any] = orjson.loads(kept)
        return figures

    async def _kept_of_parts(
        self,
        key: tuple[Hashable, ...],
        scope: Scope,
        wanted: Wanted,
        read: Callable[[sqlite3.Connection, Part], dict[str, Any]],
    ) -> dict[str, Any]:
        """The same, of figures made of parts, most of which are kept until something in their hours changes.

        Whoever asks while that happens may get some parts of before and some of after; that is not kept.
        """

        async def load() -> bytes:
            has_room = self._cache.figures().max_size >= ROOM
            kept, rest = split(scope, now_us=self._clock.now_us()) if has_room else ([], [scope])
            parts = await self._parts(kept, wanted)

            def together(connection: sqlite3.Connection) -> dict[str, Any]:
                others = [read_part(connection, each, wanted) for each in rest]
                return read(connection, joined([*parts, *others]))

            return _bytes(await self._readers.run(together))

        found = await self._cache.read(("analytics", *key), load, tags=(ANY,))
        figures: dict[str, Any] = orjson.loads(found)
        return figures

    async def _parts(self, scopes: Sequence[Scope], wanted: Wanted) -> Sequence[Part]:
        of_key: dict[Key, Scope] = {("part", wanted.name, scope): scope for scope in scopes}

        async def load(missing: Sequence[Key]) -> Sequence[Part]:
            chosen = [of_key[key] for key in missing]
            return await self._readers.run(lambda connection: [read_part(connection, each, wanted) for each in chosen])

        return await self._cache.read_each([*of_key], load, tags=lambda key: tags_of(of_key[key]))

    async def _scope(self, period: Period, session_id: str | None) -> Scope:
        if session_id is None:
            return period.scope()
        session = await self._sessions.ref(session_id)
        if session is None:
            raise SessionUnknown(session_id=session_id)
        return period.scope(session_n=session.n)


def _bytes(figures: dict[str, Any]) -> bytes:
    return orjson.dumps(figures, option=orjson.OPT_NON_STR_KEYS)
