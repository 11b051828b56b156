from collections.abc import AsyncIterator

import pytest

pytest.register_assert_rewrite("chaos.consistency", "chaos.projections", "chaos.random_operator")

from chaos.planned_model import PlannedModel  # noqa: E402 - pytest asks for the line above first


@pytest.fixture
async def model() -> AsyncIterator[PlannedModel]:
    async with PlannedModel() as model:
        yield model
