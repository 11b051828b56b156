"""The shapes of requests and answers about statistics. Times in seconds, money in US dollars, rates in percent."""

from typing import Any

from pydantic import ConfigDict, Field

from modular_agent.api.times import Time
from modular_agent.kit.late_model import LateModel

__all__ = [
    "CostAnswer",
    "ErrorsAnswer",
    "KeepReport",
    "PerformanceAnswer",
    "ReportAnswer",
    "ReportList",
    "SessionStatistics",
    "SessionsStatistics",
    "TokensAnswer",
    "TrendAnswer",
]

_MONEY: dict[str, Any] = {"cost": 0.0125, "total_tokens": 4200, "unpriced_tokens": 0, "request_count": 6}
_REPORT: dict[str, Any] = {
    "report_id": "rep_1f73e8c09ab45d1e22f0",
    "title": "October, first week",
    "created_at": "2025-10-08T09:00:00.000000Z",
    "start_time": "2025-10-01T00:00:00.000000Z",
    "end_time": "2025-10-08T00:00:00.000000Z",
}


class _Ranged(LateModel):
    """What every answer about a range says of it; null is without bound, or of all sessions."""

    session_id: str | None
    start_time: str | None
    end_time: str | None


class AverageFirstToken(LateModel):
    """Seconds until the first token came; of the calls that had one."""

    count: int
    avg: float | None


class FirstToken(AverageFirstToken):
    """With percentiles within 1 %."""

    p50: float | None
    p95: float | None
    p99: float | None


class NodeTiming(LateModel):
    """Response times in seconds, of every call that was made, failed ones included; percentiles within 1 %."""

    request_count: int
    failed_requests: int
    error_rate: float | None = Field(description="Percent of the calls that failed; null of none.")
    avg_response_time: float | None
    min_response_time: float | None
    max_response_time: float | None
    p50: float | None
    p95: float | None
    p99: float | None
    time_to_first_token: AverageFirstToken
    total_tokens: int


class Timing(NodeTiming):
    """Response times, and those of the first token."""

    time_to_first_token: FirstToken  # pyright: ignore[reportIncompatibleVariableOverride]


class ResourceUsage(LateModel):
    """What the server's process uses now."""

    cpu_percent: float
    memory_bytes: int
    threads: int


class PerformanceAnswer(_Ranged, Timing):
    """How fast model calls were."""

    throughput: float | None = Field(
        description="Calls a second from the range's start (or the first call) to its end."
    )
    by_model: dict[str, Timing]
    by_node: dict[str, NodeTiming]
    resource_usage: ResourceUsage


class SessionTokens(LateModel):
    """What a session used."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    unpriced_tokens: int
    request_count: int


class Tokens(SessionTokens):
    """Tokens; prompt and completion tokens include the cached and the reasoning ones."""

    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int


class DayTokens(Tokens):
    """Tokens of a day (UTC)."""

    date: str


class TokensAnswer(_Ranged, Tokens):
    """Tokens in all and by what they were used for."""

    by_model: dict[str, Tokens]
    by_workflow: dict[str, Tokens]
    by_session: dict[str, SessionTokens] = Field(description="The sessions that used most, the first of them first.")
    by_day: list[DayTokens]


class Money(LateModel):
    """US dollars; null where only tokens without a known price were used, which is not free."""

    cost: float | None
    total_tokens: int
    unpriced_tokens: int
    request_count: int


class DayMoney(Money):
    """What a day (UTC) cost."""

    date: str


class CostAnswer(_Ranged):
    """Cost in all and by what it was spent on; tokens without a known price are counted in `unpriced_tokens`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "session_id": None,
                    "start_time": None,
                    "end_time": None,
                    "total_cost": 0.0125,
                    "currency": "USD",
                    "total_tokens": 4200,
                    "unpriced_tokens": 0,
                    "request_count": 6,
                    "cost_by_model": {"gpt-4.1-mini": _MONEY},
                    "cost_by_workflow": {"react": _MONEY},
                    "cost_by_session": {"react-251022-174800-1f73e8": _MONEY},
                    "cost_trends": [{"date": "2025-10-22", **_MONEY}],
                }
            ]
        }
    )

    total_cost: float | None
    currency: str
    total_tokens: int
    unpriced_tokens: int
    request_count: int
    cost_by_model: dict[str, Money]
    cost_by_workflow: dict[str, Money]
    cost_by_session: dict[str, Money] = Field(description="The sessions that cost most, the first of them first.")
    cost_trends: list[DayMoney]


class ErrorCount(LateModel):
    """How many errors an hour (of ranges up to two days) or a day had."""

    timestamp: str
    count: int


class ErrorsAnswer(_Ranged):
    """Errors that were logged."""

    error_count: int
    error_by_type: dict[str, int]
    error_by_severity: dict[str, int]
    error_by_session: dict[str, int] = Field(description="The sessions with most of them, the first of them first.")
    error_trends: list[ErrorCount]


class TrendPoint(LateModel):
    """A bucket: its start, the metric's value, and how many things it is made of."""

    timestamp: str
    value: float | None = Field(description="0 for sums, null for averages and rates, where nothing happened.")
    count: int
    unpriced_tokens: int = Field(default=0, description="Of the metric cost.")


class TrendTotal(LateModel):
    """The metric over the whole range."""

    value: float | None
    count: int
    unpriced_tokens: int = 0


class TrendChange(LateModel):
    """Against the same length of time before."""

    current: float | None
    previous: float | None
    percent: float | None


class TrendAnswer(LateModel):
    """A metric over time, in UTC buckets without holes; the last one is in progress."""

    session_id: str | None
    metric: str
    time_range: str
    bucket: str
    points: list[TrendPoint]
    total: TrendTotal
    change: TrendChange


class SessionsStatistics(LateModel):
    """All sessions; durations are execution times of ended runs, without pauses."""

    total_sessions: int
    active_sessions: int
    by_status: dict[str, int]
    total_runs: int
    ended_runs: int
    avg_duration: float | None
    success_rate: float | None = Field(description="Percent of ended runs; null of none.")
    error_count: int
    tokens: int
    unpriced_tokens: int
    cost: float | None


class SessionStatistics(LateModel):
    """One session; `duration_seconds` is the execution time of its runs, without pauses."""

    session_id: str
    total_messages: int
    total_tool_calls: int
    total_errors: int
    total_runs: int
    ended_runs: int
    duration_seconds: float
    success_rate: float | None = Field(description="Percent of ended runs; null of none.")
    tokens: int
    unpriced_tokens: int
    cost: float | None


class KeepReport(LateModel):
    """A report to keep; without an end up to now, without a start the 7 days before its end."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "title": "October, first week",
                    "start_time": "2025-10-01T00:00:00Z",
                    "end_time": "2025-10-08T00:00:00Z",
                }
            ]
        },
    )

    title: str | None = Field(default=None, min_length=1, max_length=200)
    start_time: Time | None = None
    end_time: Time | None = None


class ReportAnswer(LateModel):
    """A kept report, without its figures."""

    model_config = ConfigDict(json_schema_extra={"examples": [_REPORT]})

    report_id: str
    title: str
    created_at: str
    start_time: str
    end_time: str


class ReportList(LateModel):
    """A page of kept reports, newest first."""

    reports: list[ReportAnswer]
    total: int
    page: int
    page_size: int
    has_next: bool
    cursor: str | None
