"""Questions to people: opened by a run, answered once, or withdrawn."""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import orjson

from modular_agent.events import SessionRef
from modular_agent.kit.dataclass import dataclass
from modular_agent.kit.pagination import CursorValue
from modular_agent.storage.errors import InterruptClosed, InterruptUnknown
from modular_agent.storage.models import interrupts
from modular_agent.storage.readers import Readers
from modular_agent.storage.sql import column_list, marks
from modular_agent.storage.unit_of_work import Conflict, UnitOfWork

__all__ = [
    "InterruptRepository",
    "InterruptRow",
    "WaitingFilter",
    "WaitingRow",
    "answer_interrupt",
    "forget_interrupts",
    "open_interrupt",
    "withdraw_interrupts",
]

_COLUMNS: Final = column_list(interrupts)
_JSON_COLUMNS: Final = (6, 7, 9)  # question, form, answer


@dataclass(frozen=True, slots=True)
class InterruptRow:
    """A question, in the order of the table's columns. Times in µs; `question`, `form` and `answer` are JSON values.

    `graph_id` is LangGraph's id of the interrupt. `kind`: question, approval, budget, effect, wait. `status`: open,
    answered, withdrawn.
    """

    interrupt_id: str
    session_n: int
    run_id: str
    node: str
    graph_id: str
    kind: str
    question: Any  # any JSON value
    form: dict[str, Any] | None  # a JSON Schema
    status: str
    answer: Any  # any JSON value
    answered_by: str | None
    created_at: int
    answered_at: int | None
    due_at: int | None

    @classmethod
    def of(cls, values: Sequence[Any]) -> "InterruptRow":
        """The row of SQL values in the order of the table's columns."""
        parsed = list(values)
        for index in _JSON_COLUMNS:
            if parsed[index] is not None:
                parsed[index] = orjson.loads(parsed[index])
        return cls(*parsed)

    @property
    def is_void(self) -> bool:
        """Whether it is asked again when its run is taken up after its end, which took it back or was its answer."""
        answer = cast("dict[str, Any]", self.answer) if isinstance(self.answer, dict) else {}
        return self.status == "withdrawn" or (self.kind == "budget" and bool(answer.get("stop")))

    def values(self) -> tuple[Any, ...]:
        """The SQL values."""
        return (
            *(self.interrupt_id, self.session_n, self.run_id, self.node, self.graph_id, self.kind),
            *(_json(self.question), None if self.form is None else _json(self.form), self.status),
            *(None if self.answer is None else _json(self.answer), self.answered_by),
            *(self.created_at, self.answered_at, self.due_at),
        )


def open_interrupt(
    unit: UnitOfWork[Any],
    *,
    interrupt_id: str,
    session: SessionRef,
    run_id: str,
    node: str,
    graph_id: str,
    kind: str,
    question: Any,  # any JSON value
    now_us: int,
    form: dict[str, Any] | None = None,
    due_at: int | None = None,
) -> InterruptRow:
    """Adds a question to the unit; one with this id that is there already stays as it is."""
    row = InterruptRow(
        *(interrupt_id, session.n, run_id, node, graph_id, kind, question, form, "open"),
        *(None, None, now_us, None, due_at),
    )
    unit.insert(interrupts, row.values(), conflict=Conflict.IGNORE)
    return row


def answer_interrupt(
    interrupt_id: str,
    *,
    answer: Any,
    answered_by: str,
    now_us: int,  # any JSON value
) -> Callable[[sqlite3.Connection], InterruptRow]:
    """The step that answers an open question; a second answer is refused.

    Raises `InterruptUnknown`, `InterruptClosed`.
    """

    def step(connection: sqlite3.Connection) -> InterruptRow:
        rows = connection.execute(
            "UPDATE interrupts SET status = 'answered', answer = ?, answered_by = ?, answered_at = ?"
            f" WHERE interrupt_id = ? AND status = 'open' RETURNING {_COLUMNS}",
            (_json(answer), answered_by, now_us, interrupt_id),
        ).fetchall()
        if rows:
            return InterruptRow.of(rows[0])
        row = connection.execute("SELECT status FROM interrupts WHERE interrupt_id = ?", (interrupt_id,)).fetchone()
        if row is None:
            raise InterruptUnknown(interrupt_id=interrupt_id)
        raise InterruptClosed(interrupt_id=interrupt_id, status=row[0])

    return step


def withdraw_interrupts(run_id: str, *, now_us: int) -> Callable[[sqlite3.Connection], list[str]]:
    """The step that takes back the open questions of a run; its result are their ids."""

    def step(connection: sqlite3.Connection) -> list[str]:
        rows = connection.execute(
            "UPDATE interrupts SET status = 'withdrawn', answered_at = ?2 WHERE status = 'open' AND run_id = ?1"
            " AND session_n = (SELECT session_n FROM runs WHERE run_id = ?1) RETURNING interrupt_id",
            (run_id, now_us),
        ).fetchall()
        return [row[0] for row in rows]

    return step


