"""What tables are declared of, and the SQL that makes them.

The words are those of SQLAlchemy's Core, and so is the SQL, to the letter: a test compares it with what the migrations
make. Core itself is imported for migrations alone, because its import took a tenth of every start.
"""

from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Final

from modular_agent.kit.dataclass import dataclass

__all__ = ["Column", "ForeignKey", "Index", "Integer", "LargeBinary", "MetaData", "Table", "Text", "quoted", "text"]

Integer: Final = "INTEGER"
Text: Final = "TEXT"
LargeBinary: Final = "BLOB"

_KEYWORDS: Final = frozenset({"key", "offset"})  # SQLite's, among the names of our columns


def quoted(name: str) -> str:
    """A column's name as SQL."""
    return f'"{name}"' if name in _KEYWORDS else name


class text(str):  # noqa: N801 - as Core writes it
    """An expression of SQL, in the place of a column's name."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A reference to `table.column`."""

    target: str
    ondelete: str


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """A column; `index` and `unique` are of it alone. Those of the primary key are never null."""

    name: str
    type: str
    references: ForeignKey | None = None
    primary_key: bool = field(default=False, kw_only=True)
    autoincrement: bool = field(default=False, kw_only=True)
    nullable: bool = field(default=True, kw_only=True)
    unique: bool = field(default=False, kw_only=True)
    index: bool = field(default=False, kw_only=True)
    info: Mapping[str, bool] = field(default_factory=dict[str, bool], kw_only=True)

    def sql(self) -> str:
        """Its line in a CREATE TABLE."""
        key = " PRIMARY KEY AUTOINCREMENT" if self.autoincrement else ""
        null = "" if self.nullable and not self.primary_key else " NOT NULL"
        return f"{quoted(self.name)} {self.type}{null}{key}"


class Index:
    """An index of a table over the columns, or expressions, of `places`; of some rows only, with `sqlite_where`."""

    def __init__(self, name: str, *places: str, unique: bool = False, sqlite_where: str | None = None) -> None:
        self.name = name
        self._places = places
        self._unique = unique
        self._where = sqlite_where

    def sql(self, table: str) -> str:
        """The CREATE INDEX."""
        places = ", ".join(place if isinstance(place, text) else quoted(place) for place in self._places)
        where = "" if self._where is None else f" WHERE {self._where}"
        return f"CREATE {'UNIQUE ' if self._unique else ''}INDEX {self.name} ON {table} ({places}){where}"


class Columns:
    """The columns of a table, in their order, and by name."""

    def __init__(self, columns: list[Column]) -> None:
        self._named = {column.name: column for column in columns}

    def __iter__(self) -> Iterator[Column]:
        return iter(self._named.values())

    def __len__(self) -> int:
        return len(self._named)

    def __contains__(self, name: object) -> bool:
        return name in self._named

    def __getitem__(self, name: str) -> Column:
        return self._named[name]

    def keys(self) -> list[str]:
        """The names."""
        return list(self._named)


class MetaData:
    """All tables that are declared with it."""

    def __init__(self) -> None:
        self._tables: list[Table] = []

    def add(self, table: "Table") -> None:
        """Takes a table in."""
        self._tables.append(table)

    @property
    def sorted_tables(self) -> list["Table"]:
        """By name, but each after those that it refers to."""
        depths: dict[str, int] = {}
        waiting = sorted(self._tables, key=lambda table: table.name)
        while waiting:
            ready = [table for table in waiting if table.refers_to <= depths.keys()]
            depths.update(dict.fromkeys((table.name for table in ready), len(depths)))
            waiting = [table for table in waiting if table.name not in depths]
        return sorted(self._tables, key=lambda table: (depths[table.name], table.name))


class Table:
    """A table with its columns and indexes."""

    def __init__(
        self,
        name: str,
        metadata: MetaData,
        *parts: Column | Index,
        sqlite_with_rowid: bool = True,
        sqlite_autoincrement: bool = False,
    ) -> None:
        self.name = name
        self.columns = Columns([part for part in parts if isinstance(part, Column)])
        self.width = len(self.columns)
        self.primary_key = tuple(column for column in self.columns if column.primary_key)
        alone = [Index(f"ix_{name}_{column.name}", column.name) for column in self.columns if column.index]
        self._indexes = [*alone, *(part for part in parts if isinstance(part, Index))]
        self._with_rowid = sqlite_with_rowid
        assert sqlite_autoincrement == any(column.autoincrement for column in self.columns)
        self._numbered = sqlite_autoincrement
        metadata.add(self)

    @property
    def refers_to(self) -> set[str]:
        """The names of other tables."""
        found = (column.references for column in self.columns)
        return {key.target.partition(".")[0] for key in found if key is not None}

    def sql(self) -> Iterator[str]:
        """The statements that make the table and its indexes."""
        lines = [column.sql() for column in self.columns]
        if not self._numbered:
            lines.append(f"PRIMARY KEY ({', '.join(quoted(column.name) for column in self.primary_key)})")
        lines += self._constraints()
        without = "" if self._with_rowid else "\n WITHOUT ROWID\n\n"
        inside = ", \n\t".join(lines)
        yield f"CREATE TABLE {self.name} (\n\t{inside}\n){without}"
        yield from (index.sql(self.name) for index in sorted(self._indexes, key=lambda index: index.name))

    def _constraints(self) -> Iterator[str]:
        for column in self.columns:
            name = quoted(column.name)
            if column.unique:
                yield f"CONSTRAINT uq_{self.name}_{column.name} UNIQUE ({name})"
            if column.references is not None:
                table, _, target = column.references.target.partition(".")
                yield (
                    f"CONSTRAINT fk_{self.name}_{column.name} FOREIGN KEY({name}) REFERENCES {table} ({quoted(target)})"
                    f" ON DELETE {column.references.ondelete}"
                )
