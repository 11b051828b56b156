"""The tables, one aggregate a module. They are the one source of the schema and of the SQL.

Columns are integers, text and bytes only: what the driver takes as it is. Times are microseconds since the epoch (UTC),
money is nano-dollars, JSON is text (or bytes where only Python reads it).
"""

from modular_agent.storage.models.api_keys import api_keys, key_charges
from modular_agent.storage.models.bookmarks import bookmarks
from modular_agent.storage.models.checkpoints import checkpoint_writes, checkpoints, log_items
from modular_agent.storage.models.configurations import configurations
from modular_agent.storage.models.effects import effects
from modular_agent.storage.models.error_groups import error_groups, error_traces
from modular_agent.storage.models.errors import errors
from modular_agent.storage.models.idempotency import idempotency_keys
from modular_agent.storage.models.interrupts import interrupts
from modular_agent.storage.models.llm_calls import llm_calls
from modular_agent.storage.models.metadata import metadata
from modular_agent.storage.models.records import MESSAGE_TYPE_SQL, log_files, mirror, records
from modular_agent.storage.models.runs import ACTIVE_STATUSES_SQL, run_inbox, runs
from modular_agent.storage.models.session_grams import SESSION_GRAMS
from modular_agent.storage.models.sessions import sessions
from modular_agent.storage.models.spending import spending
from modular_agent.storage.models.statistics import (
    SUMS,
    error_hour,
    histogram_day,
    reports,
    run_hour,
    session_hour,
    usage_day,
    usage_hour,
    usage_session,
)
from modular_agent.storage.models.workflows import workflow_versions, workflows

__all__ = [
    "ACTIVE_STATUSES_SQL",
    "MESSAGE_TYPE_SQL",
    "SESSION_GRAMS",
    "SUMS",
    "api_keys",
    "bookmarks",
    "checkpoint_writes",
    "checkpoints",
    "configurations",
    "effects",
    "error_groups",
    "error_hour",
    "error_traces",
    "errors",
    "histogram_day",
    "idempotency_keys",
    "interrupts",
    "key_charges",
    "llm_calls",
    "log_files",
    "log_items",
    "metadata",
    "mirror",
    "records",
    "reports",
    "run_hour",
    "run_inbox",
    "runs",
    "session_hour",
    "sessions",
    "spending",
    "usage_day",
    "usage_hour",
    "usage_session",
    "workflow_versions",
    "workflows",
]
