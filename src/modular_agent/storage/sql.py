"""SQL text made once from the Core tables; what runs is this text on a raw connection."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, Table, func
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.sqlite import Insert, insert

from modular_agent.storage.models.metadata import GREATEST, KEPT, LEAST
from modular_agent.storage.unit_of_work import Conflict

__all__ = ["InsertTexts", "column_list", "marks"]

EXACT_ROWS: Final = 64
LARGE_ROWS: Final = (512, 256, 128)  # above EXACT_ROWS only these counts, so that SQLite's statement cache stays useful
MAX_PARAMETERS: Final = 30_000  # SQLite takes 32,766


def column_list(table: Table, *, alias: str = "") -> str:
    """The table's columns for a SELECT, in their order."""
    prefix = f"{alias}." if alias else ""
    quote = sqlite.dialect().identifier_preparer.quote
    return ", ".join(prefix + quote(column.name) for column in table.columns)


def marks(count: int) -> str:
    """`count` placeholders, separated by commas."""
    return ", ".join("?" * count)


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
        limit = MAX_PARAMETERS // len(rows[0])
        start = 0
        while start < len(rows):
            count = self._chunk(len(rows) - start, limit)
            chunk = rows[start : start + count]
            yield self._text(table, conflict, numbered, count), [value for row in chunk for value in row]
            start += count

    @staticmethod
    def _chunk(left: int, limit: int) -> int:
        if left <= EXACT_ROWS:
            return min(left, limit)
        return next((size for size in LARGE_ROWS if size <= left and size <= limit), min(EXACT_ROWS, limit))

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
            columns = [column.name for column in table.columns][1 if numbered else 0 :]
            statement = insert(table)
            keys = [column.name for column in table.primary_key]
            if conflict is Conflict.IGNORE:
                statement = statement.on_conflict_do_nothing(index_elements=keys)
            elif conflict is Conflict.REPLACE:  # INSERT OR REPLACE would delete the row, and what refers to it too
                kept = {*keys, *(column.name for column in table.columns if KEPT in column.info)}
                rest = {name: statement.excluded[name] for name in columns if name not in kept}
                statement = statement.on_conflict_do_update(index_elements=keys, set_=rest)
            elif conflict is Conflict.ADD:
                statement = statement.on_conflict_do_update(
                    index_elements=keys,
                    set_={name: _sum(table.columns[name], statement) for name in columns if name not in keys},
                )
            text = str(statement.compile(dialect=sqlite.dialect(paramstyle="qmark"), column_keys=columns))
            values = f"({marks(len(columns))})"
            head, separator, tail = text.partition(values)
            if not separator:
                raise AssertionError(f"an INSERT without its values: {text}")
            self._parts[key] = (head, values, tail)
        return self._parts[key]


def _sum(column: Column[Any], statement: Insert) -> ColumnElement[Any]:
    """What is in the row and what is to be inserted, taken together."""
    given = statement.excluded[column.name]
    if LEAST in column.info:
        return func.min(column, given)
    return func.max(column, given) if GREATEST in column.info else column + given
