"""One process owns a data path."""

import subprocess
import sys
from pathlib import Path

import pytest

from modular_agent.storage.data_lock import DataLock
from modular_agent.storage.database import Database
from modular_agent.storage.errors import DataPathInUse, DataPathUnusable


async def test_of_processes_racing_to_open_one_wins_and_the_others_name_it(tmp_path: Path):
    script = Path(__file__).with_name("writing.py")
    racing = [
        subprocess.Popen(
            [sys.executable, str(script), str(tmp_path), "hold"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    said = {process.pid: process.stdout.readline().split() for process in racing}
    winners = [pid for pid, words in said.items() if words == ["open"]]
    assert len(winners) == 1
    assert {tuple(words) for pid, words in said.items() if pid != winners[0]} == {("data_path_in_use", str(winners[0]))}
    for process in racing:
        process.communicate("", timeout=10)
    async with Database.open(tmp_path):
        pass


async def test_a_second_database_in_the_same_process_is_refused(tmp_path: Path):
    async with Database.open(tmp_path):
        with pytest.raises(DataPathInUse):
            async with Database.open(tmp_path):
                pass
    async with Database.open(tmp_path):
        pass


async def test_two_data_paths_cannot_share_a_database_file(tmp_path: Path):
    url = f"sqlite+aiosqlite:///{tmp_path}/db/shared.db"
    async with Database.open(tmp_path / "one", url=url):
        with pytest.raises(DataPathInUse):
            async with Database.open(tmp_path / "two", url=url):
                pass


async def test_a_failed_opening_gives_the_data_path_back(tmp_path: Path):
    (tmp_path / "modular_agent.db").write_text("no database " * 100)
    with pytest.raises(Exception, match="not a Modular Agent database"):
        async with Database.open(tmp_path):
            pass
    (tmp_path / "modular_agent.db").unlink()
    async with Database.open(tmp_path):
        pass


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_data_path_where_nothing_can_be_written_is_told(tmp_path: Path, below: str) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder")
    with pytest.raises(DataPathUnusable, match="DATA_PATH") as told:
        DataLock(file / below).acquire()
    assert str(file) in str(told.value)
