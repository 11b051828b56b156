"""Figures put together from sums, in the shapes of the API; each function reads within one snapshot."""

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from modular_agent.domain.analytics.usage import DECIMALS, Usage, rate
from modular_agent.kit.clock import MICROSECONDS, rfc3339
from modular_agent.storage.rollups import DAY, HOUR
from modular_agent.storage.statistics.durations import Dimension, Histograms, read_durations
from modular_agent.storage.statistics.histograms import percentiles
from modular_agent.storage.statistics.parts import Part
from modular_agent.storage.statistics.ranking import Ranking, rank_by_errors, rank_sessions
from modular_agent.storage.statistics.scope import Scope
from modular_agent.storage.statistics.sessions import first_time
from modular_agent.storage.statistics.sums import (
    ERRORS,
    RUN_ENDS,
    RUN_STARTS,
    SESSIONS,
    USAGE,
    Key,
    read_sums,
    regroup,
)

__all__ = [
    "cost_figures",
    "error_figures",
    "error_unit",
    "run_figures",
    "session_count",
    "timing_figures",
    "token_figures",
    "with_throughput",
]

SHARES: Final = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
HOURLY_UP_TO: Final = 2 * DAY  # longer ranges are shown by day
FILLED_UP_TO: Final = 400  # periods without anything are shown up to here


def with_throughput(timings: dict[str, Any], scope: Scope, *, now_us: int) -> dict[str, Any]:
    """`timing_figures` with what depends on the time that has passed.

    Calls a second, from the start of the range (or the first call) to its end (or now).
    """
    first_call, calls = timings.pop("first_call"), timings["request_count"]
    end = now_us if scope.end is None else min(scope.end, now_us)
    start = scope.start if scope.start is not None else first_call or end
    throughput = round(calls * MICROSECONDS / max(end - start, MICROSECONDS), DECIMALS)
    return {**timings, "throughput": throughput}


def timing_figures(connection: sqlite3.Connection, scope: Scope, part: Part) -> dict[str, Any]:
    """Response times in seconds, percent that failed; by model and by node: what does not depend on the time that has
    passed. `part` has the `TIMINGS` of the scope; `first_call` (µs) is there where the range has no start.
    """
    (found,) = part.sums
    total, models, nodes = _usage(found)
    everything: Histograms = {}
    for (measure, dimension, _), histogram in part.histograms.items():
        if dimension == "model":  # every call is of exactly one
            place = (measure, dimension, "")
            everything[place] = everything.get(place, 0) + histogram
    return {
        **_timing(total, everything, "model", ""),
        "first_call": first_time(connection, USAGE, scope) if scope.start is None else None,
        "total_tokens": total.total_tokens,
        "by_model": _timings(models, part.histograms, "model"),
        "by_node": _timings(nodes, part.histograms, "node"),
    }


def _timings(usage: Mapping[str, Usage], histograms: Histograms, dimension: Dimension) -> dict[str, Any]:
    return {
        key: {**_timing(each, histograms, dimension, key), "total_tokens": each.total_tokens}
        for key, each in usage.items()
    }


def _timing(usage: Usage, histograms: Histograms, dimension: Dimension, key: str) -> dict[str, Any]:
    response = histograms.get(("response", dimension, key), 0)
    first = histograms.get(("first_token", dimension, key), 0)
    bounds = (usage.min_us, usage.max_us) if usage.calls else None
    return {
        "request_count": usage.calls,
        "failed_requests": usage.errors,
        "error_rate": usage.error_rate,
        "avg_response_time": usage.average(),
        "min_response_time": usage.min_us / MICROSECONDS if usage.calls else None,
        "max_response_time": usage.max_us / MICROSECONDS if usage.calls else None,
        **_percentiles(response, bounds),
        "time_to_first_token": {
            "count": usage.first_tokens,
            "avg": usage.average_first_token(),
            **(_percentiles(first, None) if dimension == "model" else {}),  # there are none by node
        },
    }


def _percentiles(histogram: int, bounds: tuple[int, int] | None) -> dict[str, float | None]:
    found = percentiles(histogram, [share for _, share in SHARES])
    if found is not None and bounds is not None:
        found = [min(max(us, bounds[0]), bounds[1]) for us in found]
    return {
        name: None if found is None else round(found[place] / MICROSECONDS, DECIMALS)
        for place, (name, _) in enumerate(SHARES)
    }


def token_figures(connection: sqlite3.Connection, scope: Scope, part: Part, *, top: int) -> dict[str, Any]:
    """Tokens in all, by model, workflow and day; by session for the `top` that used most.

    `part` has what is `SPENT` in the scope.
    """
    found, by_day = part.sums
    total, models, workflows = _usage(found)
    return {
        **total.tokens(),
        "by_model": {key: each.tokens() for key, each in models.items()},
        "by_workflow": {key: each.tokens() for key, each in workflows.items()},
        "by_session": {
            each.session_id: {
                "prompt_tokens": each.prompt_tokens,
                "completion_tokens": each.completion_tokens,
                "total_tokens": each.tokens,
                "unpriced_tokens": each.unpriced_tokens,
                "request_count": each.calls,
            }
            for each in _ranked(connection, scope, "tokens", top)
        },
        "by_day": [{"date": rfc3339(at)[:10], **each.tokens()} for at, each in _days(by_day)],
    }


