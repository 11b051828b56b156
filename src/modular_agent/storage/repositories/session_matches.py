"""All sessions in whose texts a search occurs.

They change only when a session is made, whose number is greater than all others, or when texts are changed: so what was
found is kept until then (`SESSION_TEXTS`), and new sessions alone are looked at again.
"""

import sqlite3
from typing import Any, Final, NamedTuple

import orjson

from modular_agent.storage.repositories.searching import like_pattern
from modular_agent.storage.session_grams import expressions_of, in_json
from modular_agent.storage.session_sets import set_of

__all__ = ["SESSION_TEXTS", "Matches", "brought_forward", "occurs", "read_matches"]

SESSION_TEXTS: Final = (
    "session_texts"  # the cache's tag: id, workflow, title or metadata of a session that was there already
)


class Matches(NamedTuple):
    """The set (see `session_sets`) of the sessions up to the `newest` that match; deleted ones may be in it."""

    newest: int
    sessions: int


def occurs(search: str) -> tuple[str, list[Any]]:
    """The condition that `search` occurs in a session, and its values."""
    plain = like_pattern(search)
    text = (
        "(title LIKE ? ESCAPE '\\' OR metadata LIKE ? ESCAPE '\\' OR session_id LIKE ? ESCAPE '\\'"
        " OR workflow_id LIKE ? ESCAPE '\\')"
    )
    return text, [plain, like_pattern(in_json(search)), plain, plain]


def read_matches(connection: sqlite3.Connection, search: str, *, beyond: int = 0) -> Matches:
    """The sessions that match, of those with numbers greater than `beyond`."""
    (newest,) = connection.execute("SELECT coalesce(max(n), 0) FROM sessions").fetchone()
    if newest <= beyond:
        return Matches(beyond, 0)
    grams = expressions_of(search)
    text, values = occurs(search)
    if grams is None:
        found = _numbers(connection, f"n) FROM sessions WHERE n > ? AND {text}", beyond, *values)
        return Matches(newest, set_of(found))
    sessions = 0
    if grams.certain is not None:
        found = _numbers(
            connection, "rowid) FROM session_grams WHERE session_grams MATCH ? AND rowid > ?", grams.certain, beyond
        )
        sessions |= set_of(found)
    if grams.uncertain is not None:
        joined = "session_grams CROSS JOIN sessions ON n = session_grams.rowid"
        source = f"n) FROM {joined} WHERE session_grams MATCH ? AND session_grams.rowid > ? AND {text}"
        sessions |= set_of(_numbers(connection, source, grams.uncertain, beyond, *values))
    return Matches(newest, sessions)


def brought_forward(connection: sqlite3.Connection, matches: Matches, search: str) -> Matches:
    """The same, with the sessions that were made meanwhile."""
    new = read_matches(connection, search, beyond=matches.newest)
    return Matches(new.newest, matches.sessions | new.sessions)


def _numbers(connection: sqlite3.Connection, source: str, *values: Any) -> list[int]:  # SQL values
    return orjson.loads(connection.execute(f"SELECT json_group_array({source}", values).fetchone()[0])
