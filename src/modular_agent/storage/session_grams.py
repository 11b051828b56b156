"""The grams by which sessions are found: of the id, the workflow, the title and the metadata.

The table is kept in the transaction that changes a session. It has no content, so an entry can be taken out only by the
very grams that it was put in with: whoever changes one of these columns does it within `regrammed`. What the grams find
is compared with the columns by `LIKE`, in which ASCII letters alone match in either case: so it is with the grams.
"""

import contextlib
import sqlite3
import string
from collections.abc import Generator, Sequence
from typing import Final

import orjson

from modular_agent.storage.grams import grams_of, match_of

__all__ = ["add_grams", "expression_of", "in_json", "rebuild_grams", "regrammed"]

_SEARCHED: Final = "session_id, workflow_id, title, metadata"
_LOWER: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_ADD: Final = "INSERT INTO session_grams (rowid, g) VALUES (?, ?)"
_REMOVE: Final = "INSERT INTO session_grams (session_grams, rowid, g) VALUES ('delete', ?, ?)"
_PIECE: Final = 2_000  # sessions whose grams are in memory at once


def add_grams(connection: sqlite3.Connection, n: int) -> None:
    """Enters a session that was made in this transaction."""
    connection.execute(_ADD, (n, _stored(connection, n)))


@contextlib.contextmanager
def regrammed(connection: sqlite3.Connection, n: int) -> Generator[None]:
    """Around statements that change or delete the session: its grams follow."""
    before = _stored(connection, n)
    yield
    after = _stored(connection, n)
    if after == before:
        return
    if before is not None:
        connection.execute(_REMOVE, (n, before))
    if after is not None:
        connection.execute(_ADD, (n, after))


def rebuild_grams(connection: sqlite3.Connection) -> None:
    """Makes all entries anew, within the caller's transaction."""
    connection.execute("INSERT INTO session_grams (session_grams) VALUES ('delete-all')")
    rows = connection.execute(f"SELECT n, {_SEARCHED} FROM sessions ORDER BY n")
    while piece := rows.fetchmany(_PIECE):
        connection.executemany(_ADD, [(n, _grams(texts)) for n, *texts in piece])


def expression_of(search: str) -> str | None:
    """The expression that the entry of every session fulfils in which `search` occurs; None where all may."""
    found = [match_of(_lower(form)) for form in dict.fromkeys((search, in_json(search)))]
    known = [f"({each})" for each in found if each is not None]
    return " OR ".join(known) if len(known) == len(found) else None


def in_json(text: str) -> str:
    """`text` as it stands within a JSON string: quotation marks and line breaks are escaped there."""
    return orjson.dumps(text).decode()[1:-1]


def _stored(connection: sqlite3.Connection, n: int) -> str | None:
    row = connection.execute(f"SELECT {_SEARCHED} FROM sessions WHERE n = ?", (n,)).fetchone()
    return None if row is None else _grams(row)


def _grams(texts: Sequence[str | None]) -> str:
    """In one order always, so that equal texts have equal entries."""
    return " ".join(sorted(grams_of(_lower("\n".join(text for text in texts if text)))))


def _lower(text: str) -> str:
    return text.lower() if text.isascii() else text.translate(_LOWER)
