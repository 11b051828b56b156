"""The costs of model calls, changed after the fact with all sums that they are in."""

import sqlite3
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import orjson

from modular_agent.storage.models import llm_calls, spending
from modular_agent.storage.readers import Readers
from modular_agent.storage.repositories.llm_calls import LlmCallRow
from modular_agent.storage.rollup_changes import add_rollups
from modular_agent.storage.rollups import DAY, Rollups
from modular_agent.storage.sql import InsertTexts, column_list
from modular_agent.storage.unit_of_work import Conflict

__all__ = ["CallCosts", "NewCost", "set_costs"]

_COLUMNS: Final = column_list(llm_calls, alias="c")
# The API key that the call's run was charged to.
_KEY: Final = (
    "(SELECT k.key_id FROM key_charges k WHERE k.session_n = c.session_n AND k.run_id IN ('', c.run_id)"
    " ORDER BY k.run_id DESC LIMIT 1)"
)


class NewCost(NamedTuple):
    """What a call costs (nano-dollars; None: not known), and by which prices."""

    cost_nano: int | None
    price_source: str | None


class CallCosts:
    """Reads model calls from the first to the last, those of sessions that are being deleted left out."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def count(self) -> int:
        return (await self._readers.query("SELECT count(*) FROM llm_calls"))[0][0]

    async def after(self, place: int, *, limit: int) -> tuple[list[LlmCallRow], int]:
        """Calls behind a place (0: the first), and the place behind them."""
        rows = await self._readers.query(
            f"SELECT c.rowid, {_COLUMNS} FROM llm_calls c JOIN sessions s ON s.n = c.session_n"
            " WHERE c.rowid > ? AND s.deleted_at IS NULL ORDER BY c.rowid LIMIT ?",
            (place, limit),
        )
        return [LlmCallRow(*row[1:]) for row in rows], rows[-1][0] if rows else place


def set_costs(costs: Mapping[str, NewCost], *, inserts: InsertTexts) -> Callable[[sqlite3.Connection], int]:
    """The step that sets the costs of calls (by call_id) that are there still, with all sums; its result: how many.

    `inserts` belongs to the writer's thread.
    """

    def step(connection: sqlite3.Connection) -> int:
        rows = connection.execute(
            f"SELECT s.tenant, s.session_id, {_KEY}, {_COLUMNS} FROM llm_calls c JOIN sessions s ON s.n = c.session_n"
            " WHERE c.call_id IN (SELECT value FROM json_each(?)) AND s.deleted_at IS NULL",
            (orjson.dumps(list(costs)).decode(),),
        ).fetchall()
        rollups = Rollups()
        sessions: dict[int, list[int]] = {}
        spent: dict[tuple[str, str, int], list[int]] = {}
        for tenant, session_id, key_id, *values in rows:
            row = LlmCallRow(*values)
            new = costs[row.call_id]
            rollups.change_cost(tenant, tuple(values), new.cost_nano)
            tokens = row.prompt_tokens + row.completion_tokens
            change = (
                (new.cost_nano or 0) - (row.cost_nano or 0),
                tokens * ((new.cost_nano is None) - (row.cost_nano is None)),
            )
            day = row.ts // DAY
            subjects = [("session", session_id), ("workflow", row.workflow_id), ("installation", "")]
            subjects += [("key", key_id)] if key_id is not None else []
            charged = [spent.setdefault((scope, subject, day), [0, 0]) for scope, subject in subjects]
            for sums in (sessions.setdefault(row.session_n, [0, 0]), *charged):
                sums[0] += change[0]
                sums[1] += change[1]
        connection.executemany(
            "UPDATE llm_calls SET cost_nano = ?, price_source = ? WHERE call_id = ?",
            [(*costs[row[3]], row[3]) for row in rows],
        )
        connection.executemany(
            "UPDATE sessions SET cost_nano = cost_nano + ?, unpriced_tokens = unpriced_tokens + ? WHERE n = ?",
            [(*sums, n) for n, sums in sessions.items()],
        )
        add_rollups(connection, rollups, inserts)
        charges = [(*of, 0, 0, unpriced, cost, 0, 0) for of, (cost, unpriced) in spent.items()]
        for text, parameters in inserts.statements(spending, Conflict.ADD, charges) if charges else ():
            connection.execute(text, parameters)
        return len(rows)

    return step
