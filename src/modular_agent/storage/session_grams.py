"""The grams by which sessions are found: of the id, the workflow, the title and the metadata.

With them go whole words, so that a search for one need not be compared with every session that has it. The table is
kept in the transaction that changes a session. It has no content, so an entry can be taken out only by the very grams
that it was put in with: whoever changes one of these columns does it within `regrammed`. What the grams find is
compared with the columns by `LIKE`, in which ASCII letters alone match in either case: so it is with the grams.
"""

import contextlib
import re
import sqlite3
import string
from collections.abc import Generator, Sequence
from typing import Final, NamedTuple

import orjson

from modular_agent.storage.grams import JOINED, grams_of, is_gram, match_of

__all__ = ["Expressions", "add_grams", "expressions_of", "in_json", "rebuild_grams", "regrammed"]

_SEARCHED: Final = "session_id, workflow_id, title, metadata"
_LOWER: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_ADD: Final = "INSERT INTO session_grams (rowid, g) VALUES (?, ?)"
_REMOVE: Final = "INSERT INTO session_grams (session_grams, rowid, g) VALUES ('delete', ?, ?)"
_PIECE: Final = 2_000  # sessions whose grams are in memory at once
_WORDS: Final = re.compile(r"[a-z]{4,32}")  # longer than any gram; of a longer word its pieces


class Expressions(NamedTuple):
    """What the grams say of a search: it occurs in no session but those that fulfil `possible`, and in all of those
    that fulfil `certain` too (None: it is certain of none)."""

    possible: str
    certain: str | None

    @property
    def uncertain(self) -> str | None:
        """What those sessions fulfil that have to be compared with the search; None: there are none."""
        if self.certain is None:
            return self.possible
        return None if self.certain == self.possible else f"({self.possible}) NOT ({self.certain})"


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


def expressions_of(search: str) -> Expressions | None:
    """The expressions that tell where `search` occurs; None where it may occur in every session."""
    forms = [_lower(form) for form in dict.fromkeys((search, in_json(search)))]
    found = [match_of(form, JOINED) for form in forms]
    known = [f"({each})" for each in found if each is not None]
    if len(known) < len(found):
        return None
    possible = " OR ".join(known)
    if len(forms) == 1 and is_gram(forms[0], JOINED):
        return Expressions(possible, possible)
    return Expressions(possible, f'"{forms[0]}"' if _WORDS.fullmatch(forms[0]) else None)


def in_json(text: str) -> str:
    """`text` as it stands within a JSON string: quotation marks and line breaks are escaped there."""
    return orjson.dumps(text).decode()[1:-1]


def _stored(connection: sqlite3.Connection, n: int) -> str | None:
    row = connection.execute(f"SELECT {_SEARCHED} FROM sessions WHERE n = ?", (n,)).fetchone()
    return None if row is None else _grams(row)


def _grams(texts: Sequence[str | None]) -> str:
    """In one order always, so that equal texts have equal entries."""
    text = _lower("\n".join(text.partition("\0")[0] for text in texts if text))  # `LIKE` ends there too
    return " ".join(sorted(grams_of(text, JOINED).union(_WORDS.findall(text))))


def _lower(text: str) -> str:
    return text.lower() if text.isascii() else text.translate(_LOWER)
