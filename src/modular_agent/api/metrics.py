"""The figures of `/metrics`, in the words of Prometheus, collected when somebody asks.

Conventions: https://prometheus.io/docs/practices/naming/ (base units, `_total` for what only grows).
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from modular_agent.api.log_counts import LogCounts
from modular_agent.api.middleware.request_metrics import BOUNDS, RequestFigures
from modular_agent.runtime import Runtime

__all__ = ["Metrics"]

_MIRROR_STATES: Final = ("starting", "ok", "failing", "closed")
_NEWEST: Final = "SELECT coalesce(max(id), 0) FROM records"
PREFIX: Final = "modular_agent_"


class Metrics(Collector):
    """The figures of one server, in a registry of its own."""

    def __init__(
        self, runtime: Runtime, *, requests: RequestFigures, counts: LogCounts, connections: Callable[[], int]
    ) -> None:
        self._runtime = runtime
        self._requests = requests
        self._counts = counts
        self._connections = connections
        self._newest = 0  # the newest record's id
        self._behind = 0  # records that the search index does not hold yet
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    async def exposition(self, accept: str) -> tuple[bytes, str]:
        """The text, in the newest form that the `Accept` header allows, and its media type."""
        database = self._runtime.database
        self._newest = (await database.readers.query(_NEWEST))[0][0]
        self._behind = (await self._runtime.search.state()).behind
        encode, media_type = choose_encoder(accept)
        return encode(self._registry), media_type

    def collect(self) -> Iterable[Metric]:
        return itertools.chain(
            self._http(), self._log(), self._runs(), self._storage(), self._realtime(), self._cache()
        )

    def describe(self) -> Iterable[Metric]:
        return ()  # registering must not collect

    # -- parts -------------------------------------------------------------------------------------------------

    def _http(self) -> Iterator[Metric]:
        requests = self._requests
        yield _counter(
            "http_requests", "Requests that have ended.", requests.counts, labels=("route", "method", "status")
        )
        durations = HistogramMetricFamily(
            f"{PREFIX}http_request_duration_seconds",
            "From the request's headers to the end of its answer.",
            labels=("route", "method"),
        )
        for labels, values in requests.durations.items():
            *counts, total = values
            bounds = (*(str(bound) for bound in BOUNDS), "+Inf")
            buckets = list(zip(bounds, itertools.accumulate(counts), strict=True))
            durations.add_metric(labels, buckets=buckets, sum_value=total)
        yield durations
        yield _gauge("http_requests_active", "Requests in progress, streams among them.", requests.active)

    def _log(self) -> Iterator[Metric]:
        counts = self._counts
        yield _counter("records", "Records committed to logs.", counts.records, labels=("type",))
        yield _counter("runs", "Changes of runs into a status: `running` are starts.", counts.runs, labels=("status",))
        yield _counter("steps", "Steps of nodes that have ended.", {(): counts.steps})
        yield _counter("model_calls", "Calls of models.", counts.calls, labels=("model", "outcome"))
        yield _counter(
            "tokens", "Tokens; `cached`, `cache_write` and `reasoning` are parts.", counts.tokens, ("model", "kind")
        )
        yield _counter("cost_usd", "Money for model calls whose price is known.", counts.cost, labels=("model",))
        yield _counter("errors", "Error records.", counts.errors, labels=("severity",))

    def _runs(self) -> Iterator[Metric]:
        supervisor = self._runtime.supervisor
        yield _gauge("runs_active", "Runs that execute in this process.", supervisor.running)
        yield _gauge("runs_queued", "Runs that wait for a place.", supervisor.queued)

    def _storage(self) -> Iterator[Metric]:
        writer, mirror = self._runtime.database.writer, self._runtime.database.mirror.state
        yield _counter("writer_groups", "Transactions of the writer.", {(): writer.groups})
        yield _counter("writer_units", "Units of work in them.", {(): writer.units})
        yield _gauge("writer_queue", "Units that wait for their transaction.", writer.waiting)
        behind = max(0, self._newest - mirror.mirrored_id)
        yield _gauge("mirror_lag_records", "Committed records that are not in their files yet.", behind)
        states = GaugeMetricFamily(
            f"{PREFIX}mirror_state", "How the log files stand: 1 for the one.", labels=("state",)
        )
        for state in _MIRROR_STATES:
            states.add_metric((state,), float(state == mirror.status))
        yield states
        yield _gauge("search_lag_records", "Committed records that the search index does not hold yet.", self._behind)

    def _realtime(self) -> Iterator[Metric]:
        figures = self._runtime.hub.figures()
        yield _gauge("hub_topics", "Sessions with recent events in memory.", figures["sessions"])
        yield _gauge("hub_subscribers", "Subscriptions to sessions.", figures["subscriptions"])
        yield _gauge("hub_ring_bytes", "Bytes of recent events in memory.", figures["ring_bytes"])
        yield _gauge("websocket_connections", "Open WebSocket connections.", self._connections())

    def _cache(self) -> Iterator[Metric]:
        figures = self._runtime.database.cache.figures()
        outcomes = {("hit",): figures.hits, ("miss",): figures.misses, ("shared",): figures.shared}
        yield _counter("cache_reads", "Reads through the cache.", outcomes, labels=("outcome",))
        yield _counter("cache_evictions", "Answers that made room for others.", {(): figures.evictions})
        yield _counter("cache_invalidations", "Answers that a write has changed.", {(): figures.invalidations})
        yield _gauge("cache_entries", "Answers that are kept.", figures.size)


def _counter(
    name: str,
    text: str,
    values: Mapping[str, int] | Mapping[str, float] | Mapping[tuple[str, ...], int],
    labels: tuple[str, ...] = (),
) -> Metric:
    family = CounterMetricFamily(PREFIX + name, text, labels=labels)
    for key, value in values.items():
        family.add_metric((key,) if isinstance(key, str) else key, value)
    return family


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, text, value=value)
