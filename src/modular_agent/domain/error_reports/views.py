"""Errors and their groups as the API shows them."""

from typing import Any

from modular_agent.kit.clock import rfc3339
from modular_agent.storage.repositories.error_groups import ErrorGroupRow, ListedError

__all__ = ["error_view", "group_view"]


def error_view(row: ListedError) -> dict[str, Any]:
    """An error; `session_id` is null for one of the server itself."""
    return {
        "error_id": row.error_id,
        "session_id": row.session_id,
        "workflow_id": row.workflow_id,
        "run_id": row.run_id,
        "node": row.node,
        "timestamp": rfc3339(row.ts),
        "error_type": row.error_type,
        "error_message": row.message,
        "severity": row.severity,
        "fingerprint": row.fingerprint,
        "status": "open" if row.is_open else "resolved",
    }


def group_view(row: ErrorGroupRow) -> dict[str, Any]:
    """A group; `regressed` says that it was resolved and has happened again."""
    return {
        "fingerprint": row.fingerprint,
        "status": "open" if row.open_count else "resolved",
        "regressed": bool(row.open_count) and row.resolved_at is not None,
        "error_type": row.newest.error_type,
        "severity": row.newest.severity,
        "count": row.count,
        "open_count": row.open_count,
        "first_seen": rfc3339(row.first_seen),
        "last_seen": rfc3339(row.last_seen),
        "session_count": row.session_count,
        "sessions": row.sessions,
        "run_count": row.run_count,
        "resolved_at": None if row.resolved_at is None else rfc3339(row.resolved_at),
        "resolved_by": row.resolved_by,
        "note": row.note,
        "sample": error_view(row.newest),
    }
