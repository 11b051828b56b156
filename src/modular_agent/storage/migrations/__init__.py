"""The schema's versions: which one a database has, and how it gets to the newest.

Alembic and SQLAlchemy take a noticeable part of a second to import, so the version is compared by raw SQL, and they are
imported only when it differs. A database without any table is made from the models at once; a test proves that the
result is the same, to the letter, as running every migration.
"""

import sqlite3
from pathlib import Path
from typing import Final, NamedTuple

from modular_agent.storage.connections import open_reading
from modular_agent.storage.errors import DatabaseForeign, DatabaseTooNew
from modular_agent.storage.models import SESSION_GRAMS, metadata

__all__ = ["HEAD", "SchemaState", "check", "create", "migrate", "refuse_foreign", "upgrade"]

HEAD: Final = "0008"  # a test keeps it equal to the newest script

_VERSION_TABLE: Final = (
    "CREATE TABLE alembic_version (\n\tversion_num VARCHAR(32) NOT NULL, \n"
    "\tCONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)\n)"
)


class SchemaState(NamedTuple):
    """The schema of a database: `revision` is None while it has no table."""

    revision: str | None
    head: str

    @property
    def current(self) -> bool:
        return self.revision == self.head


def check(connection: sqlite3.Connection, *, name: str = "") -> SchemaState:
    """Which schema the database has.

    Raises `DatabaseForeign` for a file with tables of something else; `name` is how the error calls it.
    """
    try:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
            raise DatabaseForeign(name=name) from error
        raise
    if not tables:
        return SchemaState(None, HEAD)
    if "alembic_version" not in tables or "records" not in tables:
        raise DatabaseForeign(name=name)
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return SchemaState(row[0] if row else None, HEAD)


def refuse_foreign(path: Path) -> None:
    """Looks at a file, without changing it, before it is opened for writing. Raises `DatabaseForeign`."""
    if not path.exists() or path.stat().st_size == 0:
        return
    connection = open_reading(path)
    try:
        check(connection, name=path.name)
    finally:
        connection.close()


def upgrade(connection: sqlite3.Connection, *, name: str = "") -> None:
    """Brings the database to the newest schema, in one transaction; several processes may do so at once.

    The connection must be in autocommit mode with foreign keys off: a migration that rebuilds a table would delete
    every row that refers to it. Raises `DatabaseTooNew`, `DatabaseForeign`.
    """
    if check(connection, name=name).current:
        return
    connection.execute("PRAGMA foreign_keys=OFF")  # without effect inside a transaction
    connection.execute("BEGIN IMMEDIATE")
    try:
        state = check(connection, name=name)  # again: another process may have been quicker
        if state.revision is None:
            create(connection)
            connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    if state.revision is not None and not state.current:
        migrate(connection, state.revision)


def create(connection: sqlite3.Connection) -> None:
    """Makes all tables of the newest schema in a database that has none, within the caller's transaction."""
    connection.execute(_VERSION_TABLE)
    for table in metadata.sorted_tables:
        for statement in table.sql():
            connection.execute(statement)
    connection.execute(SESSION_GRAMS)
    connection.execute("INSERT INTO alembic_version VALUES (?)", (HEAD,))


def migrate(connection: sqlite3.Connection, revision: str | None, *, target: str = "head") -> None:
    """Runs the migrations from `revision` to `target` in one transaction; none, if another process was quicker.

    The connection is as for `upgrade`.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError
    from sqlalchemy import create_engine
    from sqlalchemy.pool import StaticPool

    config = Config()
    config.set_main_option("script_location", "modular_agent.storage:migrations")
    config.set_main_option("path_separator", "os")
    if revision is not None:
        try:
            ScriptDirectory.from_config(config).get_revision(revision)
        except CommandError as error:
            raise DatabaseTooNew(revision=revision) from error
    engine = create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool)
    with engine.begin() as shared:
        # Not before: SQLAlchemy rolls back what it finds when it looks at a connection for the first time.
        connection.execute("BEGIN IMMEDIATE")
        config.attributes["connection"] = shared
        command.upgrade(config, target)
        broken = connection.execute("PRAGMA foreign_key_check").fetchall()
        if broken:
            raise AssertionError(f"the migration left {len(broken)} references to nothing")
