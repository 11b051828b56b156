"""How a session stands: what is prepared outside of a transaction is let in only if it still fits.

Whoever makes a new state or run reads first what it goes on from. These steps, in the transaction that makes it
durable, refuse it when somebody else was quicker: of two at the same instant the second one looks again.
"""

import sqlite3
from collections.abc import Callable
from typing import Final

from modular_agent.events import SessionRef
from modular_agent.storage.errors import SessionBusy, SessionMoved
from modular_agent.storage.models import ACTIVE_STATUSES_SQL

__all__ = ["LEFT_BEHIND", "ROLLED_BACK", "at_rest", "has_moved", "leave_behind", "stands"]

# In a run's `pending`: what it was given and did is not carried over.
ROLLED_BACK: Final = "rolled_back"
LEFT_BEHIND: Final = "left_behind"  # as it was at this epoch: the session was then taken back to a checkpoint

# Of the log: a run's status, and the controls that change a session's state or workflow between two runs.
_MOVED: Final = (
    "SELECT 1 FROM records WHERE session_n = ? AND seq > ? AND (record_type = 'run' OR (record_type = 'control'"
    " AND json_extract(CAST(line AS TEXT), '$.action') IN ('restore', 'rollback', 'migrate'))) LIMIT 1"
)


def stands(session: SessionRef, *, since: int) -> Callable[[sqlite3.Connection], None]:
    """The step that raises `SessionMoved` if a run or the state of the session changed after the record `since`."""

    def step(connection: sqlite3.Connection) -> None:
        if has_moved(connection, session.n, since=since):
            raise SessionMoved(session_id=session.session_id)

    return step


def has_moved(connection: sqlite3.Connection, n: int, *, since: int) -> bool:
    """Whether a run or the state of a session (by number) changed after the record `since`."""
    return connection.execute(_MOVED, (n, since)).fetchone() is not None


def at_rest(session: SessionRef) -> Callable[[sqlite3.Connection], None]:
    """The step that raises `SessionBusy` while a run of the session is active."""

    def step(connection: sqlite3.Connection) -> None:
        row = connection.execute(
            f"SELECT run_id FROM runs WHERE session_n = ? AND {ACTIVE_STATUSES_SQL}", (session.n,)
        ).fetchone()
        if row is not None:
            raise SessionBusy(session_id=session.session_id, run_id=row[0])

    return step


def leave_behind(session: SessionRef) -> Callable[[sqlite3.Connection], None]:
    """The step that has nothing carried over of what the session's last run was given, or was edited to."""

    def step(connection: sqlite3.Connection) -> None:
        connection.execute(
            "UPDATE runs SET pending = json_set(json_remove(coalesce(pending, '{}'), '$.update'), ?2, epoch)"
            " WHERE run_id = (SELECT run_id FROM runs WHERE session_n = ?1 AND json_extract(pending, ?3) IS NULL"
            " ORDER BY created_at DESC, rowid DESC LIMIT 1)",
            (session.n, f"$.{LEFT_BEHIND}", f"$.{ROLLED_BACK}"),
        )

    return step
