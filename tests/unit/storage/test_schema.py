from pathlib import Path

import pytest

from modular_agent.storage.database import Database
from modular_agent.storage.errors import DataPathInUse
from modular_agent.storage.location import Location
from modular_agent.storage.migrations import HEAD
from modular_agent.storage.schema import check_database, upgrade_database


def test_a_database_is_made_once(tmp_path: Path):
    location = Location.of(tmp_path / "data")
    assert check_database(location).revision is None
    assert not location.data_path.exists()
    assert upgrade_database(location).revision is None
    assert check_database(location).current
    assert upgrade_database(location).revision == HEAD


async def test_a_database_in_use_can_be_checked_but_not_upgraded(tmp_path: Path):
    async with Database.open(tmp_path) as database:
        assert check_database(database.location).current
        with pytest.raises(DataPathInUse):
            upgrade_database(database.location)
