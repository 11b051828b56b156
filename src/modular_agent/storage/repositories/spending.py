"""What sessions, workflows, keys and the installation used, by UTC day."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import orjson

from modular_agent.kit.dataclass import dataclass
from modular_agent.storage.models import spending
from modular_agent.storage.readers import Readers
from modular_agent.storage.unit_of_work import Conflict, UnitOfWork

__all__ = ["SpendingRepository", "SpendingRow", "add_spending"]

_SUMS: Final = ("calls", "tokens", "unpriced_tokens", "cost_nano", "steps", "active_us")


@dataclass(frozen=True, slots=True)
class SpendingRow:
    """What a subject of a scope used on a day (days since the epoch), in the order of the table's columns."""

    scope: str
    subject: str
    day: int
    calls: int = 0
    tokens: int = 0
    unpriced_tokens: int = 0
    cost_nano: int = 0
    steps: int = 0
    active_us: int = 0

    def sums(self) -> tuple[int, ...]:
        """The numbers, in the order of the columns."""
        return (self.calls, self.tokens, self.unpriced_tokens, self.cost_nano, self.steps, self.active_us)


def add_spending(
    unit: UnitOfWork[Any], subjects: Iterable[tuple[str, str]], *, day: int, numbers: Sequence[int]
) -> None:
    """Adds to what each (scope, subject) used on that day: `numbers` in the order of the columns."""
    for scope, subject in subjects:
        unit.insert(spending, (str(scope), subject, day, *numbers), conflict=Conflict.ADD)


class SpendingRepository:
    """Reads what was used."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def of(self, subjects: Sequence[tuple[str, str]], *, day: int) -> list[tuple[SpendingRow, SpendingRow]]:
        """For each (scope, subject) what it used in all, and on that day."""
        on_day = ", ".join(f"coalesce(sum(CASE WHEN day = ? THEN {name} END), 0)" for name in _SUMS)
        in_all = ", ".join(f"coalesce(sum({name}), 0)" for name in _SUMS)
        rows = await self._readers.query(
            f"SELECT g.value ->> 0, g.value ->> 1, {in_all}, {on_day} FROM json_each(?) g"
            " LEFT JOIN spending p ON p.scope = g.value ->> 0 AND p.subject = g.value ->> 1"
            " GROUP BY g.key ORDER BY g.key",
            (*([day] * len(_SUMS)), orjson.dumps(subjects).decode()),
        )
        width = len(_SUMS)
        return [
            (
                SpendingRow(scope, subject, day, *sums[:width]),
                SpendingRow(scope, subject, day, *sums[width:]),
            )
            for scope, subject, *sums in rows
        ]

    async def subjects(self, scope: str, *, day: int) -> list[str]:
        """The subjects of a scope that used anything on that day."""
        rows = await self._readers.query(
            "SELECT DISTINCT subject FROM spending WHERE scope = ? AND day = ? ORDER BY subject", (scope, day)
        )
        return [row[0] for row in rows]
