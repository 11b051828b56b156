"""`POST /sessions/bulk-delete`: each session told of by itself, nothing left behind, nothing done twice."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from servers.live_server import LiveServer

WORKFLOW = """
models: {main: {provider: scripted, script: scripts/test.yaml}}
nodes: {answer: {type: llm, model: main}}
edges: [{from: START, to: answer}, {from: answer, to: END}]
"""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[LiveServer]:
    server = LiveServer(tmp_path)
    server.workflow(WORKFLOW, otherwise={"reply": "Yes."})
    server.workflow(WORKFLOW.replace("scripts/test", "scripts/slow"), name="slow")
    server.configure({"scripts/slow.yaml": "otherwise: {hang: true}\n"})
    async with server:
        yield server


async def bulk_delete(server: LiveServer, **body: Any) -> dict[str, Any]:
    answer = await server.client.post("/sessions/bulk-delete", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def outcomes(answer: dict[str, Any]) -> dict[str, str]:
    return {each["session_id"]: each["outcome"] for each in answer["sessions"]}


async def assert_nothing_left(server: LiveServer, *session_ids: str) -> None:
    data = server.runtime.settings.storage.data_path
    assert [path for path in data.rglob("*") for each in session_ids if each in path.name] == []
    ids = [*session_ids]
    marks = ", ".join("?" for _ in ids)
    rows = await server.runtime.database.readers.query(f"SELECT n FROM sessions WHERE session_id IN ({marks})", ids)
    assert rows == []
    tables = await server.runtime.database.readers.query(
        "SELECT m.name FROM sqlite_master m, pragma_table_info(m.name) c"
        " WHERE m.type = 'table' AND c.name = 'session_n'",
        (),
    )
    assert len(tables) > 8
    for (table,) in tables:
        orphans = (
            f"SELECT count(*) FROM {table} WHERE session_n NOT IN (SELECT n FROM sessions) AND session_n IS NOT NULL"
        )
        assert await server.runtime.database.readers.query(orphans, ()) == [(0,)], table


async def test_each_session_is_told_of_and_nothing_of_it_is_left(server: LiveServer) -> None:
    kept, ended, running = await server.session(), await server.session(), await server.session("workflows/slow.yaml")
    for session_id in (kept, ended):
        await server.run(session_id, "an unusual word: quokka")
    await server.run(running, "x", mode="background")
    answer = await bulk_delete(server, session_ids=[ended, running, "none-at-all", ended])
    assert outcomes(answer) == {ended: "deleted", running: "deleted", "none-at-all": "not_found"}
    assert (answer["deleted"], answer["not_found"], answer["failed"], answer["remaining"]) == (2, 1, 0, 0)
    assert answer["sessions"][2]["code"] == "session_not_found"
    assert server.runtime.supervisor.running == 0
    await assert_nothing_left(server, ended, running)
    assert [each["session_id"] for each in (await server.get("/sessions/"))["sessions"]] == [kept]
    hits = (await server.get("/history/search", query="quokka"))["results"]
    assert {hit["session_id"] for hit in hits} == {kept}
    again = await bulk_delete(server, session_ids=[ended, running])
    assert set(outcomes(again).values()) == {"not_found"}


async def test_a_filter_takes_the_oldest_and_says_how_many_remain(server: LiveServer) -> None:
    made = [await server.session(title=f"batch {number}") for number in range(5)]
    other = await server.session(title="other")
    first = await bulk_delete(server, filter={"search": "batch"}, limit=2, dry_run=True)
    assert outcomes(first) == {made[0]: "would_delete", made[1]: "would_delete"}
    assert (first["deleted"], first["remaining"], first["dry_run"]) == (0, 3, True)
    deleted: list[str] = []
    for expected in (3, 1, 0):
        answer = await bulk_delete(server, filter={"search": "batch"}, limit=2)
        deleted += outcomes(answer)
        assert answer["remaining"] == expected
    assert deleted == made
    assert (await bulk_delete(server, filter={"search": "batch"}))["sessions"] == []
    assert [each["session_id"] for each in (await server.get("/sessions/"))["sessions"]] == [other]


async def test_a_filter_goes_by_status_workflow_and_time(server: LiveServer) -> None:
    done, new = await server.session(), await server.session()
    await server.run(done, "x")
    assert outcomes(await bulk_delete(server, filter={"status": "completed"}, dry_run=True)) == {done: "would_delete"}
    for condition in ({"workflow_id": "none"}, {"agent_type": "test"}, {"end_time": "2020-01-01T00:00:00Z"}):
        assert (await bulk_delete(server, filter=condition, dry_run=True))["sessions"] == []
    since = await bulk_delete(server, filter={"start_time": "2020-01-01", "workflow_id": "test"}, dry_run=True)
    assert set(outcomes(since)) == {done, new}


async def test_one_that_cannot_be_deleted_does_not_keep_the_others(server: LiveServer) -> None:
    made = [await server.session() for _ in range(3)]
    in_the_way = server.runtime.settings.storage.files / made[1]  # a file, where the session's folder would be
    in_the_way.parent.mkdir(parents=True, exist_ok=True)
    in_the_way.write_text("in the way")
    answer = await server.client.post(
        "/sessions/bulk-delete", json={"session_ids": made}, headers={"Accept-Language": "zh"}
    )
    assert answer.status_code == 200
    told = answer.json()
    assert [each["outcome"] for each in told["sessions"]] == ["deleted", "failed", "deleted"]
    assert (told["sessions"][1]["code"], told["failed"]) == ("session_not_deleted", 1)
    assert "未能" in told["sessions"][1]["detail"]
    assert str(in_the_way) not in answer.text
    in_the_way.unlink()
    assert await server.runtime.sessions.finish_deletions() == 1  # as the next start does
    await assert_nothing_left(server, *made)


async def test_the_same_sessions_deleted_at_the_same_time_are_deleted_once(server: LiveServer) -> None:
    made = [await server.session("workflows/slow.yaml") for _ in range(6)]
    for session_id in made:
        await server.run(session_id, "x", mode="background")
    answers = await asyncio.gather(*(bulk_delete(server, session_ids=made) for _ in range(3)))
    assert all(each in {"deleted", "not_found"} for answer in answers for each in outcomes(answer).values())
    await assert_nothing_left(server, *made)


async def test_the_keys_of_its_requests_go_with_a_session(server: LiveServer) -> None:
    body = {"workflow_config_path": "workflows/test.yaml"}
    made = await server.client.post("/sessions/", json=body, headers={"Idempotency-Key": "one"})
    session_id = made.json()["session_id"]
    path = f"/sessions/{session_id}/runs"
    await server.client.post(path, json={"message": "x", "mode": "wait"}, headers={"Idempotency-Key": "two"})
    assert outcomes(await bulk_delete(server, session_ids=[session_id])) == {session_id: "deleted"}
    assert await server.runtime.database.readers.query("SELECT * FROM idempotency_keys", ()) == []
    again = await server.client.post("/sessions/", json=body, headers={"Idempotency-Key": "one"})
    assert again.status_code == 201


@pytest.mark.parametrize("verb", ["single", "bulk"])
async def test_inputs_that_wait_in_the_session_s_queue_go_with_it(server: LiveServer, verb: str) -> None:
    session_id = await server.session("workflows/slow.yaml")
    await server.run(session_id, "first", mode="background")
    for _ in range(3):
        waiting = {"message": "next", "mode": "background", "multitask": "enqueue"}
        assert (await server.client.post(f"/sessions/{session_id}/runs", json=waiting)).status_code == 202
    if verb == "bulk":
        assert outcomes(await bulk_delete(server, session_ids=[session_id])) == {session_id: "deleted"}
    else:
        assert (await server.client.delete(f"/sessions/{session_id}")).status_code == 200
    await assert_nothing_left(server, session_id)
    assert server.runtime.supervisor.running == 0


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"session_ids": []}, "too_short"),
        ({"session_ids": [f"s{number}" for number in range(501)]}, "too_long"),
        ({"session_ids": ["x" * 201]}, "too_long"),
        ({"session_ids": [7]}, "wrong_type"),
        ({"filter": {"search": ""}}, "too_short"),
        ({"filter": {"state": "error"}}, "unknown_field"),
        ({"filter": {"status": "gone"}}, "invalid_choice"),
        ({"filter": {"start_time": "yesterday"}}, "invalid_format"),
        ({"filter": {"status": "error"}, "limit": 0}, "out_of_range"),
    ],
)
async def test_a_malformed_request_deletes_nothing(server: LiveServer, body: dict[str, Any], code: str) -> None:
    session_id = await server.session()
    answer = await server.client.post("/sessions/bulk-delete", json=body)
    assert answer.status_code == 422
    assert code in {each["code"] for each in answer.json()["errors"]}, answer.text
    assert (await server.client.get(f"/sessions/{session_id}")).status_code == 200


async def test_a_request_that_says_twice_or_not_at_all_which_is_refused(server: LiveServer) -> None:
    session_id = await server.session()
    for body in (
        {},
        {"dry_run": True},
        {"session_ids": [session_id], "filter": {"status": "active"}},
        {"filter": {}},
        {"filter": {"status": None}},
        {"filter": {"workflow_id": "test", "agent_type": "b"}},
    ):
        answer = await server.client.post("/sessions/bulk-delete", json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, "deletion_unclear"), body
    assert (await server.client.get(f"/sessions/{session_id}")).status_code == 200


async def test_a_range_that_ends_before_it_starts_is_refused(server: LiveServer) -> None:
    chosen = {"start_time": "2026-01-02T00:00:00Z", "end_time": "2026-01-01T00:00:00Z"}
    answer = await server.client.post("/sessions/bulk-delete", json={"filter": chosen})
    assert (answer.status_code, answer.json()["code"]) == (422, "time_range_reversed")


async def test_ids_that_are_paths_are_unknown_sessions(server: LiveServer) -> None:
    strange = ["../../etc", "a/b", "a\u0000b", "..", "."]
    assert set(outcomes(await bulk_delete(server, session_ids=strange)).values()) == {"not_found"}


async def test_who_waits_for_a_queued_run_learns_that_its_session_is_gone(server: LiveServer) -> None:
    session_id = await server.session("workflows/slow.yaml")
    await server.run(session_id, "first", mode="background")
    body = {"message": "next", "mode": "wait", "multitask": "enqueue"}
    waiting = asyncio.create_task(server.client.post(f"/sessions/{session_id}/runs", json=body))
    async with asyncio.timeout(10):
        while not await server.runtime.database.readers.query("SELECT 1 FROM run_inbox", ()):
            await asyncio.sleep(0.02)
        await bulk_delete(server, session_ids=[session_id])
        assert (await waiting).status_code == 404
