"""`/sessions/{id}/runs`: the three modes, what a run says of itself, limits, and one active run at a time."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from modular_agent.api.schemas.runs import RunAnswer, RunList
from servers.live_server import LiveServer, calls

MODEL = "models: {main: {provider: scripted, script: scripts/%s.yaml}}\n"
REACT = (
    MODEL % "test"
    + """
tools: {calculator: {use: builtin.calculator}}
nodes:
  think: {type: llm, model: main, tools: [calculator]}
  act: {type: tools}
edges:
  - {from: START, to: think}
  - {from: think, to: act, when: has_tool_calls}
  - {from: think, to: END}
  - {from: act, to: think}
"""
)
TURNS: list[dict[str, Any]] = [
    {"when": {"last_role": "tool"}, "reply": "It is {{ tool_results[-1].content }}."},
    {"when": {"last_user": "hello"}, "reply": "Hello to you too."},
    {"when": {"last_user": "loop"}, **calls(("calculator", {"expression": "1 + 1"}))},
    {"when": {"last_user": "slow"}, "reply": "slowly " * 50, "token_delay": "20ms"},
    {"when": {"last_user": "fail"}, "fail": {"kind": "authentication", "status": 401, "message": "no"}},
    {"when": {"last_user": "twenty"}, **calls(("calculator", {"expression": "4 * 5"}))},
]
ONE = """
nodes: {answer: {type: llm, model: main}}
edges: [{from: START, to: answer}, {from: answer, to: END}]
"""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[LiveServer]:
    server = LiveServer(tmp_path, MAX_PARALLEL_RUNS="2", MAX_QUEUED_RUNS="1")
    server.workflow(REACT, turns=TURNS, otherwise={"reply": "You said: {{ input }}"})
    looping = [{"when": {}, **calls(("calculator", {"expression": "1 + 1"}))}]
    server.workflow(REACT.replace("scripts/test", "scripts/looping"), name="looping", turns=looping)
    server.workflow(MODEL % "hanging" + ONE, name="hanging", otherwise={"hang": True})
    server.workflow(
        MODEL % "state"
        + "state: {schema: {type: object, properties: {score: {type: number}, name: {type: string}}}}\n"
        + ONE,
        name="state",
        otherwise={"reply": "ok"},
    )
    async with server:
        yield server


async def test_a_run_that_is_waited_for_says_everything(server: LiveServer) -> None:
    session_id = await server.session()
    run = await server.run(session_id, "twenty please", mode="wait")
    RunAnswer.model_validate(run)
    assert run["session_id"] == session_id
    assert run["workflow_id"] == "test"
    assert run["status"] == "completed"
    assert run["result"]["output"] == "It is 20."
    assert run["execution_path"] == ["think", "act", "think"]
    assert run["node_states"] == {"think": "completed", "act": "completed"}
    assert run["current_node"] == "think"
    assert run["error"] is None
    assert run["interrupts"] == []
    assert run["steps"] == 3
    assert 0 < run["execution_time"] < 10
    assert run["created_at"] <= run["started_at"] <= run["ended_at"]
    assert run["performance_metrics"]["llm_calls"] == 2
    assert run["usage"]["total_tokens"] == run["usage"]["prompt_tokens"] + run["usage"]["completion_tokens"] > 0
    assert await server.get(f"/sessions/{session_id}/runs/{run['run_id']}") == run
    session = await server.get(f"/sessions/{session_id}")
    assert (session["status"], session["current_run_id"]) == ("completed", None)
    for name in ("prompt_tokens", "completion_tokens", "total_tokens", "unpriced_tokens"):
        assert session["usage"][name] == run["usage"][name]
    assert session["usage"]["tool_calls"] == 1
    assert session["last_seq"] == len(await server.records(session_id))


async def test_in_the_background_is_the_default_and_answers_at_once(server: LiveServer) -> None:
    session_id = await server.session()
    answer = await server.client.post(f"/sessions/{session_id}/runs", json={"message": "slow"})
    assert answer.status_code == 202
    run = RunAnswer.model_validate(answer.json())
    assert run.status in ("running", "queued")
    assert run.result is None
    assert run.ended_at is None
    session = await server.get(f"/sessions/{session_id}")
    assert (session["status"], session["current_run_id"]) == ("active", run.run_id)
    assert (await server.status(session_id, "completed"))["run_id"] == run.run_id


async def test_a_failed_run_is_an_answer_not_an_error(server: LiveServer) -> None:
    session_id = await server.session()
    answer = await server.client.post(f"/sessions/{session_id}/runs", json={"message": "fail", "mode": "wait"})
    assert answer.status_code == 200
    run = RunAnswer.model_validate(answer.json())
    assert run.status == "failed"
    assert run.error is not None
    assert run.error.node == "think"
    assert run.error.message
    assert "Traceback" not in answer.text
    assert run.result is None
    assert run.node_states == {"think": "failed"}
    session = await server.get(f"/sessions/{session_id}")
    assert session["status"] == "error"
    assert session["usage"]["errors"] == 1
    again = await server.run(session_id, "hello")
    assert again["status"] == "completed"


async def test_a_stream_is_the_run_to_its_end(server: LiveServer) -> None:
    session_id = await server.session()
    await server.run(session_id, "hello")
    body = {"message": "twenty", "mode": "stream"}
    async with server.events(f"/sessions/{session_id}/runs", method="POST", body=body) as events:
        assert events.response.headers["content-type"].startswith("text/event-stream")
        assert events.response.headers["cache-control"].startswith("no-store")
        assert events.response.headers["x-accel-buffering"] == "no"
        run_id = events.response.headers["x-run-id"]
        seen = await events.take(1000)
    assert seen[-1].type == "end"
    assert seen[-1].data["data"] == {"run_id": run_id, "status": "completed"}
    kept = [event for event in seen if event.id is not None]
    records = [record for record in await server.records(session_id) if record["run_id"] == run_id]
    assert [event.data["data"] for event in kept] == records
    assert [int(event.id.split(".")[0]) for event in kept if event.id] == [record["seq"] for record in records]
    deltas = "".join(event.data["data"]["text"] for event in seen if event.type == "message_delta")
    assert deltas in ("It is 20.", "")  # all of it, or the whole message came first


async def test_who_goes_away_does_not_stop_the_run(server: LiveServer) -> None:
    session_id = await server.session()
    body = {"message": "slow", "mode": "stream"}
    async with server.events(f"/sessions/{session_id}/runs", method="POST", body=body) as events:
        await events.take(2)
    run = await server.status(session_id, "completed", "failed", "stopped")
    assert run["status"] == "completed"
    waiting = asyncio.create_task(server.run(session_id, "slow again"))
    await server.status(session_id, "running")
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert (await server.status(session_id, "completed", "failed", "stopped"))["status"] == "completed"


async def test_content_parts_reach_the_log_as_they_are(server: LiveServer) -> None:
    session_id = await server.session()
    parts = [
        {"type": "text", "text": "hello there"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
    ]
    run = await server.run(session_id, parts)
    assert run["result"]["output"] == "Hello to you too."
    assert (await server.records(session_id, "message"))[0]["content"] == parts


async def test_input_is_a_message_or_a_change_of_the_state(server: LiveServer) -> None:
    session_id = await server.session("workflows/state.yaml")
    await server.run(session_id, input="hello")
    run = await server.run(session_id, "again", input={"score": 0.5, "name": "名"})
    assert run["result"]["state"] == {"score": 0.5, "name": "名"}
    state = await server.get(f"/sessions/{session_id}/state")
    assert [message["content"] for message in state["messages"]] == ["hello", "ok", "again", "ok"]
    assert state["score"] == 0.5
    run = await server.run(session_id, input={"messages": [{"role": "user", "content": "third"}]})
    await server.run(session_id, input={"messages": "fourth"})
    state = await server.get(f"/sessions/{session_id}/state")
    said = [(message["role"], message["content"]) for message in state["messages"]][-4:]
    assert said == [("user", "third"), ("assistant", "ok"), ("user", "fourth"), ("assistant", "ok")]


BAD_RUNS: list[tuple[dict[str, Any], int, str]] = [
    ({"message": "x", "mode": "later"}, 422, "invalid_request"),
    ({"message": 7}, 422, "invalid_request"),
    ({"message": [7]}, 422, "invalid_request"),
    ({"message": "x", "nonsense": 1}, 422, "invalid_request"),
    ({"message": "x", "input": "y"}, 422, "invalid_request"),
    ({"message": [{"text": "no type"}]}, 400, "state_invalid"),
    ({"message": [{"type": "text"}]}, 400, "state_invalid"),
    ({"input": {"score": "high"}}, 400, "state_invalid"),
    ({"input": {"unknown": 1}}, 400, "state_invalid"),
    ({"input": {"__private": 1}}, 400, "state_invalid"),
    ({"input": {"messages": [{"role": "robot", "content": "x"}]}}, 400, "state_invalid"),
    ({"input": {"messages": [{"role": "user", "content": 7}]}}, 400, "state_invalid"),
    ({"message": "x", "limits": {"max_tokens": 0}}, 400, "limits_invalid"),
    ({"message": "x", "limits": {"tokens": 5}}, 400, "limits_invalid"),
    ({"message": "x", "limits": {"on_exceed": "explode"}}, 400, "limits_invalid"),
    ({"message": "x", "limits": 7}, 422, "invalid_request"),
]


async def test_a_run_that_cannot_start_says_why_and_leaves_nothing(server: LiveServer) -> None:
    session_id = await server.session("workflows/state.yaml")
    before = await server.get(f"/sessions/{session_id}")
    for body, status, code in BAD_RUNS:
        answer = await server.client.post(f"/sessions/{session_id}/runs", json=body)
        assert (answer.status_code, answer.json()["code"]) == (status, code), (body, answer.text)
        assert answer.json()["errors"], body
    assert (await server.get(f"/sessions/{session_id}/runs"))["total"] == 0
    assert await server.get(f"/sessions/{session_id}") == before
    assert (await server.run(session_id, "hello"))["status"] == "completed"  # no place was lost
    assert server.runtime.supervisor.running == 0


async def test_runs_are_listed_by_page_and_by_cursor(server: LiveServer) -> None:
    session_id = await server.session()
    made = [(await server.run(session_id, f"hello {number}"))["run_id"] for number in range(3)]
    path = f"/sessions/{session_id}/runs"
    first, second = [await server.get(path, page=page, page_size=2) for page in (1, 2)]
    assert [run["run_id"] for run in first["runs"]] == [made[2], made[1]]
    assert [run["run_id"] for run in second["runs"]] == [made[0]]
    assert (first["total"], first["has_next"], second["has_next"], second["cursor"]) == (3, True, False, None)
    await server.run(session_id, "hello again")  # moves the pages, and no cursor
    assert (await server.get(path, page_size=2, cursor=first["cursor"]))["runs"] == second["runs"]
    answer = await server.client.get(path, params={"cursor": "WzEsMl0"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_cursor")


async def test_a_second_run_is_refused_while_one_is_active(server: LiveServer) -> None:
    session_id = await server.session("workflows/hanging.yaml")
    answers = await asyncio.gather(
        *(server.client.post(f"/sessions/{session_id}/runs", json={"message": "x"}) for _ in range(2))
    )
    assert sorted(answer.status_code for answer in answers) == [202, 409]
    answer = await server.client.post(f"/sessions/{session_id}/runs", json={"message": "x"})
    assert (answer.status_code, answer.json()["code"]) == (409, "run_already_active")
    assert (await server.get(f"/sessions/{session_id}/runs"))["total"] == 1
    await server.post(f"/sessions/{session_id}/stop?wait=true")


async def test_runs_wait_for_a_place_and_beyond_that_are_refused(server: LiveServer) -> None:
    sessions = [await server.session("workflows/hanging.yaml") for _ in range(4)]
    runs = [await server.run(session_id, "x", mode="background") for session_id in sessions[:3]]
    assert [run["status"] for run in runs] == ["running", "running", "queued"]
    full = await server.client.post(f"/sessions/{sessions[3]}/runs", json={"message": "x"})
    assert (full.status_code, full.json()["code"]) == (503, "queue_full")
    assert int(full.headers["retry-after"]) >= 1
    assert (await server.get(f"/sessions/{sessions[3]}"))["last_seq"] == 0
    await server.post(f"/sessions/{sessions[0]}/stop?wait=true")
    await server.status(sessions[2], "running")
    records = await server.records(sessions[2], "run")
    assert [record["status"] for record in records] == ["queued", "running"]
    for session_id in sessions[1:3]:
        await server.post(f"/sessions/{session_id}/stop?wait=true")


async def test_a_workflow_run_that_finds_no_place_leaves_no_session(server: LiveServer) -> None:
    sessions = [await server.session("workflows/hanging.yaml") for _ in range(3)]
    for session_id in sessions:
        await server.run(session_id, "x", mode="background")
    total = (await server.get("/sessions/"))["total"]
    headers = {"Idempotency-Key": "again"}
    answer = await server.client.post("/workflows/test/run", json={"message": "hello"}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (503, "queue_full")
    answer = await server.client.post("/workflows/test/run", json={"message": "x", "limits": {"max_tokens": -1}})
    assert (answer.status_code, answer.json()["code"]) == (400, "limits_invalid")
    assert (await server.get("/sessions/"))["total"] == total
    for session_id in sessions:
        await server.post(f"/sessions/{session_id}/stop?wait=true")
    answer = await server.client.post("/workflows/test/run", json={"message": "hello"}, headers=headers)
    assert answer.json()["status"] == "completed"
    again = await server.client.post("/workflows/test/run", json={"message": "hello"}, headers=headers)
    assert again.json() == answer.json()


async def test_runs_are_listed_newest_first(server: LiveServer) -> None:
    session_id = await server.session()
    made = [(await server.run(session_id, "hello"))["run_id"] for _ in range(5)]
    page = await server.get(f"/sessions/{session_id}/runs", page_size=2)
    RunList.model_validate(page)
    assert [run["run_id"] for run in page["runs"]] == made[:2:-1]
    assert (page["total"], page["has_next"]) == (5, True)
    page = await server.get(f"/sessions/{session_id}/runs", page_size=2, page=3)
    assert [run["run_id"] for run in page["runs"]] == made[:1]
    assert page["has_next"] is False
    for params in ({"page": 0}, {"page_size": 0}, {"page_size": 101}):
        assert (await server.client.get(f"/sessions/{session_id}/runs", params=params)).status_code == 422


async def test_a_run_of_another_session_is_unknown(server: LiveServer) -> None:
    one, two = await server.session(), await server.session()
    run = await server.run(one, "hello")
    for run_id in (run["run_id"], "run_none", "x" * 90, "%00"):
        answer = await server.client.get(f"/sessions/{two}/runs/{run_id}")
        assert (answer.status_code, answer.json()["code"]) == (404, "run_not_found")


# -- repeated requests -----------------------------------------------------------------------------------------


async def test_a_repeated_run_is_the_same_run_in_every_mode(server: LiveServer) -> None:
    session_id = await server.session()
    url, headers = f"/sessions/{session_id}/runs", {"Idempotency-Key": "k"}
    body = {"message": "hello", "mode": "wait"}
    first = await server.client.post(url, json=body, headers=headers)
    second = await server.client.post(url, json=body, headers=headers)
    assert (second.status_code, second.json()) == (first.status_code, first.json())
    other = await server.client.post(url, json={**body, "message": "other"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")
    elsewhere = await server.client.post(f"/sessions/{await server.session()}/runs", json=body, headers=headers)
    assert (elsewhere.status_code, elsewhere.json()["code"]) == (409, "idempotency_key_reused")
    assert (await server.get(url))["total"] == 1
    twins = [server.client.post(url, json={"message": "slow"}, headers={"Idempotency-Key": "twins"}) for _ in range(3)]
    answers = await asyncio.gather(*twins)
    assert [answer.status_code for answer in answers] == [202] * 3
    assert len({answer.json()["run_id"] for answer in answers}) == 1
    stream = {"message": "hello", "mode": "stream"}
    await server.status(session_id, "completed")
    for _ in range(2):
        async with server.events(url, method="POST", body=stream, headers={"Idempotency-Key": "s"}) as events:
            seen = await events.take(1000)
            assert seen[-1].type == "end"
    assert (await server.get(url))["total"] == 3
    assert server.runtime.supervisor.running == 0


async def test_a_repeated_run_is_answered_also_when_the_queue_is_full(server: LiveServer) -> None:
    session_id = await server.session()
    url, headers = f"/sessions/{session_id}/runs", {"Idempotency-Key": "k"}
    first = await server.client.post(url, json={"message": "hello", "mode": "wait"}, headers=headers)
    for _ in range(3):
        await server.run(await server.session("workflows/hanging.yaml"), "x", mode="background")
    again = await server.client.post(url, json={"message": "hello", "mode": "wait"}, headers=headers)
    assert again.json() == first.json()


# -- limits ----------------------------------------------------------------------------------------------------


async def test_a_limit_fails_the_run_when_it_is_told_to(server: LiveServer) -> None:
    session_id = await server.session("workflows/looping.yaml")
    run = await server.run(session_id, "go", limits={"max_iterations": 2, "on_exceed": "fail"})
    assert run["status"] == "failed"
    assert run["error"]["type"] in ("limit_reached", "LimitReached")
    assert run["performance_metrics"]["llm_calls"] == 2


async def test_a_limit_pauses_the_run_and_a_raised_one_has_it_go_on(server: LiveServer) -> None:
    session_id = await server.session("workflows/looping.yaml")
    run = await server.run(session_id, "go", limits={"max_iterations": 2, "on_exceed": "pause"})
    assert run["status"] == "paused"
    [question] = run["interrupts"]
    assert question["kind"] == "budget"
    assert question["status"] == "open"
    assert (await server.get(f"/sessions/{session_id}"))["status"] == "paused"
    assert (await server.get(f"/sessions/{session_id}/interrupts"))["interrupts"] == [question]
    resumed = await server.client.post(f"/sessions/{session_id}/resume")
    assert (resumed.status_code, resumed.json()["code"]) == (409, "questions_open")
    url = f"/sessions/{session_id}/interrupts/{question['interrupt_id']}"
    bad = await server.client.post(url, json={"answer": {"max_iterations": "many"}})
    assert (bad.status_code, bad.json()["code"]) == (400, "answer_invalid")
    answer = await server.client.post(f"{url}?wait=true", json={"answer": {"max_iterations": 5}})
    assert answer.status_code == 200, answer.text
    run = answer.json()
    assert run["status"] == "paused"
    assert run["performance_metrics"]["llm_calls"] == 5
    assert run["interrupts"][0]["interrupt_id"] != question["interrupt_id"]
    again = await server.client.post(url, json={"answer": {"max_iterations": 9}})
    assert (again.status_code, again.json()["code"]) == (409, "interrupt_closed")


async def test_the_limits_of_a_session_hold_for_its_runs(server: LiveServer) -> None:
    session_id = await server.session("workflows/looping.yaml", agent_config={"limits": {"max_iterations": 3}})
    run = await server.run(session_id, "go")
    assert (run["status"], run["performance_metrics"]["llm_calls"]) == ("paused", 3)
