from collections.abc import AsyncIterator

import pytest

from integration.realtime.socket_server import SocketServer
from modular_agent.kit.clock import SystemClock
from modular_agent.realtime.connections import Connections
from modular_agent.realtime.hub import Hub, HubLimits
from unit.realtime.memory_log import MemoryLog


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
async def hub(log: MemoryLog) -> AsyncIterator[Hub]:
    limits = HubLimits(ring_events=64, delta_interval=0.0, log_timeout=2.0)
    async with Hub(log, tenants=log, clock=SystemClock(), limits=limits) as hub:
        yield hub


@pytest.fixture
async def server(hub: Hub, log: MemoryLog) -> AsyncIterator[SocketServer]:
    async with (
        Connections(clock=SystemClock(), tick=0.02, flush_timeout=1.0) as connections,
        SocketServer(hub, log, connections) as server,
    ):
        yield server
