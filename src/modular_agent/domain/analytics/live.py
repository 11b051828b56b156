"""The figures of `performance_metrics`: how the process stands now, and its model calls of the last minutes."""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import psutil

from modular_agent.engine.supervisor import Supervisor
from modular_agent.kit.clock import MICROSECONDS, Clock, rfc3339
from modular_agent.realtime.hub import Hub
from modular_agent.storage.database import Database
from modular_agent.storage.repositories.llm_calls import LlmCallRepository, LlmCallRow
from modular_agent.storage.repositories.session_lists import SessionLists

__all__ = ["LiveFigures"]

NANO: Final = 1_000_000_000
WINDOW: Final = 300  # seconds of model calls
MOST_CALLS: Final = 10_000  # of the newest: bounds what one sample reads


class LiveFigures:
    """Implements the realtime layer's `MetricsSource`. `connections` answers how many WebSocket clients there are."""

    def __init__(
        self,
        database: Database,
        *,
        supervisor: Supervisor,
        hub: Hub,
        clock: Clock,
        connections: Callable[[], int],
    ) -> None:
        self._calls = LlmCallRepository(database.readers)
        self._sessions = SessionLists(database.readers)
        self._writer = database.writer
        self._supervisor = supervisor
        self._hub = hub
        self._clock = clock
        self._connections = connections
        self._process = psutil.Process(os.getpid())
        self._process.cpu_percent()  # the first answer of each is 0: they measure since the former

    async def sample(self, tenant: str) -> Mapping[str, Any]:
        """The figures as a JSON object: times in seconds, sizes in bytes, CPU in percent of one core."""
        now = self._clock.now_us()
        since = now - WINDOW * MICROSECONDS
        calls = await self._calls.newest_of_tenant(tenant, since_us=since, limit=MOST_CALLS)
        return {
            "timestamp": rfc3339(now),
            "window_seconds": WINDOW,
            **_response_times(calls),
            "sessions": await self._sessions.count_by_status(tenant=tenant),
            "runs": {"active": self._supervisor.running, "queued": self._supervisor.queued},
            "realtime": {"connections": self._connections(), **self._hub.figures()},
            "storage": {"waiting_units": self._writer.waiting},
            "resource_usage": await asyncio.to_thread(self._resources),
        }

    def _resources(self) -> dict[str, Any]:
        with self._process.oneshot():
            return {
                "cpu_percent": self._process.cpu_percent(),
                "memory_bytes": self._process.memory_info().rss,
                "threads": self._process.num_threads(),
                "open_files": self._process.num_fds() if psutil.POSIX else None,
                "uptime_seconds": round(self._clock.now_us() / MICROSECONDS - self._process.create_time(), 1),
            }


def _response_times(calls: Sequence[LlmCallRow]) -> dict[str, Any]:
    durations = sorted(call.duration_us / MICROSECONDS for call in calls)
    failed = sum(call.error_kind is not None for call in calls)
    return {
        "request_count": len(calls),
        "error_rate": round(100 * failed / len(calls), 3) if calls else None,
        "throughput": round(len(calls) / WINDOW, 6),
        "avg_response_time": round(sum(durations) / len(durations), 6) if durations else None,
        "min_response_time": durations[0] if durations else None,
        "max_response_time": durations[-1] if durations else None,
        **{f"p{share}": _percentile(durations, share) for share in (50, 95, 99)},
        "total_tokens": sum(call.prompt_tokens + call.completion_tokens for call in calls),
        "total_cost": sum(call.cost_nano or 0 for call in calls) / NANO,
    }


def _percentile(ordered: list[float], share: int) -> float | None:
    """The smallest value that at least `share` percent of `ordered` do not exceed (nearest rank)."""
    return ordered[max(0, -(-share * len(ordered) // 100) - 1)] if ordered else None
