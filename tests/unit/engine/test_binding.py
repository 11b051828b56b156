"""What a run knows of its writes."""

import asyncio
from collections.abc import Awaitable

import pytest

from modular_agent.engine.binding import Binding
from modular_agent.engine.store import Facts, RunKey
from modular_agent.events import SessionRef
from modular_agent.storage.errors import StaleEpoch


async def test_a_write_that_was_refused_this_very_moment_is_known() -> None:
    def never(run: RunKey, facts: Facts) -> Awaitable[object]:
        raise AssertionError

    binding = Binding(RunKey(SessionRef(1, "s"), "run_1", 1), never)
    refused, done = asyncio.Future[object](), asyncio.Future[object]()
    binding.track(refused)
    binding.track(done)
    refused.set_exception(StaleEpoch(run_id="run_1", epoch=1))
    done.set_result(None)
    with pytest.raises(StaleEpoch):
        await binding.durable()
