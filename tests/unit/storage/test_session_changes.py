"""Whatever a transaction gathers for a session's row, the row holds afterwards; indexes without news are left alone."""

import asyncio
import sqlite3
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from modular_agent.storage.database import Database
from modular_agent.storage.repositories.sessions import NewSession, SessionRow, create_session
from modular_agent.storage.session_changes import SessionChanges
from modular_agent.storage.unit_of_work import Counters, SessionStanding, UnitOfWork

COUNTED = st.builds(
    Counters,
    messages=st.integers(0, 2),
    errors=st.integers(0, 2),
    prompt_tokens=st.integers(0, 1),
    cost_nano=st.just(0),
) | st.builds(Counters, cost_nano=st.integers(0, 9))
NUMBER = st.integers(1, 3)
CHANGES = st.lists(
    st.tuples(NUMBER, st.integers(0, 50), COUNTED)
    | st.tuples(NUMBER, st.integers(0, 50), st.just("record"))
    | st.tuples(NUMBER, st.integers(0, 50), st.sampled_from([("paused", "r1"), ("completed", None)])),
    max_size=12,
)


def changed(row: SessionRow, at: int, what: Any) -> SessionRow:
    """The row as it is after one of the changes."""
    row = replace(row, updated_at=max(row.updated_at, at))
    if what == "record":
        return replace(row, last_seq=row.last_seq + 1, last_ts=max(row.last_ts, at))
    if isinstance(what, tuple):
        return replace(row, status=what[0], current_run_id=what[1])
    return replace(row, **{name: getattr(row, name) + getattr(what, name) for name in Counters.__slots__})


def gather(changes: SessionChanges, row: SessionRow, at: int, what: Any) -> None:
    if what == "record":
        changes.reached(row.n, seq=row.last_seq + 1, ts=max(row.last_ts, at), at=at)
    elif isinstance(what, tuple):
        changes.stand(SessionStanding(row.n, what[0], what[1], at))
    else:
        changes.count(row.n, what, at=at)


@settings(max_examples=25, deadline=None)
@given(CHANGES)
def test_rows_hold_what_was_gathered(drawn: list[tuple[int, int, Any]]) -> None:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with Database.open(Path(folder) / "data") as database:
                rows = {n: await a_session(database, n) for n in (1, 2, 3)}
                changes = SessionChanges()
                for n, at, what in drawn:
                    gather(changes, rows[n], at, what)
                    rows[n] = changed(rows[n], at, what)
                await database.writer.exclusive(changes.store)
                found = await database.readers.query("SELECT * FROM sessions ORDER BY n")
                assert [SessionRow.of(row) for row in found] == [*rows.values()]

    asyncio.run(run())


async def test_a_row_without_tokens_and_status_is_written_into_the_indexes_by_time_alone(database: Database) -> None:
    await a_session(database, 1)

    def written(connection: sqlite3.Connection) -> set[str]:
        changes, statements = SessionChanges(), list[str]()
        changes.count(1, Counters(messages=1), at=5)
        connection.set_trace_callback(statements.append)
        changes.store(connection)
        connection.set_trace_callback(None)
        pages = {row[3] for row in connection.execute(f"EXPLAIN {statements[0]}") if row[1] == "OpenWrite"}
        names = dict(connection.execute("SELECT rootpage, name FROM sqlite_master WHERE tbl_name = 'sessions'"))
        return {names[page] for page in pages}

    expected = {"sessions", "ix_sessions_updated", "ix_sessions_status"}
    assert await database.writer.exclusive(written) == expected


async def a_session(database: Database, n: int) -> SessionRow:
    new = NewSession(session_id=f"s{n}", workflow_id="w", workflow_version="v", workflow_config_path="w", now_us=10 * n)
    await database.writer.commit(UnitOfWork(then=create_session(new)))
    (row,) = await database.readers.query("SELECT * FROM sessions WHERE n = ?", (n,))
    return SessionRow.of(row)
