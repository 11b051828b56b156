"""Compares all that the server shows of a session at rest with what its log alone says."""

from collections import Counter
from typing import Any

from chaos.derived import (
    NANO,
    conversation,
    errors_by_type,
    in_order,
    message_of,
    rolled_back,
    run_ends,
    session_usage,
    state_beside,
    statistics,
    usage_of,
)
from servers.server_process import ServerProcess

__all__ = ["check_fork", "check_projections", "check_sums", "check_valid"]

Records = list[dict[str, Any]]
PAGE = 500
DISK_TROUBLE = ("disk_failed", "storage_full")  # the test itself makes the disk fail; some of it could be stored


async def check_projections(server: ServerProcess, session: dict[str, Any], records: Records) -> None:
    """State, history, runs, counters, statistics, tokens, cost, errors and open questions of a session."""
    await _check_state(server, session, records)
    await _check_history(server, session["session_id"], records)
    await _check_runs(server, session["session_id"], records)
    await _check_figures(server, session, records)


async def check_sums(server: ServerProcess, logs: list[Records]) -> None:
    """What is shown of all sessions is the sum of what their logs say."""
    told = [statistics(records, session_id="") for records in logs]
    shown = await server.get("/sessions/statistics")
    errors = (await server.get("/errors", page_size=100))["errors"]
    own = [error for error in errors if error["session_id"] is None]
    unexpected = [error for error in own if error["error_type"] not in DISK_TROUBLE]
    assert not unexpected, f"what the server did not expect: {unexpected}"
    assert shown["total_sessions"] == len(logs)
    for name, each in (
        ("total_runs", "total_runs"),
        ("ended_runs", "ended_runs"),
        ("tokens", "tokens"),
        ("unpriced_tokens", "unpriced_tokens"),
    ):
        assert shown[name] == sum(one[each] for one in told), f"{name} of all sessions"
    assert shown["error_count"] == sum(one["total_errors"] for one in told) + len(own)
    cost = sum(session_usage(records)["cost_usd"] for records in logs)
    assert round((shown["cost"] or 0) * NANO) == round(cost * NANO)


def check_fork(origin: Records, fork: Records) -> None:
    """A fork's log begins with what its state refers to, as the origin has it, and is its own from there on."""
    (place,) = [n for n, record in enumerate(fork) if record["record_type"] == "control" and record["action"] == "fork"]
    copied, own = fork[:place], fork[place + 1 :]
    assert fork[place]["source"] == origin[0]["session_id"]
    assert not [record for record in own if "copied_from" in record["metadata"]]
    for record in copied:
        place_there = record["metadata"]["copied_from"]
        there = origin[place_there["seq"] - 1]
        assert place_there == {name: there[name] for name in ("session_id", "seq", "run_id")}
        same = record.keys() - {"seq", "session_id", "run_id", "timestamp", "metadata"}
        assert {name: record[name] for name in same} == {name: there[name] for name in same}
        assert {**there["metadata"], "copied_from": place_there} == record["metadata"]
    _check_fork_point(origin, [record["metadata"]["copied_from"]["seq"] for record in copied if _is_said(record)])


def _check_fork_point(origin: Records, seqs: list[int]) -> None:
    """What was said up to some moment of the origin, and all of it.

    A message is left out only if a roll-back before that moment took it, or if it came in the transaction of a later
    step; so what is left out follows, in the origin's conversation, after all that is there.
    """
    if not seqs:
        return
    until = max(seqs)
    dropped = rolled_back(origin[:until])
    said = [r["seq"] for r in origin[:until] if _is_said(r) and r["run_id"] not in dropped]
    assert sorted(seqs) == said, f"of the origin up to {until} the fork has {sorted(seqs)}, and {said} was said"


def _is_said(record: dict[str, Any]) -> bool:
    return record["record_type"] == "message" and record["metadata"].get("in_conversation") is not False


