"""The files of the search index: one per month of the records, and one that says how far they are complete.

`index/YYYYMM.db` holds the grams of a month's messages, tool calls and errors in a contentless FTS5 table, its rowid
the record's id, and in the same transactions its watermark: every record of the month up to it is in the table.
`index/position.json` says up to which record all months are complete; it is written after the months are on the disk,
so it may be behind them, never ahead. Every file can be deleted: what is missing is made again.
"""

import contextlib
import os
import re
import sqlite3
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

import orjson

from modular_agent.kit.dataclass import dataclass

__all__ = [
    "Entry",
    "MonthIndex",
    "Position",
    "day_token",
    "delete_files",
    "month_files",
    "open_month",
    "read_position",
    "session_token",
    "type_token",
    "write_position",
]

FORMAT: Final = 1  # raised when grams change: older files are made again
POSITION: Final = "position.json"
_NAME: Final = re.compile(r"\d{6}\.db")
_GRAMS: Final = "fts5(g, content='', detail=none, columnsize=0, tokenize='ascii')"  # non-ASCII: token characters
_SCHEMA: Final = (
    f"CREATE VIRTUAL TABLE IF NOT EXISTS grams USING {_GRAMS}",
    "CREATE TABLE IF NOT EXISTS watermark (only INTEGER PRIMARY KEY, record_id INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS forgotten (session_n INTEGER PRIMARY KEY, seq INTEGER NOT NULL)",
    f"PRAGMA user_version={FORMAT}",
)
_MARK: Final = "INSERT INTO watermark VALUES (1, ?) ON CONFLICT (only) DO UPDATE SET record_id = excluded.record_id"
_FORGET: Final = "INSERT INTO forgotten VALUES (?, ?) ON CONFLICT (session_n) DO UPDATE SET seq = excluded.seq"


# Tokens beside the grams, so that filters are ANDed in the index. No gram that begins like them is as long.


def session_token(session_n: int) -> str:
    return f"¶s{session_n}"


def type_token(record_type: str) -> str:
    return f"¶t{record_type.replace('_', '')}"


def day_token(day: int) -> str:
    """Of the day of the month."""
    return f"¶d{day:02d}"


def delete_files(folder: Path) -> None:
    """Deletes the whole index, and nothing else in `folder`. Raises `OSError`."""
    (folder / POSITION).unlink(missing_ok=True)  # first: from now on nobody takes what is left for complete
    for path in folder.iterdir():
        if path.name.startswith(POSITION) or _NAME.match(path.name):  # with `-wal` and `-shm`
            path.unlink(missing_ok=True)


def month_files(folder: Path) -> dict[int, Path]:
    """The index files that are there, by month, the newest first."""
    names = sorted((path.name for path in folder.glob("*.db") if _NAME.fullmatch(path.name)), reverse=True)
    return {int(name[:6]): folder / name for name in names}


def open_month(path: Path) -> sqlite3.Connection:
    """A connection that only reads a month's file, for one thread at a time."""
    location = f"file:{quote(str(path.absolute()))}?mode=ro"
    connection = sqlite3.connect(location, uri=True, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA busy_timeout=5000")
    connection.execute("PRAGMA query_only=ON")
    return connection


class Entry(NamedTuple):
    """A record's part of the index: `grams` are its grams and filter tokens, joined by blanks."""

    record_id: int
    seq: int
    grams: str


@dataclass(frozen=True, slots=True)
class Position:
    """Up to which record every month is complete, and which months there were.

    `anchor_id` and `anchor` are the id and `record_id` of a record that was indexed: a database in which another record
    has this id, such as a restored one, needs a new index.
    """

    record_id: int = 0
    months: tuple[int, ...] = ()
    anchor_id: int = 0
    anchor: str = ""


def read_position(folder: Path) -> Position:
    """The stored position; the very beginning where there is none that can be used."""
    try:
        stored = orjson.loads((folder / POSITION).read_bytes())
        if stored["format"] != FORMAT:
            return Position()
        return Position(int(stored["position"]), tuple(stored["months"]), int(stored["anchor_id"]), stored["anchor"])
    except (OSError, ValueError, KeyError, TypeError):
        return Position()


def write_position(folder: Path, position: Position) -> None:
    """Replaces the stored position in one step. Raises `OSError`."""
    content = {
        "format": FORMAT,
        "position": position.record_id,
        "months": position.months,
        "anchor_id": position.anchor_id,
        "anchor": position.anchor,
    }
    beside = folder / f"{POSITION}.new"
    with beside.open("wb") as file:
        file.write(orjson.dumps(content))
        file.flush()
        os.fsync(file.fileno())
    beside.replace(folder / POSITION)


class MonthIndex:
    """A month's file as its one writer sees it. Belongs to the index's thread. Raises `sqlite3.Error`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            for pragma in ("busy_timeout=5000", "journal_mode=WAL", "synchronous=NORMAL", "temp_store=MEMORY"):
                self._connection.execute(f"PRAGMA {pragma}")
            self._prepare()
        except BaseException:
            self._connection.close()
            raise
        self.dirty = False

    @property
    def usable(self) -> bool:
        """Whether the file was made by this version's rules."""
        return self._connection.execute("PRAGMA user_version").fetchone()[0] == FORMAT

    @property
    def watermark(self) -> int:
        row = self._connection.execute("SELECT record_id FROM watermark").fetchone()
        return row[0] if row else 0

    def add(self, entries: Iterable[Entry], *, watermark: int) -> None:
        """Puts in the entries beyond the watermark, and raises it, in one transaction."""
        with self._transaction():
            before = self.watermark
            self._connection.executemany(
                "INSERT INTO grams (rowid, g) VALUES (?, ?)",
                [(entry.record_id, entry.grams) for entry in entries if entry.record_id > before],
            )
            self._connection.execute(_MARK, (max(before, watermark),))

    def remove(self, session_n: int, entries: Iterable[Entry]) -> None:
        """Takes out the entries of a deleted session; what is not in, or was taken out before, is left alone.

        The `seq` of entries must grow from call to call.
        """
        with self._transaction():
            row = self._connection.execute("SELECT seq FROM forgotten WHERE session_n = ?", (session_n,)).fetchone()
            done, watermark = row[0] if row else 0, self.watermark
            inside = [entry for entry in entries if entry.seq > done and entry.record_id <= watermark]
            self._connection.executemany(
                "INSERT INTO grams (grams, rowid, g) VALUES ('delete', ?, ?)",
                [(entry.record_id, entry.grams) for entry in inside],
            )
            if inside:
                self._connection.execute(_FORGET, (session_n, inside[-1].seq))

    def merge(self) -> None:
        """Makes one segment of all: smaller and quicker. Takes seconds for a large month."""
        self._connection.execute("INSERT INTO grams (grams) VALUES ('optimize')")
        self.dirty = True

    def sync(self) -> None:
        """Returns when everything committed is on the disk. Raises `OSError`."""
        if not self.dirty:
            return
        for path in (self._path.with_name(f"{self._path.name}-wal"), self._path):
            with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                os.fdatasync(file.fileno())
        self.dirty = False

    def close(self) -> None:
        self._connection.close()

    def _prepare(self) -> None:
        if self._connection.execute("PRAGMA user_version").fetchone()[0] not in (0, FORMAT):
            return
        with self._transaction():
            for statement in _SCHEMA:
                self._connection.execute(statement)

    @contextlib.contextmanager
    def _transaction(self) -> Generator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")
        self.dirty = True
