"""An exception as an `error` record: its type, text, trace, and a fingerprint that is the same for the same fault."""

import hashlib
import traceback
from pathlib import PurePath
from typing import Any

from modular_agent.errors import AgentError
from modular_agent.events import Record, RecordType
from modular_agent.kit.ids import new_id

__all__ = ["error_record", "fingerprint", "summary"]


def fingerprint(error: BaseException, *, where: str) -> str:
    """16 hex digits of the error's type, its place in the workflow and the innermost frames' functions.

    Line numbers are left out, so that an edit above the fault does not make it a new one.
    """
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    parts = [type(error).__qualname__, where, *(f"{PurePath(frame.filename).name}:{frame.name}" for frame in frames)]
    if isinstance(error, AgentError):
        parts = [error.code, where]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def error_record(
    error: BaseException, *, run_id: str | None, node: str | None, workflow_id: str, severity: str = "error"
) -> Record:
    """The `error` record of an exception; `severity` is `warning` for a failure that another attempt may mend."""
    return Record(
        record_type=RecordType.ERROR,
        run_id=run_id,
        node=node,
        fields={
            "error_id": new_id("err"),
            "error_type": error.code if isinstance(error, AgentError) else type(error).__qualname__,
            "error_message": str(error) or type(error).__qualname__,
            "stack_trace": "".join(traceback.format_exception(error)),
            "severity": severity,
            "fingerprint": fingerprint(error, where=f"{workflow_id}/{node}"),
        },
    )


def summary(record: Record) -> dict[str, Any]:
    """What a run's `error` field says of an error record."""
    fields = record.fields
    return {
        "error_id": fields["error_id"],
        "type": fields["error_type"],
        "message": fields["error_message"],
        "node": record.node,
    }
