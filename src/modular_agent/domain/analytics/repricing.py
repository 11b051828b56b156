"""Computes what model calls cost by the prices of today.

The log keeps what was known when a call was made; the statistics, and the totals of sessions, follow the new prices.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from modular_agent.domain.analytics.usage import NANO
from modular_agent.engine.providers.port import Usage
from modular_agent.engine.providers.pricing import PriceBook
from modular_agent.storage.readers import Readers
from modular_agent.storage.repositories.call_costs import CallCosts, NewCost, set_costs
from modular_agent.storage.repositories.llm_calls import LlmCallRow
from modular_agent.storage.sql import InsertTexts
from modular_agent.storage.unit_of_work import UnitOfWork
from modular_agent.storage.writer import Writer

__all__ = ["Repriced", "Repricing"]

CHUNK: Final = 1_000  # calls: the writer is held for some milliseconds at a time


@dataclass(slots=True)
class _Sums:
    calls: int = 0
    before: int = 0  # nano-dollars
    after: int = 0
    unpriced_before: int = 0  # tokens
    unpriced_after: int = 0

    def add(self, row: LlmCallRow, new: NewCost) -> None:
        tokens = row.prompt_tokens + row.completion_tokens
        self.calls += 1
        self.before += row.cost_nano or 0
        self.after += new.cost_nano or 0
        self.unpriced_before += tokens * (row.cost_nano is None)
        self.unpriced_after += tokens * (new.cost_nano is None)

    def view(self) -> dict[str, Any]:
        return {
            "calls": self.calls,
            "cost_before": self.before / NANO,
            "cost_after": self.after / NANO,
            "unpriced_tokens_before": self.unpriced_before,
            "unpriced_tokens_after": self.unpriced_after,
        }


@dataclass(slots=True)
class Repriced:
    """What repricing changed, or with a dry run would change: in all, and by model."""

    examined: int = 0
    changed: _Sums = field(default_factory=_Sums)
    by_model: dict[str, _Sums] = field(default_factory=dict[str, _Sums])

    def add(self, row: LlmCallRow, new: NewCost) -> None:
        self.changed.add(row, new)
        self.by_model.setdefault(row.model, _Sums()).add(row, new)

    def view(self) -> dict[str, Any]:
        """As a JSON object; money in US dollars."""
        by_model = {model: sums.view() for model, sums in sorted(self.by_model.items())}
        return {"examined": self.examined, "changed": self.changed.view(), "by_model": by_model}


class Repricing:
    """Reprices the calls of a database; without a `writer` it only says what would change."""

    def __init__(self, readers: Readers, *, writer: Writer | None, prices: PriceBook) -> None:
        self._calls = CallCosts(readers)
        self._writer = writer
        self._prices = prices
        self._inserts = InsertTexts()

    async def run(self, *, progress: Callable[[int, int], None] | None = None) -> Repriced:
        """Goes through all calls; `progress` is told how many of how many it has seen."""
        await self._prices.load()
        done, place, total = Repriced(), 0, await self._calls.count()
        while True:
            rows, place = await self._calls.after(place, limit=CHUNK)
            if not rows:
                return done
            changes = await asyncio.to_thread(self._changes, rows)
            for row in rows:
                if row.call_id in changes:
                    done.add(row, changes[row.call_id])
            done.examined += len(rows)
            if changes and self._writer is not None:
                await self._writer.commit(UnitOfWork(then=set_costs(changes, inserts=self._inserts)))
            if progress is not None:
                progress(done.examined, total)

    def _changes(self, rows: Sequence[LlmCallRow]) -> dict[str, NewCost]:
        priced = ((row, self._price(row)) for row in rows)
        return {row.call_id: new for row, new in priced if new is not None and new.cost_nano != row.cost_nano}

    def _price(self, row: LlmCallRow) -> NewCost | None:
        """None leaves the call as it is: it failed, or nobody can say more than was known then."""
        if row.error_kind is not None:
            return None
        reported = (row.price_source or "").startswith("provider")
        if (reported or row.served_by is None) and not self._prices.overrides(row.provider, row.model):
            return None
        usage = Usage(
            prompt_tokens=row.prompt_tokens,
            completion_tokens=row.completion_tokens,
            cached_tokens=row.cached_tokens,
            cache_write_tokens=row.cache_write_tokens,
            reasoning_tokens=row.reasoning_tokens,
        )
        price = self._prices.price(row.provider, row.model, usage, row.ts, served_by=row.served_by or "")
        if price is None:
            return NewCost(None, None)
        return NewCost(price.amount_nano, f"{price.source} {price.version}".strip())
