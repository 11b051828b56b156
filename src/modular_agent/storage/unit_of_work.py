"""What a caller wants made durable, as data: the writer merges many of these into one transaction."""

import sqlite3
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import field
from enum import StrEnum
from functools import partial
from itertools import repeat
from operator import add
from typing import Any, Final, Generic, NamedTuple, TypeVar, cast

from modular_agent.events import CommittedRecord, Record, SessionRef
from modular_agent.kit.dataclass import dataclass
from modular_agent.storage.cache import Tag
from modular_agent.storage.models.table import Table

__all__ = [
    "UNNUMBERED",
    "Committed",
    "CommonStep",
    "Conflict",
    "Counters",
    "Fence",
    "SessionRecord",
    "SessionStanding",
    "UnitOfWork",
    "in_order",
]

S = TypeVar("S")
T = TypeVar("T")

UNNUMBERED: Final = 0  # the `n` of a session that does not exist yet


class Fence(NamedTuple):
    """Refuses the whole unit with `StaleEpoch` unless the run still has this epoch."""

    run_id: str
    epoch: int


class SessionRecord(NamedTuple):
    """A record and the session whose log takes it."""

    session: SessionRef
    record: Record


# Of both in their order: named tuples are made by a function of Python, this is none.
_session_record: Final = cast(
    "Callable[[tuple[SessionRef, Record]], SessionRecord]", partial(tuple[Any, ...].__new__, SessionRecord)
)


class SessionStanding(NamedTuple):
    """How a session stands since `at` (µs), by its last run: its status, and the run if it is active."""

    session_n: int
    status: str
    run_id: str | None
    at: int

    def store(self, connection: sqlite3.Connection) -> None:
        connection.execute(
            "UPDATE sessions SET status = ?2, current_run_id = ?3, updated_at = max(updated_at, ?4) WHERE n = ?1", self
        )


class Conflict(StrEnum):
    """What an insert does when the row's primary key is there already."""

    FAIL = "fail"
    IGNORE = "ignore"
    REPLACE = "replace"
    ADD = "add"  # the numbers are added to those that are there


@dataclass(slots=True)
class Counters:
    """What a unit adds to its session's totals. `cost_nano` is in nano-dollars (1e-9 USD)."""

    messages: int = 0
    tool_calls: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    unpriced_tokens: int = 0
    cost_nano: int = 0

    def numbers(self) -> tuple[int, ...]:
        """The values, in the order of the fields."""
        return (
            *(self.messages, self.tool_calls, self.errors, self.prompt_tokens, self.completion_tokens),
            *(self.cached_tokens, self.reasoning_tokens, self.unpriced_tokens, self.cost_nano),
        )

    def plus(self, other: "Counters") -> "Counters":
        return Counters(*map(add, self.numbers(), other.numbers()))


def _as_it_is(answer: Any) -> Any:
    return answer


@dataclass(frozen=True, slots=True)
class CommonStep(Generic[S, T]):
    """A `first` or `then` that is done in a few statements for all units of a transaction with the same `for_all`.

    `for_all` gets the subjects of all of them, each about another session, and returns what each is answered, or the
    error that it is refused with: what is refused must have changed nothing. `read` makes the result of an answer, if
    somebody wants it. `standing` says of a subject and its answer how the session stands then: that goes into the
    session's row with what else changes there. `apart` steps ask for nothing that records and counters
    change in the rows of sessions, and need not wait for it to be written.
    """

    for_all: Callable[[sqlite3.Connection, Sequence[S]], list[Any]]
    subject: S
    read: Callable[[Any], T] = _as_it_is
    standing: Callable[[S, Any], SessionStanding] | None = None
    apart: bool = False

    def __call__(self, connection: sqlite3.Connection) -> T:
        """The step alone; raises what it is refused with."""
        (answer,) = self.for_all(connection, [self.subject])
        if isinstance(answer, Exception):
            raise answer
        if self.standing is not None:
            self.standing(self.subject, answer).store(connection)
        return self.read(answer)


