"""SQL text made once from the tables; what runs is this text on a raw connection."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Final, TypeVar

from modular_agent.storage.models.metadata import GREATEST, KEPT, LEAST
from modular_agent.storage.models.table import Column, Table, quoted
from modular_agent.storage.unit_of_work import Conflict

__all__ = ["InsertTexts", "column_list", "in_pieces", "marks", "value_rows"]

EXACT_ROWS: Final = 16
# Above EXACT_ROWS only these counts: preparing a statement takes as long as running it, so that few are to be prepared.
LARGE_ROWS: Final = (512, 256, 128, *range(64, EXACT_ROWS - 1, -8))

R = TypeVar("R")


def column_list(table: Table, *, alias: str = "") -> str:
    """The table's columns for a SELECT, in their order."""
    prefix = f"{alias}." if alias else ""
    return ", ".join(prefix + quoted(column.name) for column in table.columns)


def marks(count: int) -> str:
    """`count` placeholders, separated by commas."""
    return ", ".join("?" * count)


def value_rows(rows: Sequence[Sequence[Any]]) -> str:
    """Placeholders for what stands behind VALUES; there is at least one row, and all are of one length."""
    return ", ".join([f"({marks(len(rows[0]))})"] * len(rows))


def in_pieces(rows: Sequence[R]) -> Iterator[Sequence[R]]:
    """The rows in pieces of a few sizes, for statements whose text depends on the number of rows."""
    start = 0
    while (left := len(rows) - start) > 0:
        count = left if left <= EXACT_ROWS else next(size for size in LARGE_ROWS if size <= left)
        yield rows[start : start + count]
        start += count


class InsertTexts:
    """Multi-row INSERT statements for the tables, each text made once. Belongs to one thread."""

    def __init__(self) -> None:
        self._parts: dict[tuple[Table, Conflict, bool], tuple[str, str, str]] = {}
        self._texts: dict[tuple[Table, Conflict, bool, int], str] = {}

    def statements(
        self, table: Table, conflict: Conflict, rows: Sequence[tuple[Any, ...]], *, numbered: bool = False
    ) -> Iterator[tuple[str, list[Any]]]:
        """The statements that insert `rows` in their order, with their parameters.

        `numbered` leaves the first column (an autoincremented key) out.
        """
        for chunk in in_pieces(rows):
            yield self._text(table, conflict, numbered, len(chunk)), [*chain.from_iterable(chunk)]

    def _text(self, table: Table, conflict: Conflict, numbered: bool, count: int) -> str:
        key = (table, conflict, numbered, count)
        text = self._texts.get(key)
        if text is None:
            head, values, tail = self._part(table, conflict, numbered)
            text = self._texts[key] = f"{head}{', '.join([values] * count)}{tail}"
        return text

    def _part(self, table: Table, conflict: Conflict, numbered: bool) -> tuple[str, str, str]:
        key = (table, conflict, numbered)
        if key not in self._parts:
            names = [quoted(column.name) for column in table.columns][1 if numbered else 0 :]
            head = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES "
            self._parts[key] = (head, f"({marks(len(names))})", _on_conflict(table, conflict))
        return self._parts[key]


def _on_conflict(table: Table, conflict: Conflict) -> str:
    """What happens to a row whose key is there: https://www.sqlite.org/lang_upsert.html."""
    if conflict is Conflict.FAIL:
        return ""
    others = [column for column in table.columns if not column.primary_key]
    match conflict:
        case Conflict.IGNORE:
            action = "DO NOTHING"
        case Conflict.REPLACE:  # INSERT OR REPLACE would delete the row, and what refers to it too
            given = (quoted(column.name) for column in others if KEPT not in column.info)
            action = f"DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in given)}"
        case Conflict.ADD:
            action = f"DO UPDATE SET {', '.join(f'{quoted(column.name)} = {_sum(column)}' for column in others)}"
    return f" ON CONFLICT ({', '.join(quoted(column.name) for column in table.primary_key)}) {action}"


def _sum(column: Column) -> str:
    """What is in the row and what is to be inserted, taken together."""
    name = quoted(column.name)
    if LEAST in column.info:
        return f"min({name}, excluded.{name})"
    return f"max({name}, excluded.{name})" if GREATEST in column.info else f"{name} + excluded.{name}"
