"""The product as `open_runtime` builds it, on a folder of the test's own."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from integration.engine.lab import Lab, settings_of
from modular_agent.runtime import open_runtime

OpenLab = Callable[..., AbstractAsyncContextManager[Lab]]


@pytest.fixture
def open_lab(tmp_path: Path) -> OpenLab:
    """Opens the product on the test's folder, as often as the test wants: the data stay."""

    @asynccontextmanager
    async def opened(**variables: str) -> AsyncIterator[Lab]:
        (tmp_path / "configs").mkdir(exist_ok=True)
        settings = settings_of(tmp_path, **variables)
        async with open_runtime(settings, environment={}) as runtime:
            yield Lab(runtime, tmp_path)

    return opened


@pytest.fixture
async def lab(open_lab: OpenLab) -> AsyncIterator[Lab]:
    async with open_lab() as opened:
        yield opened
