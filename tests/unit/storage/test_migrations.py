import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from modular_agent.storage.database import Database
from modular_agent.storage.errors import DatabaseForeign, DatabaseTooNew
from modular_agent.storage.migrations import HEAD, check, create, migrate, upgrade


def connect(path: Path | str = ":memory:") -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None)


def schema(connection: sqlite3.Connection) -> set[tuple[str, ...]]:
    return set(connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"))


def test_the_migrations_make_the_schema_of_the_models_to_the_letter():
    made, migrated = connect(), connect()
    made.execute("BEGIN")
    create(made)
    made.execute("COMMIT")
    migrate(migrated, None)
    assert schema(made) == schema(migrated)
    assert check(made) == check(migrated) == (HEAD, HEAD)
    for connection in (made, migrated):
        connection.close()


def test_the_constant_names_the_newest_script():
    config = Config()
    config.set_main_option("script_location", "modular_agent.storage:migrations")
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_an_old_database_is_brought_up_in_one_transaction(tmp_path: Path):
    connection = connect(tmp_path / "old.db")
    upgrade(connection)
    connection.execute("DELETE FROM alembic_version")  # as if before the first migration, with tables in the way
    before = schema(connection)
    with pytest.raises(Exception, match="already exists"):
        upgrade(connection)
    assert not connection.in_transaction
    assert schema(connection) == before
    assert check(connection).revision is None
    connection.close()


def test_calls_made_before_budgets_were_kept_count_for_them():
    connection = connect()
    migrate(connection, None, target="0004")
    day = 86_400_000_000
    count = len(connection.execute("PRAGMA table_info(sessions)").fetchall())
    texts = ("tenant", "react", "hash", "path", "completed", None, "[]", "{}", "{}", "{}")
    for n in (1, 2):
        row = (n, f"react-{n}", *texts, *([0] * (count - 13)), None)
        connection.execute(f"INSERT INTO sessions VALUES ({', '.join('?' * count)})", row)
    calls = [
        ("a", 1, 0, 5, 7, None),
        ("b", 1, 0, 11, 9, None),
        ("c", 2, 1, None, 3, None),
        ("d", 2, 1, None, 0, "timeout"),
    ]
    for call_id, n, at, cost, tokens, error in calls:
        rest = ("react", "think", "scripted", "m", 1, None, tokens, 1, 0, 0, 0, cost, None, error, None)
        values = (call_id, n, "run", at * day, *rest)
        connection.execute(f"INSERT INTO llm_calls VALUES ({', '.join('?' * len(values))})", values)
    migrate(connection, "0004")
    rows = connection.execute("SELECT * FROM spending ORDER BY scope, subject, day").fetchall()
    assert rows == [
        ("installation", "", 0, 2, 18, 0, 16, 0, 0),
        ("installation", "", 1, 1, 5, 5, 0, 0, 0),
        ("session", "react-1", 0, 2, 18, 0, 16, 0, 0),
        ("session", "react-2", 1, 1, 5, 5, 0, 0, 0),
        ("workflow", "react", 0, 2, 18, 0, 16, 0, 0),
        ("workflow", "react", 1, 1, 5, 5, 0, 0, 0),
    ]
    connection.close()


def test_sessions_of_an_older_database_are_found_by_whole_words_and_joined_names():
    connection = connect()
    migrate(connection, None, target="0006")
    count = len(connection.execute("PRAGMA table_info(sessions)").fetchall())
    texts = ("tenant", "flow", "hash", "path", "completed", "A refund", "[]", "{}", '{"customer":"c-37"}', "{}")
    row = (1, "flow-1", *texts, *([0] * (count - 13)), None)
    connection.execute(f"INSERT INTO sessions VALUES ({', '.join('?' * count)})", row)
    migrate(connection, "0006")
    for gram, found in (("refund", 1), ("c-3", 1), ("fund", 0)):
        text = "SELECT count(*) FROM session_grams WHERE session_grams MATCH ?"
        assert connection.execute(text, (f'"{gram}"',)).fetchone() == (found,)
    connection.close()


def test_checkpoints_of_an_older_database_are_all_there():
    connection = connect()
    migrate(connection, None, target="0007")
    count = len(connection.execute("PRAGMA table_info(sessions)").fetchall())
    session = (1, "flow-1", *[""] * 10, *[0] * (count - 13), None)
    connection.execute(f"INSERT INTO sessions VALUES ({', '.join('?' * count)})", session)
    rows = [
        (1, ns, f"{n}", None, None, "run", n, "loop", n, None, "json", b"\x00", b"{}")
        for ns in ("", "a")
        for n in (2, 1)
    ]
    connection.executemany("INSERT INTO checkpoints VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)", rows)
    migrate(connection, "0007")
    assert connection.execute("SELECT * FROM checkpoints ORDER BY ns, checkpoint_id").fetchall() == sorted(rows)
    connection.close()


def test_a_migration_that_breaks_off_leaves_nothing_half_made():
    connection = connect()
    migrate(connection, None, target="0004")
    connection.execute("CREATE TABLE session_grams (in_the_way)")  # what revision 0005 makes last
    before = schema(connection)
    with pytest.raises(Exception, match="already exists"):
        upgrade(connection)
    assert not connection.in_transaction
    assert schema(connection) == before
    assert check(connection).revision == "0004"
    connection.execute("DROP TABLE session_grams")
    upgrade(connection)
    assert check(connection).current
    connection.close()


def test_upgrading_twice_changes_nothing():
    connection = connect()
    upgrade(connection)
    before = schema(connection)
    upgrade(connection)
    assert schema(connection) == before
    connection.close()


async def test_a_newer_database_is_refused_and_left_alone(tmp_path: Path):
    path = tmp_path / "modular_agent.db"
    connection = connect(path)
    upgrade(connection)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(DatabaseTooNew) as refused:
        async with Database.open(tmp_path):
            pass
    assert "9999" in str(refused.value)
    assert "9999" in refused.value.message("zh")


@pytest.mark.parametrize("content", ["tables", "text"])
async def test_a_file_that_is_something_else_is_refused(tmp_path: Path, content: str):
    path = tmp_path / "modular_agent.db"
    if content == "text":
        path.write_text("no database " * 100)
    else:
        connection = connect(path)
        connection.execute("CREATE TABLE cookies (a)")
        connection.close()
    before = path.read_bytes()
    with pytest.raises(DatabaseForeign):
        async with Database.open(tmp_path):
            pass
    if content == "text":
        assert path.read_bytes() == before


def test_alembic_is_not_imported_to_open_a_database(tmp_path: Path):
    script = (
        "import asyncio, sys; from pathlib import Path\n"
        "from modular_agent.storage.database import Database\n"
        "async def main():\n"
        "    for _ in range(2):\n"
        "        async with Database.open(Path(sys.argv[1])): pass\n"
        "asyncio.run(main()); sys.exit('alembic' in sys.modules or 'aiosqlite' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert done.returncode == 0
