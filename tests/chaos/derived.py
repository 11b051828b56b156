"""What a session's log says of the session: everything the product shows of it, made again from the records alone."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from modular_agent.lifecycle import ENDED_RUN_STATUSES

__all__ = [
    "NANO",
    "conversation",
    "errors_by_type",
    "in_order",
    "last_run",
    "messages_dropped",
    "rolled_back",
    "run_ends",
    "session_usage",
    "state_beside",
    "statistics",
    "usage_of",
]

Record = Mapping[str, Any]
FIELDS = ("content", "tool_calls", "tool_call_id", "name")
NANO = 1_000_000_000


def rolled_back(records: Iterable[Record]) -> set[str]:
    """The runs whose state was dropped."""
    return {r["run_id"] for r in records if r["record_type"] == "control" and r["action"] == "rollback"}


def messages_dropped(records: Iterable[Record]) -> list[Any]:
    """What had been put into rolled back runs, and no model call of theirs had taken."""
    return [
        message["content"]
        for record in records
        if record["record_type"] == "control" and record["action"] == "rollback"
        for message in record.get("dropped", ())
    ]


def conversation(records: Iterable[Record]) -> list[dict[str, Any]]:
    """The messages of the state: those of the log, without what was asked beside, and without rolled back runs."""
    records = list(records)
    dropped = rolled_back(records)
    return [
        message_of(record, record["message_type"], record["record_id"])
        for record in records
        if record["record_type"] == "message"
        and record["metadata"].get("in_conversation") is not False
        and record["run_id"] not in dropped
    ]


def message_of(fields: Mapping[str, Any], role: str, message_id: str) -> dict[str, Any]:
    """A message of the state or of the log, in one shape."""
    return {"id": message_id, "role": role, **{name: fields.get(name) for name in FIELDS}}


def in_order(messages: Iterable[dict[str, Any]]) -> list[Any]:
    """Parallel tool messages stand in the log as they came to an end, and in the state as they were asked for."""
    groups: list[Any] = []
    for message in messages:
        if message["role"] == "tool":
            if not groups or not isinstance(groups[-1], list):
                groups.append([])
            groups[-1] = sorted([*groups[-1], message], key=lambda one: one["id"])
        else:
            groups.append(message)
    return groups


def usage_of(records: Iterable[Record]) -> dict[str, int]:
    """Tokens and nano-dollars of model calls, in all."""
    records = list(records)
    told = Counter[str]()
    unpriced = {r["message_id"] for r in records if r["record_type"] == "cost" and r["unpriced"]}
    for record in records:
        if record["record_type"] == "token_usage":
            for name in ("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "reasoning_tokens"):
                told[name] += record[name]
            told["unpriced_tokens"] += record["total_tokens"] if record["message_id"] in unpriced else 0
        elif record["record_type"] == "cost" and not record["unpriced"]:
            told["cost_nano"] += round(record["amount"] * NANO)
    return told


def session_usage(records: Iterable[Record]) -> dict[str, Any]:
    """The session's counters, as the API shows them."""
    records = list(records)
    kinds = Counter(record["record_type"] for record in records)
    told = usage_of(records)
    names = ("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "reasoning_tokens")
    return {
        "messages": kinds["message"],
        "tool_calls": sum(r["record_type"] == "tool_call" and r["phase"] == "result" for r in records),
        "errors": kinds["error"],
        **{name: told[name] for name in names},
        "unpriced_tokens": told["unpriced_tokens"],
        "cost_usd": told["cost_nano"] / NANO,
    }


def run_ends(records: Iterable[Record]) -> dict[str, dict[str, Any]]:
    """By run, in the order of their starts: the status as it stands, and what its last execution said of itself."""
    runs: dict[str, dict[str, Any]] = defaultdict(dict)
    for record in records:
        if record["record_type"] == "run":
            run = runs[record["run_id"]]
            run["status"] = record["status"]
            if record.get("execution_time") is not None:
                run["execution_time"] = record["execution_time"]
            ended = record["status"] in ENDED_RUN_STATUSES
            run["result"] = record.get("result") if ended else None
            run["error"] = record.get("error") if ended else None
    return dict(runs)


def last_run(records: Iterable[Record]) -> str:
    """The run that was started last."""
    return list(run_ends(records))[-1]


def statistics(records: Iterable[Record], *, session_id: str) -> dict[str, Any]:
    """`GET /sessions/{session_id}/statistics`."""
    records = list(records)
    usage, runs = session_usage(records), run_ends(records).values()
    ended = [run for run in runs if run["status"] in ENDED_RUN_STATUSES]
    completed = sum(run["status"] == "completed" for run in ended)
    tokens, unpriced = usage["total_tokens"], usage["unpriced_tokens"]
    return {
        "session_id": session_id,
        "total_messages": usage["messages"],
        "total_tool_calls": usage["tool_calls"],
        "total_errors": usage["errors"],
        "total_runs": len(runs),
        "ended_runs": len(ended),
        "duration_seconds": round(sum(run.get("execution_time", 0.0) for run in runs), 6),
        "success_rate": round(100 * completed / len(ended), 6) if ended else None,
        "tokens": tokens,
        "unpriced_tokens": unpriced,
        "cost": None if unpriced and unpriced == tokens else usage["cost_usd"],
    }


def errors_by_type(records: Iterable[Record]) -> dict[str, int]:
    """How many errors of each type."""
    return dict(Counter(record["error_type"] for record in records if record["record_type"] == "error"))


def state_beside(records: Iterable[Record]) -> dict[str, Any]:
    """What the log says of the state beside its messages: of a session whose last run has completed, all keys."""
    records = list(records)
    run_id = last_run(records)
    run = run_ends(records)[run_id]
    answers = [
        record
        for record in records
        if record["record_type"] == "llm_response" and record["run_id"] == run_id and record.get("error") is None
    ]
    told = {"iteration_count": len(answers), "errors": [run["error"]] if run["error"] else []}
    return {**told, **(run["result"]["state"] if run["status"] == "completed" else {})}
