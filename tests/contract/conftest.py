"""A real server with the starter configuration, for all tests of the contract."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.starter_server import StarterServer

STARTER = Path(__file__).resolve().parents[2] / "configs"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StarterServer]:
    root = tmp_path_factory.mktemp("contract")
    shutil.copytree(STARTER, root / "configs")
    with StarterServer(root) as started:
        yield started
