"""The effect ledger: that a tool call was about to happen, and what came of it."""

import sqlite3
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, Final

from modular_agent.events import SessionRef
from modular_agent.kit.dataclass import dataclass
from modular_agent.storage.models import effects
from modular_agent.storage.readers import Readers
from modular_agent.storage.sql import column_list, marks
from modular_agent.storage.unit_of_work import Conflict, UnitOfWork

__all__ = [
    "EffectRepository",
    "EffectRow",
    "EffectStatus",
    "NewEffect",
    "put_effect",
    "record_attempt",
    "record_intent",
    "record_result",
]

_COLUMNS: Final = column_list(effects)


class EffectStatus(StrEnum):
    """What is known of a call."""

    INTENT = "intent"
    DONE = "done"
    FAILED = "failed"
    NOT_DONE = "not_done"  # a person said so


@dataclass(frozen=True, slots=True)
class EffectRow:
    """A call in the ledger, in the order of the table's columns. Times in µs; `result` is JSON text."""

    session_n: int
    tool_call_id: str
    run_id: str
    node: str
    tool_name: str
    effect: str
    idempotency_key: str
    status: str
    attempts: int
    intent_at: int
    result_at: int | None
    result: str | None

    def values(self) -> tuple[Any, ...]:
        """The SQL values."""
        return (
            *(self.session_n, self.tool_call_id, self.run_id, self.node, self.tool_name, self.effect),
            *(self.idempotency_key, self.status, self.attempts, self.intent_at, self.result_at, self.result),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEffect:
    """A call that is about to happen."""

    session: SessionRef
    tool_call_id: str
    run_id: str
    node: str
    tool_name: str
    effect: str
    idempotency_key: str
    now_us: int


def record_intent(new: NewEffect) -> Callable[[sqlite3.Connection], tuple[EffectRow, bool]]:
    """The step that notes the intent of a call; its result is the row, and whether it is new.

    A call that is there already is returned as it was: its result may be known, or its outcome unknown.
    """
    values = (
        *(new.session.n, new.tool_call_id, new.run_id, new.node, new.tool_name, new.effect, new.idempotency_key),
        *(EffectStatus.INTENT.value, 1, new.now_us, None, None),
    )

    def step(connection: sqlite3.Connection) -> tuple[EffectRow, bool]:
        rows = connection.execute(
            f"INSERT INTO effects VALUES ({marks(len(values))}) ON CONFLICT DO NOTHING RETURNING {_COLUMNS}", values
        ).fetchall()
        if rows:
            return EffectRow(*rows[0]), True
        found = _get(connection, new.session.n, new.tool_call_id)
        assert found is not None
        return found, False

    return step


def put_effect(unit: UnitOfWork[Any], row: EffectRow) -> None:
    """Adds what came of a call to the unit, as data: merged with other units, unlike `record_result`.

    `attempts` stays as it is when the call is there already.
    """
    unit.insert(effects, row.values(), conflict=Conflict.REPLACE)


def record_attempt(
    session: SessionRef, tool_call_id: str, *, run_id: str, now_us: int
) -> Callable[[sqlite3.Connection], EffectRow | None]:
    """The step that notes that an earlier intent runs again: one attempt more, and no result yet."""

    def step(connection: sqlite3.Connection) -> EffectRow | None:
        rows = connection.execute(
            "UPDATE effects SET status = 'intent', attempts = attempts + 1, run_id = ?, intent_at = ?,"
            f" result_at = NULL, result = NULL WHERE session_n = ? AND tool_call_id = ? RETURNING {_COLUMNS}",
            (run_id, now_us, session.n, tool_call_id),
        ).fetchall()
        return EffectRow(*rows[0]) if rows else None

    return step


def record_result(
    session: SessionRef, tool_call_id: str, *, status: EffectStatus, result: str | None, now_us: int
) -> Callable[[sqlite3.Connection], EffectRow | None]:
    """The step that notes what came of a call (`result` is JSON text). None: there was no intent."""

    def step(connection: sqlite3.Connection) -> EffectRow | None:
        rows = connection.execute(
            "UPDATE effects SET status = ?, result = ?, result_at = ? WHERE session_n = ? AND tool_call_id = ?"
            f" RETURNING {_COLUMNS}",
            (status.value, result, now_us, session.n, tool_call_id),
        ).fetchall()
        return EffectRow(*rows[0]) if rows else None

    return step


class EffectRepository:
    """Reads the ledger."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def get(self, session: SessionRef, tool_call_id: str) -> EffectRow | None:
        return await self._readers.run(lambda connection: _get(connection, session.n, tool_call_id))

    async def open_intents(self, session: SessionRef, *, run_id: str) -> list[EffectRow]:
        """The run's calls whose outcome nobody knows, oldest first."""
        return await self._rows("run_id = ? AND status = 'intent'", (session.n, run_id))

    async def of_run(self, session: SessionRef, *, run_id: str) -> list[EffectRow]:
        """Every call of the run, oldest first."""
        return await self._rows("run_id = ?", (session.n, run_id))

    async def _rows(self, condition: str, values: Sequence[Any]) -> list[EffectRow]:
        rows = await self._readers.query(
            f"SELECT {_COLUMNS} FROM effects WHERE session_n = ? AND {condition} ORDER BY intent_at, tool_call_id",
            values,
        )
        return [EffectRow(*row) for row in rows]


def _get(connection: sqlite3.Connection, n: int, tool_call_id: str) -> EffectRow | None:
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM effects WHERE session_n = ? AND tool_call_id = ?", (n, tool_call_id)
    ).fetchone()
    return None if row is None else EffectRow(*row)
