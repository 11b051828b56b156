"""A figure over time: UTC buckets without holes, and the change against the period before."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from modular_agent.domain.analytics.errors import MetricUnknown, TimeRangeUnknown
from modular_agent.domain.analytics.usage import DECIMALS, dollars, rate
from modular_agent.kit.clock import MICROSECONDS, rfc3339
from modular_agent.kit.dataclass import dataclass
from modular_agent.storage.rollups import DAY, HOUR
from modular_agent.storage.statistics.scope import Scope
from modular_agent.storage.statistics.sums import (
    ERRORS,
    MINUTE,
    RUN_STARTS,
    SESSIONS,
    USAGE,
    Series,
    read_sums,
)

__all__ = ["METRICS", "TIME_RANGES", "Trend", "trend_of"]


class _Buckets(NamedTuple):
    name: str
    unit: int  # µs
    number: int


TIME_RANGES: Final[Mapping[str, _Buckets]] = {
    "1h": _Buckets("minute", MINUTE, 60),
    "24h": _Buckets("hour", HOUR, 24),
    "7d": _Buckets("hour", HOUR, 168),
    "30d": _Buckets("day", DAY, 30),
    "90d": _Buckets("day", DAY, 90),
}


@dataclass(frozen=True, slots=True)
class _Metric:
    """What to sum up; what value that is, given the seconds it took (None: there is none); and what it counts."""

    series: Series
    sums: Sequence[str]
    value: Callable[[Sequence[int], float], float | None]
    count: Callable[[Sequence[int]], int]
    unpriced: Callable[[Sequence[int]], int] | None = None


def _first(sums: Sequence[int]) -> int:
    return sums[0]


def _counted(series: Series, name: str) -> _Metric:
    return _Metric(series, (name,), lambda sums, _: sums[0], _first)


def _cost(sums: Sequence[int], _: float) -> float | None:
    _, nano, prompt, completion, unpriced = sums
    return dollars(nano, tokens=prompt + completion, unpriced=unpriced)


def _response_time(sums: Sequence[int], _: float) -> float | None:
    return round(sums[1] / sums[0] / MICROSECONDS, DECIMALS) if sums[0] else None


METRICS: Final[Mapping[str, _Metric]] = {
    "sessions": _counted(SESSIONS, "count"),
    "runs": _counted(RUN_STARTS, "started"),
    "tokens": _Metric(
        USAGE, ("calls", "prompt_tokens", "completion_tokens"), lambda sums, _: sums[1] + sums[2], _first
    ),
    "cost": _Metric(
        USAGE,
        ("calls", "cost_nano", "prompt_tokens", "completion_tokens", "unpriced_tokens"),
        _cost,
        _first,
        unpriced=lambda sums: sums[4],
    ),
    "errors": _counted(ERRORS, "count"),
    "response_time": _Metric(USAGE, ("calls", "duration_us"), _response_time, _first),
    "throughput": _Metric(USAGE, ("calls",), lambda sums, seconds: round(sums[0] / seconds, DECIMALS), _first),
    "error_rate": _Metric(USAGE, ("calls", "errors"), lambda sums, _: rate(sums[1], sums[0]), _first),
}


@dataclass(frozen=True, slots=True)
class Trend:
    """Which metric, over which of the `TIME_RANGES`. Raises `MetricUnknown`, `TimeRangeUnknown`."""

    metric: str
    time_range: str

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise MetricUnknown(self.metric, tuple(METRICS))
        if self.time_range not in TIME_RANGES:
            raise TimeRangeUnknown(self.time_range, tuple(TIME_RANGES))


def trend_of(
    connection: sqlite3.Connection, trend: Trend, *, now_us: int, session_n: int | None, tenant: str | None
) -> dict[str, Any]:
    """The points of a trend, the last of them the bucket in progress, with what they come to.

    Sums are 0 where nothing happened, averages and rates are null. `change` compares with the same length of time
    before, up to the same moment.
    """
    metric, buckets = METRICS[trend.metric], TIME_RANGES[trend.time_range]
    last = now_us // buckets.unit + 1
    first = last - buckets.number
    start, span = first * buckets.unit, buckets.number * buckets.unit
    scope = Scope(start=start, end=last * buckets.unit, session_n=session_n, tenant=tenant)
    found = read_sums(connection, metric.series, scope, unit=buckets.unit, sums=metric.sums)
    nothing = [0] * len(metric.sums)
    points: list[dict[str, Any]] = []
    for number in range(first, last):
        sums = found.get((number,), nothing)
        seconds = (min((number + 1) * buckets.unit, now_us + 1) - number * buckets.unit) / MICROSECONDS
        points.append({"timestamp": rfc3339(number * buckets.unit), **_point(metric, sums, max(seconds, 1.0))})
    total = [sum(column) for column in zip(*found.values(), strict=True)] or nothing
    before = Scope(start=start - span, end=now_us + 1 - span, session_n=session_n, tenant=tenant)
    former = read_sums(connection, metric.series, before, sums=metric.sums).get((), nothing)
    seconds = max((now_us + 1 - start) / MICROSECONDS, 1.0)
    return {
        "metric": trend.metric,
        "time_range": trend.time_range,
        "bucket": buckets.name,
        "points": points,
        "total": _point(metric, total, seconds),
        "change": _change(metric.value(total, seconds), metric.value(former, seconds)),
    }


def _point(metric: _Metric, sums: Sequence[int], seconds: float) -> dict[str, Any]:
    point: dict[str, Any] = {"value": metric.value(sums, seconds), "count": metric.count(sums)}
    if metric.unpriced is not None:
        point["unpriced_tokens"] = metric.unpriced(sums)
    return point


def _change(current: float | None, previous: float | None) -> dict[str, Any]:
    """`percent` is null where there is nothing to compare with."""
    percent = None if current is None or not previous else round(100 * (current - previous) / previous, 3)
    return {"current": current, "previous": previous, "percent": percent}
