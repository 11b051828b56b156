"""All statistics made anew from the rows that they are the sums of: for a migration, and to check them."""

import sqlite3
from typing import Final

from modular_agent.storage.models import SUMS
from modular_agent.storage.rollups import DAY, HOUR, HOURS_OF_DAY, OF_WEEK, WEEK, bucket

__all__ = ["CALL_SUMS", "TABLES", "rebuild"]

TABLES: Final = ("usage_hour", "usage_day", "usage_session", "histogram_day", "run_hour", "error_hour", "session_hour")

# The sums of `SUMS`, over rows `c` of `llm_calls`.
CALL_SUMS: Final = (
    "count(*), sum(c.error_kind IS NOT NULL), sum(c.prompt_tokens), sum(c.completion_tokens), sum(c.cached_tokens),"
    " sum(c.cache_write_tokens), sum(c.reasoning_tokens),"
    " sum(CASE WHEN c.cost_nano IS NULL THEN c.prompt_tokens + c.completion_tokens ELSE 0 END),"
    " coalesce(sum(c.cost_nano), 0), sum(c.duration_us), coalesce(sum(c.first_token_us), 0), count(c.first_token_us)"
)
_EXTREMES: Final = "min(c.duration_us), max(c.duration_us)"
_CALLS: Final = "FROM llm_calls c JOIN sessions s ON s.n = c.session_n"
_ENDED: Final = "r.status IN ('completed', 'failed', 'stopped')"


def rebuild(connection: sqlite3.Connection) -> None:
    """Fills the tables of sums from the rows, within the caller's transaction; it holds the writer all the while."""
    connection.create_function("bucket_of", 1, bucket, deterministic=True)
    for table in TABLES:
        connection.execute(f"DELETE FROM {table}")
    for text in _statements():
        connection.execute(text)


def _statements() -> list[str]:
    sums = ", ".join(f"sum({name})" for name in SUMS)
    keys = "s.tenant, c.workflow_id, c.model, c.node"
    usage_hour = f"c.ts / {HOUR}, {keys}, {CALL_SUMS}, {_EXTREMES} {_CALLS} GROUP BY 1, 2, 3, 4, 5"
    day_keys = f"hour / {HOURS_OF_DAY}, tenant, workflow_id, model, node"
    usage_day = f"{day_keys}, {sums}, min(min_us), max(max_us) FROM usage_hour GROUP BY 1, 2, 3, 4, 5"
    error_keys = f"e.ts / {HOUR}, coalesce(s.tenant, ''), e.error_type, e.severity"
    error_source = "FROM errors e LEFT JOIN sessions s ON s.n = e.session_n"
    return [
        f"INSERT INTO usage_hour SELECT {usage_hour}",
        f"INSERT INTO usage_day SELECT {usage_day}",
        f"INSERT INTO usage_session SELECT c.session_n, c.model, {CALL_SUMS} FROM llm_calls c GROUP BY 1, 2",
        *_histograms(),
        *_runs(),
        f"INSERT INTO error_hour SELECT {error_keys}, count(*) {error_source} GROUP BY 1, 2, 3, 4",
        f"INSERT INTO session_hour SELECT created_at / {HOUR}, tenant, count(*) FROM sessions GROUP BY 1, 2",
    ]


def _histograms() -> list[str]:
    made: list[str] = []
    for measure, dimension, column in (
        ("response", "model", "duration_us"),
        ("response", "node", "duration_us"),
        ("first_token", "model", "first_token_us"),
    ):
        made.append(
            f"INSERT INTO histogram_day SELECT '{measure}', '{dimension}', c.ts / {DAY}, s.tenant, c.{dimension},"
            f" bucket_of(c.{column}), count(*) {_CALLS} WHERE c.{column} IS NOT NULL GROUP BY 3, 4, 5, 6"
        )
    made.append(
        f"INSERT INTO histogram_day SELECT measure || '{OF_WEEK}', dimension, day - day % {WEEK}, tenant, key, bucket,"
        " sum(count) FROM histogram_day GROUP BY 1, 2, 3, 4, 5, 6"
    )
    made.append(
        f"INSERT INTO histogram_day SELECT 'run', 'all', r.ended_at / {DAY}, s.tenant, '', bucket_of(r.active_us),"
        f" count(*) FROM runs r JOIN sessions s ON s.n = r.session_n WHERE {_ENDED} GROUP BY 3, 4, 5, 6"
    )
    return made


def _runs() -> list[str]:
    source = "FROM runs r JOIN sessions s ON s.n = r.session_n"
    statuses = ", ".join(f"sum(r.status = '{status}')" for status in ("completed", "failed", "stopped"))
    changes = ", ".join(
        f"{name} = {name} + excluded.{name}" for name in ("started", "completed", "failed", "stopped", "active_us")
    )
    started = f"r.created_at / {HOUR}, s.tenant, s.workflow_id, count(*), 0, 0, 0, 0 {source} GROUP BY 1, 2, 3"
    ended = (
        f"r.ended_at / {HOUR}, s.tenant, s.workflow_id, 0, {statuses}, sum(r.active_us) {source} WHERE {_ENDED}"
        " GROUP BY 1, 2, 3"
    )
    return [
        f"INSERT INTO run_hour SELECT {started}",
        f"INSERT INTO run_hour SELECT {ended} ON CONFLICT DO UPDATE SET {changes}",
    ]
