"""What must hold of every session's log, whatever happened to the server: one function that checks all of it."""

import json
from collections import Counter
from typing import Any

from modular_agent.lifecycle import ENDED_RUN_STATUSES, RUN_TRANSITIONS, SESSION_STATUS_OF_RUN, RunStatus
from servers.server_process import ServerProcess, eventually

__all__ = [
    "check_conversation",
    "check_ledger",
    "check_log",
    "check_session",
    "check_tool_calls",
    "check_valid",
]

CONVERSATION_FIELDS = ("content", "tool_calls", "tool_call_id", "name")


async def check_session(server: ServerProcess, session_id: str, *, status: str = "completed") -> list[dict[str, Any]]:
    """Checks a session at rest; its records. API, database and files agree; nothing is missing, nothing twice."""
    assert (await server.session(session_id))["status"] == status
    records = await check_log(server, session_id)
    messages = (await server.get(f"/sessions/{session_id}/state"))["messages"]
    check_conversation(records, messages)
    check_tool_calls(records)
    _check_runs(records, await server.get(f"/sessions/{session_id}/runs"))
    return records


async def check_log(server: ServerProcess, session_id: str) -> list[dict[str, Any]]:
    """Checks the log of a session at rest; its records. API, rows and files agree, nothing is missing or twice."""
    session = await server.session(session_id)
    records = await server.records(session_id)
    _check_sequence(session, records)
    rows = server.query(
        "SELECT r.seq, r.record_id, r.record_type, r.line FROM records r JOIN sessions s ON s.n = r.session_n"
        " WHERE s.session_id = ? ORDER BY r.seq",
        session_id,
    )
    assert [json.loads(row[3]) for row in rows] == records, "the API shows what the database holds"
    assert [(row[0], row[1], row[2]) for row in rows] == [
        (record["seq"], record["record_id"], record["record_type"]) for record in records
    ]
    lines = b"".join(row[3] for row in rows)

    async def mirrored() -> bool:
        return server.log_bytes(session_id) == lines

    await eventually(f"the files of {session_id} equal the records", mirrored, within=5)
    check_statuses(session, records)
    check_steps(records)
    return records


def check_statuses(session: dict[str, Any], records: list[dict[str, Any]]) -> None:
    """Every change is one of the table; one run is active at a time; the session stands as its last run does."""
    statuses: dict[str, RunStatus] = {}
    active: str | None = None
    for record in records:
        if record["record_type"] == "run":
            run_id, status = record["run_id"], RunStatus(record["status"])
            before = statuses.get(run_id)
            assert before is None or status in RUN_TRANSITIONS[before], (run_id, before, status)
            assert active in (None, run_id), "two runs were active at once"
            statuses[run_id] = status
            active = None if status in ENDED_RUN_STATUSES else run_id
            assert record["session_status"] == SESSION_STATUS_OF_RUN[status]
    told = [record["session_status"] for record in records if record["record_type"] == "run"]
    assert not told or session["status"] == told[-1], "the session stands as the log says"


def check_steps(records: list[dict[str, Any]]) -> None:
    """A step that has finished is not done again."""
    ended = Counter(
        (record["run_id"], record["node"], record["task_id"])
        for record in records
        if record["record_type"] == "step" and record.get("status") == "completed"
    )
    assert not [step for step, count in ended.items() if count > 1], "a finished step was repeated"


def _check_sequence(session: dict[str, Any], records: list[dict[str, Any]]) -> None:
    assert [record["seq"] for record in records] == list(range(1, len(records) + 1)), "seq is 1, 2, 3, ..."
    assert session["last_seq"] == len(records)
    assert {record["session_id"] for record in records} == {session["session_id"]}
    twice = [key for key, count in Counter(record["record_id"] for record in records).items() if count > 1]
    assert not twice, f"records that are in the log twice: {twice}"
    times = [record["timestamp"] for record in records]
    assert times == sorted(times)


def check_conversation(records: list[dict[str, Any]], messages: list[dict[str, Any]]) -> None:
    """The state's messages are the conversation's records, each once; and a model could go on from them."""
    logged = [
        record
        for record in records
        if record["record_type"] == "message" and record["metadata"].get("in_conversation") is not False
    ]
    assert _in_order([_fields(record, record["message_type"]) for record in logged]) == _in_order(
        [_fields(message, message["role"]) for message in messages]
    ), "the log and the state hold the same conversation"
    check_valid(messages)


def check_valid(messages: list[dict[str, Any]]) -> None:
    """What every provider asks for: each call has its result right after, and no result is without a call."""
    open_calls: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            assert message["tool_call_id"] in open_calls, "a tool's message answers a call that is open"
            open_calls.remove(message["tool_call_id"])
        else:
            assert not open_calls, f"calls without an answer: {open_calls}"
            open_calls = [call["id"] for call in message.get("tool_calls") or ()]
    assert not open_calls, f"calls without an answer: {open_calls}"


def _fields(message: dict[str, Any], role: str) -> dict[str, Any]:
    return {"role": role, **{name: message.get(name) for name in CONVERSATION_FIELDS}}


def _in_order(messages: list[dict[str, Any]]) -> list[Any]:
    """Parallel tool messages stand in the log as they came to an end, and in the state as they were asked for."""
    groups: list[Any] = []
    for message in messages:
        if message["role"] == "tool":
            if not groups or not isinstance(groups[-1], list):
                groups.append([])
            groups[-1] = sorted([*groups[-1], message], key=lambda one: one["tool_call_id"])
        else:
            groups.append(message)
    return groups


def check_tool_calls(records: list[dict[str, Any]]) -> None:
    """Every call has its intent before its result, and one result."""
    calls = [record for record in records if record["record_type"] == "tool_call"]
    results = Counter(record["tool_call_id"] for record in calls if record["phase"] == "result")
    assert not [key for key, count in results.items() if count > 1], "a call has one result"
    intended: set[str] = set()
    for record in calls:
        if record["phase"] == "intent":
            intended.add(record["tool_call_id"])
        else:
            assert record["tool_call_id"] in intended, "no result without its intent"
    assert intended == set(results), "every intent has a result"


def check_ledger(lines: list[dict[str, Any]]) -> None:
    """Outside of the server: nothing was paid twice, and a call that was repeated had the same key.

    But for calls that only read: they do not wait until the model's answer is stored, and a crash in between has the
    model asked again, whose calls are others.
    """
    payments = Counter((line["session"], line["label"]) for line in lines if line["tool"] == "pay")
    assert not [key for key, count in payments.items() if count > 1], "a payment was made twice"
    keys: dict[tuple[str, str], set[str]] = {}
    for line in lines:
        if line["tool"] != "look":
            keys.setdefault((line["session"], line["label"]), set()).add(line["key"])
    assert all(len(found) == 1 for found in keys.values()), "a call has one key"


def _check_runs(records: list[dict[str, Any]], runs: dict[str, Any]) -> None:
    ends = Counter(
        record["run_id"]
        for record in records
        if record["record_type"] == "run" and record["status"] in {"completed", "failed"}
    )
    assert ends == Counter(run["run_id"] for run in runs["runs"]), "every run ends once"
