"""The schema of a database that nobody has open: for the commands `db check` and `db upgrade`."""

from modular_agent.storage.connections import open_reading, open_writing
from modular_agent.storage.data_lock import DataLock
from modular_agent.storage.location import Location
from modular_agent.storage.migrations import HEAD, SchemaState, check, refuse_foreign, upgrade

__all__ = ["check_database", "upgrade_database"]


def check_database(location: Location) -> SchemaState:
    """Which schema the database has; changes nothing, and may be asked while it is in use. Raises `DatabaseForeign`."""
    if not location.database.exists():
        return SchemaState(None, HEAD)
    connection = open_reading(location.database)
    try:
        return check(connection, name=location.database.name)
    finally:
        connection.close()


def upgrade_database(location: Location) -> SchemaState:
    """Makes the database, or brings it to the newest schema; returns the schema it had.

    Raises `DataPathInUse`, `DatabaseForeign`, `DatabaseTooNew`.
    """
    with DataLock(location.data_path, location.database.parent):
        refuse_foreign(location.database)
        before = check_database(location)
        connection = open_writing(location.database)
        try:
            upgrade(connection, name=location.database.name)
        finally:
            connection.close()
        return before