async def _check_state(server: ServerProcess, session: dict[str, Any], records: Records) -> None:
    state = await server.get(f"/sessions/{session['session_id']}/state")
    messages = state.pop("messages")
    told, shown = in_order(conversation(records)), in_order([message_of(m, m["role"], m["id"]) for m in messages])
    assert told == shown, f"the log and the state hold the same conversation: {_difference(told, shown)}"
    check_valid(messages)
    results = [(m["tool_call_id"], m["name"], m["content"]) for m in messages if m["role"] == "tool"]
    assert [tuple(result.values()) for result in state.pop("tool_results")] == results
    for name, value in state_beside(records).items():
        assert state.get(name) == value, f"{name} of the state is {state.get(name)!r}, and {value!r} in the log"


def _difference(told: list[Any], shown: list[Any]) -> str:
    place = next((n for n, (a, b) in enumerate(zip(told, shown, strict=False)) if a != b), min(len(told), len(shown)))
    return (
        f"at {place} of {len(told)} and {len(shown)}: log {told[place : place + 2]}, state {shown[place : place + 2]}"
    )


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
    twice = [key for key, count in Counter(message["id"] for message in messages).items() if count > 1]
    assert not twice, f"in the state twice: {twice}"


async def _check_history(server: ServerProcess, session_id: str, records: Records) -> None:
    assert (await server.get(f"/sessions/{session_id}/history", limit=PAGE))["history"] == records[-PAGE:]
    messages: Records = []
    while True:
        place = {"limit": PAGE, "offset": len(messages)}
        page = await server.get(f"/history/sessions/{session_id}/messages", **place)
        messages += page["messages"]
        if not page["has_next"]:
            break
    assert messages == [record for record in records if record["record_type"] == "message"]


async def _check_runs(server: ServerProcess, session_id: str, records: Records) -> None:
    told = run_ends(records)
    shown: Records = []
    while True:
        page = await server.get(f"/sessions/{session_id}/runs", page=1 + len(shown) // 100, page_size=100)
        shown = [*shown, *page["runs"]]
        if not page["has_next"]:
            break
    assert [run["run_id"] for run in reversed(shown)] == list(told), "the runs, in their order"
    for run in shown:
        said = told[run["run_id"]]
        for name in ("status", "result", "error"):
            assert run[name] == said[name], f"{name} of {run['run_id']}"
        assert run["execution_time"] == said.get("execution_time", 0.0), run["run_id"]
    last = await server.get(f"/sessions/{session_id}/runs/{list(told)[-1]}")
    usage = usage_of([record for record in records if record["run_id"] == last["run_id"]])
    for name in ("prompt_tokens", "completion_tokens", "total_tokens", "unpriced_tokens"):
        assert last["usage"][name] == usage[name], name
    assert round(last["usage"]["cost_usd"] * NANO) == usage["cost_nano"]
    steps = [r for r in records if r["record_type"] == "step" and r["run_id"] == last["run_id"]]
    assert last["execution_path"][-20:] == (steps[-1]["execution_path"] if steps else [])


async def _check_figures(server: ServerProcess, session: dict[str, Any], records: Records) -> None:
    session_id = session["session_id"]
    usage = session_usage(records)
    assert session["usage"] == usage, "the session's counters are what its log comes to"
    assert await server.get(f"/sessions/{session_id}/statistics") == statistics(records, session_id=session_id)
    tokens = await server.get(f"/analytics/tokens/{session_id}")
    for name in ("prompt_tokens", "completion_tokens", "total_tokens", "unpriced_tokens"):
        assert tokens[name] == usage[name], f"{name} of the analytics"
    cost = await server.get(f"/analytics/cost/{session_id}")
    assert round((cost["total_cost"] or 0) * NANO) == round(usage["cost_usd"] * NANO)
    errors = await server.get("/analytics/errors", session_id=session_id)
    assert errors["error_count"] == usage["errors"]
    assert errors["error_by_type"] == errors_by_type(records)
    phases = {r["interrupt_id"]: r["phase"] for r in records if r["record_type"] == "interrupt"}
    still_open = (await server.get(f"/sessions/{session_id}/interrupts"))["interrupts"]
    assert not [each for each in still_open if phases[each["interrupt_id"]] == "answered"]
    if session["current_run_id"] is None:
        assert not still_open, "nobody is asked on behalf of a run that has ended"
