import sqlite3
import string

import pytest

from modular_agent.errors import AgentError
from modular_agent.storage import errors
from modular_agent.storage.errors import (
    ConstraintViolated,
    DiskFailed,
    StorageBusy,
    StorageFailed,
    StorageFull,
    storage_error,
)

CLASSES = [value for name in errors.__all__ if isinstance(value := getattr(errors, name), type)]


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("error", CLASSES)
def test_every_error_says_the_same_in_both_languages(error: type[AgentError]):
    assert {"code", "kind", "english", "chinese"} <= vars(error).keys()
    assert placeholders(error.english) == placeholders(error.chinese)


def test_codes_are_unique():
    codes = [error.code for error in CLASSES]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (sqlite3.SQLITE_FULL, StorageFull),
        (sqlite3.SQLITE_BUSY, StorageBusy),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, StorageBusy),
        (sqlite3.SQLITE_IOERR_WRITE, DiskFailed),
        (sqlite3.SQLITE_READONLY_DBMOVED, DiskFailed),
        (sqlite3.SQLITE_CORRUPT, StorageFailed),
        (sqlite3.SQLITE_CONSTRAINT_UNIQUE, ConstraintViolated),
    ],
)
def test_what_sqlite_says_becomes_an_error_of_ours(code: int, expected: type[AgentError]):
    error = sqlite3.OperationalError("secret text")
    error.sqlite_errorcode, error.sqlite_errorname = code, "SQLITE_SOMETHING"
    answer = storage_error(error)
    assert type(answer) is expected
    assert "secret" not in str(answer)
