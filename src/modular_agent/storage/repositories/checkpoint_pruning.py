"""Steps that delete and copy checkpoints: retention, rollback, fork. Each is to be a unit's `first` or `then`."""

import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import orjson

from modular_agent.events import SessionRef
from modular_agent.storage.models import ACTIVE_STATUSES_SQL, checkpoint_writes, checkpoints, log_items

__all__ = [
    "copy_checkpoint",
    "copy_checkpoints",
    "delete_checkpoints",
    "delete_checkpoints_of_runs",
    "drop_log_items",
    "prune_checkpoints",
    "prune_to_newest",
]

_ALL: Final = (checkpoints, checkpoint_writes, log_items)
_BOOKMARKED: Final = (
    "SELECT coalesce((SELECT min(c.checkpoint_id) FROM checkpoints c WHERE c.session_n = b.session_n AND c.ns = ''"
    " AND c.created_at >= b.message_ts), '') FROM bookmarks b WHERE b.session_n = ?1"
)
_RETURNING: Final = "RETURNING session_n, ns, checkpoint_id"


def prune_checkpoints(
    session: SessionRef, *, keep: int, protect: Collection[str] = ()
) -> Callable[[sqlite3.Connection], int]:
    """The step that keeps the newest `keep` root checkpoints, the saved ones and those in `protect`.

    The first checkpoint after each bookmarked message is kept too: the state of which the message is a part. The
    namespaces of sub-graphs go with the root checkpoint they belong to. Its result is the number deleted.
    """

    def step(connection: sqlite3.Connection) -> int:
        doomed = connection.execute(
            "DELETE FROM checkpoints WHERE session_n = ?1 AND ns = '' AND saved_name IS NULL"
            " AND checkpoint_id NOT IN (SELECT checkpoint_id FROM checkpoints WHERE session_n = ?1 AND ns = ''"
            " ORDER BY checkpoint_id DESC LIMIT ?2)"
            " AND checkpoint_id NOT IN (SELECT value FROM json_each(?3))"
            f" AND checkpoint_id NOT IN ({_BOOKMARKED}) {_RETURNING}",
            (session.n, keep, _json(list(protect))),
        ).fetchall()
        doomed += _delete_rootless(connection, session.n)
        _delete_writes(connection, doomed)
        return len(doomed)

    return step


def prune_to_newest(
    session: SessionRef, *, keep: int = 1, protect: Collection[tuple[str, str]] = ()
) -> Callable[[sqlite3.Connection], int]:
    """The step that keeps the newest `keep` checkpoints of each namespace, saved ones and those in `protect`.

    `protect` are (namespace, checkpoint id). Its result is the number deleted.
    """

    def step(connection: sqlite3.Connection) -> int:
        doomed = connection.execute(
            "DELETE FROM checkpoints WHERE session_n = ?1 AND saved_name IS NULL AND (ns, checkpoint_id) NOT IN"
            " (SELECT ns, checkpoint_id FROM (SELECT ns, checkpoint_id,"
            " row_number() OVER (PARTITION BY ns ORDER BY checkpoint_id DESC) AS place"
            " FROM checkpoints WHERE session_n = ?1) WHERE place <= ?2)"
            " AND (ns, checkpoint_id) NOT IN (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]')"
            f" FROM json_each(?3)) {_RETURNING}",
            (session.n, keep, _json(list(protect))),
        ).fetchall()
        _delete_writes(connection, doomed)
        return len(doomed)

    return step


def delete_checkpoints(session: SessionRef) -> Callable[[sqlite3.Connection], None]:
    """The step that deletes all checkpoints of a session, their writes and the items of its channels."""

    def step(connection: sqlite3.Connection) -> None:
        for table in _ALL:
            connection.execute(f"DELETE FROM {table.name} WHERE session_n = ?", (session.n,))

    return step


def delete_checkpoints_of_runs(
    run_ids: Sequence[str], *, session: SessionRef | None = None
) -> Callable[[sqlite3.Connection], int]:
    """The step that deletes what some runs saved (in one session, if given), with the sub-graphs below it.

    Its result is the number deleted. Without a session it looks at all checkpoints that there are.
    """

    def step(connection: sqlite3.Connection) -> int:
        doomed = connection.execute(
            "DELETE FROM checkpoints WHERE run_id IN (SELECT value FROM json_each(?1))"
            f" AND (?2 IS NULL OR session_n = ?2) {_RETURNING}",
            (_json(list(run_ids)), None if session is None else session.n),
        ).fetchall()
        for n in {row[0] for row in doomed}:
            doomed += _delete_rootless(connection, n)
        _delete_writes(connection, doomed)
        return len(doomed)

    return step


