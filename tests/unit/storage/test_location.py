from pathlib import Path

import pytest

from modular_agent.storage.errors import DatabaseUnsupported
from modular_agent.storage.location import Location


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (None, Path("data/modular_agent.db")),
        ("", Path("data/modular_agent.db")),
        ("sqlite+aiosqlite:///other/x.db", Path("other/x.db")),
        ("sqlite:///x.db?timeout=5", Path("x.db")),
        ("sqlite+aiosqlite:////var/lib/x.db", Path("/var/lib/x.db")),
    ],
)
def test_a_url_names_the_database_file(url, expected):
    assert Location.of(Path("data"), url=url).database == expected


@pytest.mark.parametrize(
    "url", ["postgresql+asyncpg://user:secret@host/db", "mysql://x", "sqlite://", "sqlite:///:memory:", "nonsense"]
)
def test_another_database_is_refused_without_telling_the_password(url):
    with pytest.raises(DatabaseUnsupported) as refused:
        Location.of(Path("data"), url=url)
    assert "secret" not in str(refused.value) + refused.value.message("zh")
    assert "does not support" in str(refused.value)