@dataclass(slots=True)
class UnitOfWork(Generic[T]):
    """One caller's part of a transaction: all of it is committed, or none.

    In this order: `fences` are checked; `records` get their `seq`, `timestamp` and place; `rows` are inserted, whole
    rows in the tables' column order (values: int, str, bytes, float or None; REPLACE updates the row that is there,
    except for its columns marked as kept); `facts` are rows too (of model calls and errors): they are counted in the
    statistics of the hour that their `ts` is in, which is that of the unit's records of the same session if it has any;
    `counters` are added to sessions; then `then` runs arbitrary SQL (rare: it costs a savepoint) and its result is
    handed back. `first` is like `then`, but runs before the records and rows (it may create the session or run that
    they belong to). Both see all earlier units. Both may run twice, because a transaction in which another unit failed
    is done again: they must have no other effects. A domain error raised in them rejects this unit alone.

    The records and counters of a session (one) that `first` creates name it as `SessionRef(UNNUMBERED, session_id)`;
    they come back with its number. `forgets` lists sessions (n) whose place in the log `then` has changed by hand:
    the writer reads it again. `alone` names the one session that all of the unit is about: units of different sessions
    may change places within a transaction, so that more of them are written together. `touches` are the tables, and the
    sessions (n) in them, that `first` and `then` change besides: what the cache forgets. None stands for everything,
    which is always right and never cheap.
    """

    fences: list[Fence] = field(default_factory=list)
    records: list[SessionRecord] = field(default_factory=list)
    rows: dict[tuple[Table, Conflict], list[tuple[Any, ...]]] = field(default_factory=dict)  # SQL values
    facts: list[tuple[Table, tuple[Any, ...]]] = field(default_factory=list)
    counters: dict[int, Counters] = field(default_factory=dict)  # by session n
    first: Callable[[sqlite3.Connection], object] | None = None
    then: Callable[[sqlite3.Connection], T] | None = None
    forgets: set[int] = field(default_factory=set[int])
    alone: int | None = None
    touches: Collection[Tag] | None = None

    def changed(self) -> set[Tag] | None:
        """The tags of what the unit changes; None: it may be anything."""
        tags: set[Tag] = {table.name for table, _ in self.rows}
        if self.first is not None or self.then is not None:
            if self.touches is None:
                return None
            tags.update(self.touches)
        tags.update(self.counters)
        if self.alone is None:
            tags.update(entry.session.n for entry in self.records)
        elif self.records:
            tags.add(self.alone)
        return tags

    def insert(self, table: Table, row: tuple[Any, ...], *, conflict: Conflict = Conflict.FAIL) -> None:
        self.rows.setdefault((table, conflict), []).append(row)

    def happened(self, table: Table, row: tuple[Any, ...]) -> None:
        self.facts.append((table, row))

    def record(self, session: SessionRef, record: Record) -> None:
        self.records.append(SessionRecord(session, record))

    def record_all(self, session: SessionRef, added: Iterable[Record]) -> None:
        self.records += map(_session_record, zip(repeat(session), added, strict=False))

    def count(self, session: SessionRef, counters: Counters) -> None:
        known = self.counters.get(session.n)
        self.counters[session.n] = counters if known is None else known.plus(counters)


@dataclass(frozen=True, slots=True)
class Committed(Generic[T]):
    """What became of a unit: its records as they stand in the log, and what `then` returned."""

    records: tuple[CommittedRecord, ...]
    result: T | None


def in_order(*steps: Callable[[sqlite3.Connection], object]) -> Callable[[sqlite3.Connection], tuple[object, ...]]:
    """One step for `first` or `then` that runs `steps` one after the other and returns their results."""

    def run(connection: sqlite3.Connection) -> tuple[object, ...]:
        return tuple(step(connection) for step in steps)

    return run