def forget_interrupts(interrupt_ids: Sequence[str]) -> Callable[[sqlite3.Connection], None]:
    """The step that makes room for questions that will be asked again, by the same ids."""

    def step(connection: sqlite3.Connection) -> None:
        connection.execute(
            "DELETE FROM interrupts WHERE interrupt_id IN (SELECT value FROM json_each(?))", (_json(interrupt_ids),)
        )

    return step


@dataclass(frozen=True, slots=True)
class WaitingRow:
    """An open question with what it belongs to."""

    interrupt: InterruptRow
    session_id: str
    workflow_id: str
    title: str | None
    number: int  # in the order in which questions were asked

    @property
    def place(self) -> tuple[int, int]:
        """Where it stands in the list of all that waits."""
        return self.interrupt.created_at, self.number


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingFilter:
    """Which open questions: those to which everything that is set applies. Without `kinds` all but waits."""

    kinds: Sequence[str] = ()
    workflow_id: str | None = None
    session_id: str | None = None

    def condition(self) -> tuple[str, list[Any]]:
        """The WHERE condition and its parameters."""
        terms = ["i.status = 'open'", f"i.kind IN ({marks(len(self.kinds))})" if self.kinds else "i.kind <> 'wait'"]
        values: list[Any] = list(self.kinds)
        for column, value in (("s.workflow_id", self.workflow_id), ("s.session_id", self.session_id)):
            if value is not None:
                terms.append(f"{column} = ?")
                values.append(value)
        return " AND ".join(terms), values


class InterruptRepository:
    """Reads questions."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def get(self, interrupt_id: str) -> InterruptRow | None:
        found = await self._rows("interrupt_id = ?", (interrupt_id,))
        return found[0] if found else None

    async def open(self, session: SessionRef | None = None) -> list[InterruptRow]:
        """The open questions of a session, or of all, oldest first."""
        if session is None:
            return await self._rows("status = 'open'", ())
        return await self._rows("session_n = ? AND status = 'open'", (session.n,))

    async def waiting(
        self, chosen: WaitingFilter, *, limit: int, offset: int = 0, after: Sequence[CursorValue] | None = None
    ) -> tuple[list[WaitingRow], int]:
        """A page of the open questions of all sessions, oldest first, and how many there are.

        From number `offset` on, or those behind a row's `place`.
        """
        condition, values = chosen.condition()
        joined = f"FROM interrupts i JOIN sessions s ON s.n = i.session_n WHERE {condition}"
        columns = ", ".join(f"i.{column.strip()}" for column in _COLUMNS.split(","))
        behind = "" if after is None else " AND (i.created_at, i.rowid) > (?, ?)"
        listed = (
            f"SELECT {columns}, s.session_id, s.workflow_id, s.title, i.rowid {joined}{behind}"
            " ORDER BY i.created_at, i.rowid LIMIT ? OFFSET ?"
        )
        part = (*(after or ()), limit, 0 if after else offset)

        def read(connection: sqlite3.Connection) -> tuple[list[WaitingRow], int]:
            rows = connection.execute(listed, (*values, *part)).fetchall()
            (total,) = connection.execute(f"SELECT COUNT(*) {joined}", values).fetchone()
            return [WaitingRow(InterruptRow.of(row[:-4]), *row[-4:]) for row in rows], total

        return await self._readers.run(read)

    async def of_session(self, session: SessionRef) -> list[InterruptRow]:
        """Every question of a session, oldest first."""
        return await self._rows("session_n = ?", (session.n,))

    async def of_run(self, run_id: str, session: SessionRef) -> list[InterruptRow]:
        """Every question of a run, oldest first."""
        return await self._rows("session_n = ? AND run_id = ?", (session.n, run_id))

    async def due(self, *, now_us: int, limit: int = 100) -> list[InterruptRow]:
        """Open questions whose time has come, the longest overdue first."""
        rows = await self._readers.query(
            f"SELECT {_COLUMNS} FROM interrupts WHERE status = 'open' AND due_at <= ? ORDER BY due_at LIMIT ?",
            (now_us, limit),
        )
        return [InterruptRow.of(row) for row in rows]

    async def next_due_at(self) -> int | None:
        """When the next open question is due (µs)."""
        rows = await self._readers.query(
            "SELECT due_at FROM interrupts WHERE status = 'open' AND due_at IS NOT NULL ORDER BY due_at LIMIT 1"
        )
        return rows[0][0] if rows else None

    async def _rows(self, condition: str, values: Sequence[Any]) -> list[InterruptRow]:
        rows = await self._readers.query(
            f"SELECT {_COLUMNS} FROM interrupts WHERE {condition} ORDER BY created_at, rowid", values
        )
        return [InterruptRow.of(row) for row in rows]


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
