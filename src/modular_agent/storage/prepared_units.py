"""Units of work on their way into a transaction, and the waves in which a group of them is written."""

from collections.abc import Iterator, Sequence
from dataclasses import field
from typing import Any, NamedTuple, TypeAlias

from modular_agent.kit.dataclass import dataclass
from modular_agent.storage.models.table import Table
from modular_agent.storage.rollups import FACT_SESSION
from modular_agent.storage.unit_of_work import UNNUMBERED, UnitOfWork

__all__ = ["Fact", "PreparedUnit", "waves"]


class Fact(NamedTuple):
    table: Table
    tenant: str
    row: tuple[Any, ...]  # SQL values


@dataclass(slots=True)
class PreparedUnit:
    """A unit with its records encoded (on the event loop, once), in the order of `unit.records`."""

    unit: UnitOfWork[Any]
    bodies: list[bytes]
    facts: list[Fact] = field(default_factory=list[Fact])  # those inserted, as they were

    special: bool = field(init=False)  # it needs a savepoint of its own
    logged: set[int] = field(init=False)  # the sessions of its records and facts, as far as they have numbers

    def __post_init__(self) -> None:
        unit = self.unit
        self.special = unit.first is not None or unit.then is not None
        if unit.alone is not None:
            self.logged = {unit.alone} if unit.records or unit.facts else set()
            return
        owners = {entry.session.n for entry in unit.records}
        self.special = self.special or UNNUMBERED in owners
        self.logged = (owners | {row[FACT_SESSION] for _, row in unit.facts}) - {UNNUMBERED, None}

    def sessions(self) -> set[int]:
        return self.logged | self.unit.counters.keys() | self.unit.forgets


Wave: TypeAlias = "list[tuple[int, PreparedUnit]]"  # with their places in the group


def waves(group: Sequence[PreparedUnit]) -> Iterator[Wave]:
    """The group in as few waves as its order allows: special units of different sessions, or others.

    A session's units keep their order, and so does whatever is not about one session alone.
    """
    merged: Wave = []
    special: dict[int | None, tuple[int, PreparedUnit]] = {}  # by session
    for index, entry in enumerate(group):
        session = entry.unit.alone
        if session is None or session in special or None in special:
            yield from filter(None, (merged, [*special.values()]))
            merged, special = [], {}
        if entry.special:
            special[session] = (index, entry)
        else:
            merged.append((index, entry))
    yield from filter(None, (merged, [*special.values()]))