def drop_log_items(
    session: SessionRef, *, lengths: Mapping[str, int], checkpoint_ids: Collection[str]
) -> Callable[[sqlite3.Connection], int | None]:
    """The step that deletes the items which no checkpoint refers to; `lengths` says how many of each segment are used.

    The caller has found `lengths` by reading the checkpoints `checkpoint_ids`. Unless these still are all of the
    session's checkpoints, and no run is active, nothing is deleted and the result is None: a newer checkpoint may
    refer to more. Otherwise it is the number deleted.
    """

    def step(connection: sqlite3.Connection) -> int | None:
        active = connection.execute(
            f"SELECT 1 FROM runs WHERE session_n = ? AND {ACTIVE_STATUSES_SQL}", (session.n,)
        ).fetchone()
        rows = connection.execute("SELECT checkpoint_id FROM checkpoints WHERE session_n = ?", (session.n,)).fetchall()
        if active is not None or {row[0] for row in rows} != set(checkpoint_ids):
            return None
        return connection.execute(
            "DELETE FROM log_items WHERE session_n = ?1 AND position >= coalesce("
            "(SELECT value FROM json_each(?2) WHERE key = log_items.segment), 0)",
            (session.n, _json(dict(lengths))),
        ).rowcount

    return step


def copy_checkpoints(source: SessionRef, target: SessionRef) -> Callable[[sqlite3.Connection], None]:
    """The step that copies every checkpoint, write and channel item of a session to another."""

    def step(connection: sqlite3.Connection) -> None:
        for table in _ALL:
            names = ", ".join(column.name for column in table.columns if column.name != "session_n")
            connection.execute(
                f"INSERT OR REPLACE INTO {table.name} (session_n, {names}) SELECT ?, {names} FROM {table.name}"
                " WHERE session_n = ?",
                (target.n, source.n),
            )

    return step


def copy_checkpoint(
    source: SessionRef,
    target: SessionRef,
    *,
    checkpoint_id: str,
    segments: Mapping[str, int],
    pending: bool,
) -> Callable[[sqlite3.Connection], bool]:
    """The step of a fork: copies one root checkpoint, without its past, and the channel items it refers to.

    `segments` is the length of each segment used. With `pending` its writes and the namespaces of its sub-graphs come
    too, so that the target goes on where the source stands. False: there is no such checkpoint.
    """

    def step(connection: sqlite3.Connection) -> bool:
        done = connection.execute(
            f"INSERT INTO checkpoints ({_names('')}) SELECT {_names('?1', parent='NULL', run='NULL', saved='NULL')}"
            " FROM checkpoints WHERE session_n = ?2 AND ns = '' AND checkpoint_id = ?3",
            (target.n, source.n, checkpoint_id),
        )
        if done.rowcount == 0:
            return False
        for segment, length in segments.items():
            connection.execute(
                "INSERT INTO log_items SELECT ?, segment, position, value FROM log_items"
                " WHERE session_n = ? AND segment = ? AND position < ?",
                (target.n, source.n, segment, length),
            )
        if pending:
            _copy_pending(connection, source.n, target.n, checkpoint_id)
        return True

    return step


def _copy_pending(connection: sqlite3.Connection, source: int, target: int, checkpoint_id: str) -> None:
    connection.execute(
        f"INSERT INTO checkpoints ({_names('')}) SELECT {_names('?1', run='NULL', saved='NULL')} FROM checkpoints"
        " WHERE session_n = ?2 AND ns != '' AND root_id = ?3",
        (target, source, checkpoint_id),
    )
    connection.execute(
        "INSERT INTO checkpoint_writes SELECT ?1, w.ns, w.checkpoint_id, w.task_id, w.idx, w.task_path, w.channel,"
        " w.type, w.value FROM checkpoint_writes w WHERE w.session_n = ?2 AND EXISTS (SELECT 1 FROM checkpoints c"
        " WHERE c.session_n = ?1 AND c.ns = w.ns AND c.checkpoint_id = w.checkpoint_id)",
        (target, source),
    )


def _names(session: str, *, parent: str = "", run: str = "", saved: str = "") -> str:
    """The columns of checkpoints, with other expressions in the place of some."""
    instead = {"session_n": session, "parent_id": parent, "run_id": run, "saved_name": saved}
    return ", ".join(instead.get(column.name) or column.name for column in checkpoints.columns)


def _delete_rootless(connection: sqlite3.Connection, n: int) -> list[tuple[Any, ...]]:
    return connection.execute(
        "DELETE FROM checkpoints WHERE session_n = ?1 AND ns != '' AND root_id IS NOT NULL AND root_id NOT IN"
        f" (SELECT checkpoint_id FROM checkpoints WHERE session_n = ?1 AND ns = '') {_RETURNING}",
        (n,),
    ).fetchall()


def _delete_writes(connection: sqlite3.Connection, doomed: Sequence[tuple[Any, ...]]) -> None:
    connection.execute(
        "DELETE FROM checkpoint_writes WHERE (session_n, ns, checkpoint_id) IN (SELECT json_extract(value, '$[0]'),"
        " json_extract(value, '$[1]'), json_extract(value, '$[2]') FROM json_each(?))",
        (_json([list(row) for row in doomed]),),
    )


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
