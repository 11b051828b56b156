from collections.abc import AsyncIterator

import pytest

from modular_agent.kit.clock import SystemClock
from modular_agent.realtime.hub import Hub, HubLimits
from unit.realtime.memory_log import MemoryLog


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
async def hub(log: MemoryLog) -> AsyncIterator[Hub]:
    limits = HubLimits(ring_events=16, delta_interval=0.0, log_timeout=1.0)
    async with Hub(log, tenants=log, clock=SystemClock(), limits=limits) as hub:
        yield hub
