"""How connections to the database file are opened: one that writes, several that only read."""

import sqlite3
from pathlib import Path
from typing import Final
from urllib.parse import quote

__all__ = ["JOURNAL_SIZE_LIMIT", "open_reading", "open_writing"]

JOURNAL_SIZE_LIMIT: Final = 64 * 1024 * 1024  # bytes
BUSY_TIMEOUT_MS: Final = 5_000
CACHE_KIB: Final = 16 * 1024  # of the writer: what a busy group changes, with the pages it looks at
STATEMENTS: Final = 1_024  # prepared by the writer: inserts of each number of rows are a text each


# The module looks for an adapter of whatever is no number and no text. Where it finds none, of bytes and None too, it
# asks two objects in vain for attributes: with these two, what is given is taken as it is.
sqlite3.register_adapter(bytes, bytes)
sqlite3.register_adapter(type(None), dict[None, None]().get)


def open_writing(path: Path) -> sqlite3.Connection:
    """The one connection that writes. Only it checkpoints the WAL: two that do can corrupt it before SQLite 3.51.3.

    `foreign_keys` is left off, because migrations need it off; the writer turns it on after them.
    """
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=STATEMENTS)
    for pragma in (
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "wal_autocheckpoint=0",
        f"journal_size_limit={JOURNAL_SIZE_LIMIT}",
        "temp_store=MEMORY",
        f"cache_size=-{CACHE_KIB}",
    ):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def open_reading(path: Path) -> sqlite3.Connection:
    """A connection that can only read; may be used by one thread at a time."""
    location = f"file:{quote(str(path.absolute()))}?mode=ro"
    connection = sqlite3.connect(
        location, uri=True, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA query_only=ON")
    connection.execute("PRAGMA temp_store=MEMORY")
    return connection
