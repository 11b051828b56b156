"""What must hold of every session's log, whatever happened to the server: one function that checks all of it."""

import json
from collections import Counter
from typing import Any

from chaos.projections import check_projections
from modular_agent.lifecycle import ENDED_RUN_STATUSES, RUN_TRANSITIONS, SESSION_STATUS_OF_RUN, RunStatus
from servers.server_process import ServerProcess, eventually

__all__ = ["check_ledger", "check_log", "check_session"]


async def check_session(server: ServerProcess, session_id: str, *, status: str = "completed") -> list[dict[str, Any]]:
    """Checks a session at rest whose runs were left alone; its records. Nothing is missing, nothing twice."""
    assert (await server.session(session_id))["status"] == status
    records = await check_log(server, session_id)
    check_tool_calls(records)
    _check_runs(records, await server.get(f"/sessions/{session_id}/runs"))
    return records


async def check_log(server: ServerProcess, session_id: str) -> list[dict[str, Any]]:
    """Checks a session at rest, whatever was done to it; its records.

    API, rows and files agree, nothing is missing or twice, and all that is shown of the session is what its log says.
    """
    session = await server.session(session_id)
    records = await server.records(session_id)
    _check_sequence(session, records)
    await _check_copies(server, session_id, records)
    check_statuses(session, records)
    check_steps(records)
    check_calls(records)
    await check_projections(server, session, records)
    return records


async def _check_copies(server: ServerProcess, session_id: str, records: list[dict[str, Any]]) -> None:
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
    exported = await server.client.get(f"/history/sessions/{session_id}/export", params={"format": "jsonl"})
    assert exported.content == lines, "the export is the log"


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


def check_calls(records: list[dict[str, Any]]) -> None:
    """What is known of every tool call, at each moment of the log: nothing runs unannounced, no end is left open.

    A call is announced (`intent`, again after a crash), then it has a result, or is `interrupted` by the end of its
    run; a retry may announce an interrupted one again, or have a person's word on it. One that is refused has a result
    alone. When a run has ended, none of its calls is open.
    """
    phases: dict[str, str] = {}
    owners: dict[str, str] = {}
    for record in records:
        if record["record_type"] == "tool_call":
            call, phase = record["tool_call_id"], record["phase"]
            before = phases.get(call)
            assert before != "result", f"{call} has a result, and then {phase}"
            if phase == "interrupted":
                assert before == "intent", f"{call} was {before} and is interrupted"
                assert record["success"] is None
            if phase == "result" and before is None:
                assert record["success"] is False, f"{call} was made without its intent"
            phases[call], owners[call] = phase, record["run_id"]
        elif record["record_type"] == "run" and record["status"] in ENDED_RUN_STATUSES:
            left = [call for call, phase in phases.items() if phase == "intent" and owners[call] == record["run_id"]]
            assert not left, f"{record['run_id']} is {record['status']}, and nothing is said of {left}"
    assert "intent" not in phases.values(), f"nobody knows what became of {phases}"


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
