"""Tool calls that were announced and have no end: when their run ends, its log says that they were interrupted.

Whether such a call has had its effect is not known. The ledger keeps its intent, so that a retry of the run decides
about it as after a crash.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from modular_agent.events import Record, RecordType

__all__ = ["interrupted"]

_SAME: Final = ("tool_call_id", "tool_name", "tool_input", "effect")


def interrupted(run_id: str, calls: Iterable[tuple[str | None, Mapping[str, Any]]]) -> list[Record]:
    """The records of the calls that are open after `calls`: a run's, oldest first, each with its node."""
    left: dict[str, tuple[str | None, Mapping[str, Any]]] = {}
    for node, call in calls:
        if call["phase"] == "intent":
            left[call["tool_call_id"]] = (node, call)
        else:
            left.pop(call["tool_call_id"], None)
    return [_record(run_id, node, call) for node, call in left.values()]


def _record(run_id: str, node: str | None, call: Mapping[str, Any]) -> Record:
    nothing = dict.fromkeys(("tool_output", "success", "execution_time"))
    fields = {**{name: call[name] for name in _SAME}, **nothing, "phase": "interrupted"}
    return Record(record_type=RecordType.TOOL_CALL, run_id=run_id, node=node, fields=fields)
