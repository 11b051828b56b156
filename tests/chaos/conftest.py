from collections.abc import AsyncIterator

import pytest

from chaos.planned_model import PlannedModel


@pytest.fixture
async def model() -> AsyncIterator[PlannedModel]:
    async with PlannedModel() as model:
        yield model
