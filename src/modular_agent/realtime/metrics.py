"""Publishes `performance_metrics` every few seconds, only while somebody is subscribed to them."""

import asyncio
import logging
from types import TracebackType
from typing import Final, Self

from modular_agent.kit.clock import Clock
from modular_agent.realtime.event import METRICS, Event
from modular_agent.realtime.live import LiveFeeds
from modular_agent.realtime.ports import MetricsSource

__all__ = ["MetricsPublisher"]

SAMPLE_TIMEOUT: Final = 10.0  # seconds

_log: Final = logging.getLogger(__name__)


class MetricsPublisher:
    """An async context manager that owns the task which samples `source` and feeds those who want it.

    `interval` is in seconds. Who subscribes gets the first event at once, unless its tenant had one within `interval`.
    """

    def __init__(self, live: LiveFeeds, source: MetricsSource, *, clock: Clock, interval: float = 5.0) -> None:
        self._live = live
        self._source = source
        self._clock = clock
        self._interval = interval
        self._sampled: dict[str, float] = {}  # by tenant, monotonic
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.get_running_loop().create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        changed = self._live.changed
        while True:
            changed.clear()
            tenants = self._live.wanting(METRICS)
            for tenant in tenants:
                await self._publish(tenant)
            if not tenants:
                self._sampled.clear()
                await changed.wait()
                continue
            try:
                async with asyncio.timeout(self._interval):
                    await changed.wait()
            except TimeoutError:
                pass

    async def _publish(self, tenant: str) -> None:
        now = self._clock.monotonic()
        last = self._sampled.get(tenant)
        if last is not None and now - last < self._interval * 0.9:  # timers may be a little early
            return
        self._sampled[tenant] = now
        try:
            async with asyncio.timeout(SAMPLE_TIMEOUT):
                data = await self._source.sample(tenant)
            event = Event.made(METRICS, session_id=None, now_us=self._clock.now_us(), data=data)
        except Exception:  # noqa: BLE001 - one bad sample must not end the metrics for good
            _log.exception("The performance metrics could not be sampled.")
        else:
            self._live.emit(tenant, event)
