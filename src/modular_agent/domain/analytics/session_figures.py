"""Statistics of sessions: of all, and of one."""

import sqlite3
from typing import Any

from modular_agent.domain.analytics.figures import run_figures
from modular_agent.domain.analytics.usage import DECIMALS, dollars, rate
from modular_agent.events import SessionRef
from modular_agent.kit.clock import MICROSECONDS
from modular_agent.storage.statistics.scope import Scope
from modular_agent.storage.statistics.sessions import count_by_status, session_totals
from modular_agent.storage.statistics.sums import ERRORS, RUN_ENDS, USAGE, read_sums

__all__ = ["sessions_in_all", "statistics_of_session"]


def sessions_in_all(connection: sqlite3.Connection, scope: Scope) -> dict[str, Any]:
    """Sessions by status; the average execution time (seconds) and success rate (percent) of ended runs."""
    by_status = count_by_status(connection)
    runs = run_figures(connection, scope)
    names = ("calls", "prompt_tokens", "completion_tokens", "unpriced_tokens", "cost_nano")
    _, prompt, completion, unpriced, nano = read_sums(connection, USAGE, scope, sums=names).get((), [0] * len(names))
    return {
        "total_sessions": sum(by_status.values()),
        "active_sessions": by_status.get("active", 0),
        "by_status": by_status,
        "total_runs": runs["started"],
        "ended_runs": runs["ended"],
        "avg_duration": runs["avg_duration"],
        "success_rate": runs["success_rate"],
        "error_count": read_sums(connection, ERRORS, scope).get((), [0])[0],
        "tokens": prompt + completion,
        "unpriced_tokens": unpriced,
        "cost": dollars(nano, tokens=prompt + completion, unpriced=unpriced),
    }


def statistics_of_session(connection: sqlite3.Connection, session: SessionRef) -> dict[str, Any] | None:
    """What the session's records come to; `duration_seconds` is the execution time of its runs, without pauses."""
    totals = session_totals(connection, session)
    if totals is None:
        return None
    ends = read_sums(connection, RUN_ENDS, Scope(session_n=session.n)).get((), [0, 0, 0, 0])
    return {
        "session_id": session.session_id,
        "total_messages": totals.messages,
        "total_tool_calls": totals.tool_calls,
        "total_errors": totals.errors,
        "total_runs": totals.runs,
        "ended_runs": sum(ends[:3]),
        "duration_seconds": round(totals.active_us / MICROSECONDS, DECIMALS),
        "success_rate": rate(ends[0], sum(ends[:3])),
        "tokens": totals.tokens,
        "unpriced_tokens": totals.unpriced_tokens,
        "cost": dollars(totals.cost_nano, tokens=totals.tokens, unpriced=totals.unpriced_tokens),
    }