def cost_figures(connection: sqlite3.Connection, scope: Scope, part: Part, *, top: int) -> dict[str, Any]:
    """US dollars in all, by model, workflow and day; by session for the `top` that cost most.

    `part` has what is `SPENT` in the scope.
    """
    found, by_day = part.sums
    total, models, workflows = _usage(found)
    ranked = _ranked(connection, scope, "cost", top)
    return {
        "total_cost": total.cost,
        "currency": "USD",
        "total_tokens": total.total_tokens,
        "unpriced_tokens": total.unpriced_tokens,
        "request_count": total.calls,
        "cost_by_model": {key: each.money() for key, each in models.items()},
        "cost_by_workflow": {key: each.money() for key, each in workflows.items()},
        "cost_by_session": {
            each.session_id: Usage(
                calls=each.calls,
                cost_nano=each.cost_nano,
                prompt_tokens=each.prompt_tokens,
                completion_tokens=each.completion_tokens,
                unpriced_tokens=each.unpriced_tokens,
            ).money()
            for each in ranked
        },
        "cost_trends": [{"date": rfc3339(at)[:10], **each.money()} for at, each in _days(by_day)],
    }


def error_unit(scope: Scope, *, now_us: int) -> int:
    """The periods (µs) by which errors are shown over time."""
    hourly = scope.start is not None and min(scope.last, now_us) - scope.start <= HOURLY_UP_TO
    return HOUR if hourly else DAY


def error_figures(connection: sqlite3.Connection, scope: Scope, *, top: int, unit: int) -> dict[str, Any]:
    """How many errors were logged: by type, severity, session (the `top` that had most), and over time."""
    by_key = read_sums(connection, ERRORS, scope, keys=("error_type", "severity"))
    by_type, by_severity = Counter[str](), Counter[str]()
    for (error_type, severity), (count,) in by_key.items():
        by_type[error_type] += count
        by_severity[severity] += count
    series = {key[0]: counts[0] for key, counts in read_sums(connection, ERRORS, scope, unit=unit).items()}
    return {
        "error_count": by_type.total(),
        "error_by_type": dict(by_type.most_common()),
        "error_by_severity": dict(by_severity.most_common()),
        "error_by_session": dict(rank_by_errors(connection, scope, limit=top)),
        "error_trends": [{"timestamp": rfc3339(n * unit), "count": series.get(n, 0)} for n in _periods(series)],
    }


def run_figures(connection: sqlite3.Connection, scope: Scope) -> dict[str, Any]:
    """Runs that were started, how those ended that ended, and how long they executed (seconds)."""
    started = read_sums(connection, RUN_STARTS, scope, keys=("workflow_id",))
    ended = read_sums(connection, RUN_ENDS, scope, keys=("workflow_id",))
    everything = [sum(column) for column in zip(*ended.values(), strict=True)] or [0, 0, 0, 0]
    histogram = read_durations(connection, scope, [("run", "all")]).get(("run", "all", ""), 0)
    by_workflow = {
        workflow: _runs(started.get((workflow,), [0])[0], ended.get((workflow,), [0, 0, 0, 0]))
        for workflow in sorted({key[0] for key in (*started, *ended)})
    }
    total = _runs(sum(counts[0] for counts in started.values()), everything)
    return {**total, **_percentiles(histogram, None), "by_workflow": by_workflow}


def _runs(started: int, ends: list[int]) -> dict[str, Any]:
    completed, failed, stopped, active_us = ends
    ended = completed + failed + stopped
    return {
        "started": started,
        "ended": ended,
        "completed": completed,
        "failed": failed,
        "stopped": stopped,
        "success_rate": rate(completed, ended),
        "avg_duration": round(active_us / ended / MICROSECONDS, DECIMALS) if ended else None,
    }


def session_count(connection: sqlite3.Connection, scope: Scope) -> int:
    """How many sessions were made."""
    return read_sums(connection, SESSIONS, scope).get((), [0])[0]


def _usage(found: Mapping[Key, Sequence[int]]) -> tuple[Usage, dict[str, Usage], dict[str, Usage]]:
    """Usage in all, and by each of two keys, the most used first."""
    one, other = (_most_used(regroup(USAGE, found, place)) for place in (0, 1))
    return Usage.of(regroup(USAGE, found).get(())), one, other


def _most_used(found: Mapping[Key, Sequence[int]]) -> dict[str, Usage]:
    usage = {name: Usage.of(sums) for (name,), sums in found.items()}
    return dict(sorted(usage.items(), key=lambda item: (-item[1].calls, item[0])))


def _ranked(connection: sqlite3.Connection, scope: Scope, by: Ranking, top: int) -> list[Any]:
    return [] if scope.session_n is not None else rank_sessions(connection, scope, by, limit=top)


def _days(found: Mapping[Key, Sequence[int]]) -> list[tuple[int, Usage]]:
    days = {key[0]: sums for key, sums in found.items()}
    return [(day * DAY, Usage.of(days.get(day))) for day in _periods(days)]


def _periods(found: Mapping[int, object]) -> list[int]:
    """The periods from the first with anything to the last, without holes unless that were very many."""
    if not found:
        return []
    first, last = min(found), max(found)
    return list(range(first, last + 1)) if last - first < FILLED_UP_TO else sorted(found)
