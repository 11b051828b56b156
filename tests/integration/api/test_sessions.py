"""`/sessions/` against the whole product on a real socket."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from modular_agent.api.schemas.sessions import SessionAnswer, SessionList
from servers.live_server import LiveServer

ECHO = """
models: {main: {provider: scripted, script: scripts/test.yaml}}
state:
  schema: {type: object, properties: {score: {type: number}}}
nodes: {answer: {type: llm, model: main}}
edges: [{from: START, to: answer}, {from: answer, to: END}]
"""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[LiveServer]:
    server = LiveServer(tmp_path)
    server.workflow(ECHO, otherwise={"reply": "You said: {{ input }}"})
    server.workflow(ECHO.replace("scripts/test", "scripts/slow"), name="slow")
    server.configure({"scripts/slow.yaml": "otherwise: {hang: true}\n"})
    async with server:
        yield server


async def test_a_new_session_says_everything_about_itself(server: LiveServer) -> None:
    answer = await server.client.post(
        "/sessions/",
        json={
            "workflow_config_path": "workflows/test.yaml",
            "agent_config": {"temperature": 0.1, "limits": {"max_tokens": 1000}},
            "initial_state": {"score": 0.5},
            "metadata": {"user": "ada", "名": "值"},
            "title": "Sums",
            "tags": ["demo"],
        },
    )
    assert answer.status_code == 201
    session = answer.json()
    SessionAnswer.model_validate(session)
    assert re.fullmatch(r"test-\d{6}-\d{6}-[0-9a-f]{6}", session["session_id"])
    assert session["status"] == "active"
    assert session["workflow_config_path"] == "workflows/test.yaml"
    assert session["workflow_id"] == "test"
    assert re.fullmatch(r"[0-9a-f]{64}", session["workflow_version"])
    assert session["agent_config"] == {"temperature": 0.1, "limits": {"max_tokens": 1000}}
    assert session["metadata"] == {"user": "ada", "名": "值"}
    assert (session["title"], session["tags"]) == ("Sums", ["demo"])
    assert session["current_run_id"] is None
    assert session["last_seq"] == 0
    assert session["usage"]["total_tokens"] == 0
    assert session["created_at"] == session["updated_at"]
    assert session["created_at"].endswith("Z")
    assert await server.get(f"/sessions/{session['session_id']}") == session


async def test_the_path_may_begin_with_the_name_of_the_configs_root(server: LiveServer) -> None:
    assert await server.session("configs/workflows/test.yaml")


async def test_a_loaded_workflow_is_found_by_its_name(server: LiveServer) -> None:
    await server.session()
    answer = await server.post("/sessions/", {"workflow_id": "test"})
    assert answer["workflow_id"] == "test"


BROKEN = """
schema: modular-agent/v1
name: broken
models: {main: {provider: scripted, script: scripts/test.yaml}}
nodes:
  a: {type: llm, model: mian}
  b: {typ: llm}
edges: [{from: START, to: a}, {from: a, to: nowhere}]
"""

BAD_BODIES: list[tuple[str, dict[str, Any], int, str]] = [
    ("neither", {}, 400, "workflow_missing"),
    ("both", {"workflow_config_path": "workflows/test.yaml", "workflow_id": "test"}, 400, "workflow_missing"),
    ("above the root", {"workflow_config_path": "../secret.yaml"}, 400, "path_outside_root"),
    ("below and out", {"workflow_config_path": "workflows/../../secret.yaml"}, 400, "path_outside_root"),
    ("absolute", {"workflow_config_path": "/etc/passwd"}, 400, "path_outside_root"),
    ("a link out", {"workflow_config_path": "workflows/link.yaml"}, 400, "path_outside_root"),
    ("missing file", {"workflow_config_path": "workflows/none.yaml"}, 400, "file_not_found"),
    ("NUL", {"workflow_config_path": "workflows/\0.yaml"}, 400, ""),
    ("a folder", {"workflow_config_path": "workflows"}, 400, ""),
    ("empty", {"workflow_config_path": ""}, 400, ""),
    ("broken", {"workflow_config_path": "workflows/broken.yaml"}, 400, "workflow_invalid"),
    ("not YAML", {"workflow_config_path": "workflows/bad.yaml"}, 400, "workflow_invalid"),
    ("unknown workflow", {"workflow_id": "none"}, 404, "workflow_not_found"),
    ("unknown key", {"workflow_id": "test", "sesion": 1}, 422, "invalid_request"),
    ("wrong type", {"workflow_id": 7}, 422, "invalid_request"),
    ("agent_config key", {"workflow_id": "test", "agent_config": {"temprature": 1}}, 400, "agent_config_invalid"),
    (
        "agent_config value",
        {"workflow_id": "test", "agent_config": {"temperature": "hot"}},
        400,
        "agent_config_invalid",
    ),
    ("agent_config model", {"workflow_id": "test", "agent_config": {"model": 7}}, 400, "agent_config_invalid"),
    ("limits shape", {"workflow_id": "test", "agent_config": {"limits": 5}}, 400, "agent_config_invalid"),
    ("limits key", {"workflow_id": "test", "agent_config": {"limits": {"max_tokns": 5}}}, 400, "limits_invalid"),
    ("limits value", {"workflow_id": "test", "agent_config": {"limits": {"max_tokens": -1}}}, 400, "limits_invalid"),
    ("state type", {"workflow_id": "test", "initial_state": {"score": "high"}}, 400, "state_invalid"),
    ("state messages", {"workflow_id": "test", "initial_state": {"messages": [{"rol": "user"}]}}, 400, "state_invalid"),
    ("state messages", {"workflow_id": "test", "initial_state": {"messages": 7}}, 400, "state_invalid"),
    ("tags", {"workflow_id": "test", "tags": [""]}, 422, "invalid_request"),
]


async def test_a_session_that_cannot_be_made_says_why_and_leaves_nothing(server: LiveServer, tmp_path: Path) -> None:
    server.configure({"workflows/broken.yaml": BROKEN.lstrip(), "workflows/bad.yaml": "nodes: [1, {\n"})
    (tmp_path / "secret.yaml").write_text("secret: hunter2\n")
    (server.configs / "workflows" / "link.yaml").symlink_to(tmp_path / "secret.yaml")
    for name, body, status, code in BAD_BODIES:
        answer = await server.client.post("/sessions/", json=body)
        assert answer.status_code == status, (name, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem["code"] == (code or problem["code"]), name
        assert problem["request_id"] == answer.headers["x-request-id"]
        assert str(tmp_path) not in answer.text
        assert "hunter2" not in answer.text
        assert (await server.get("/sessions/"))["total"] == 0, name
    assert not list(tmp_path.glob("data/history/*/*"))


async def test_a_broken_workflow_tells_every_fault_with_its_place(server: LiveServer) -> None:
    server.configure({"workflows/broken.yaml": BROKEN.lstrip()})
    answer = await server.client.post("/sessions/", json={"workflow_config_path": "workflows/broken.yaml"})
    faults = answer.json()["errors"]
    assert len(faults) >= 3
    for fault in faults:
        assert fault["file"] == "workflows/broken.yaml"
        assert fault["line"] >= 4
        assert fault["column"] >= 1
        assert fault["path"]
    assert any(fault.get("suggestion") == "main" for fault in faults)


STRANGE_IDS = [
    "..",
    "%2e%2e",
    "a%2fb",
    "..%2f..%2fetc%2fpasswd",
    "%00",
    "a%00b",
    "x" * 300,
    "%F0%9F%98%80",
    "%ff",
    "%20",
]


async def test_a_strange_id_is_not_found(server: LiveServer) -> None:
    for session_id in STRANGE_IDS:
        for rest in ("", "/history", "/state", "/runs", "/interrupts", "/events", "/runs/run_1"):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)  # not tidied by a client
            request = f"GET /sessions/{session_id}{rest} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            writer.write(request.encode())
            answer = await reader.read()
            writer.close()
            assert int(answer.split()[1]) in (404, 422), (session_id, rest, answer)
            assert b"application/problem+json" in answer


async def test_an_unknown_session_is_404_on_every_route(server: LiveServer) -> None:
    gone = "/sessions/test-251022-174800-1f73e8"
    calls = [
        ("GET", "", None), ("PUT", "", {}), ("DELETE", "", None), ("GET", "/history", None), ("GET", "/state", None),
        ("GET", "/runs", None), ("POST", "/runs", {"message": "x"}), ("GET", "/runs/run_1", None),
        ("POST", "/pause", None),
        ("POST", "/resume", None), ("POST", "/stop", None), ("POST", "/step", None), ("POST", "/retry", None),
        ("GET", "/interrupts", None), ("POST", "/interrupts/int_1", {"answer": 1}), ("GET", "/events", None),
    ]  # fmt: skip
    for method, rest, body in calls:
        answer = await server.client.request(method, gone + rest, json=body)
        assert (answer.status_code, answer.json()["code"]) == (404, "session_not_found"), (method, rest)


# -- lists -----------------------------------------------------------------------------------------------------


async def _fill(server: LiveServer, count: int = 7) -> list[str]:
    ids = [await server.session(title=f"Title {n}", metadata={"n": n, "单": f"订单 {n}%_"}) for n in range(count)]
    for n in (1, 3, 3) if count > 3 else ():
        await server.run(ids[n], "hello " * (n + 1))
    return ids


async def test_pages_hold_everything_once_in_every_order(server: LiveServer) -> None:
    ids = await _fill(server)
    for key in ("created_at", "updated_at", "status", "session_id", "cost", "tokens"):
        whole: dict[str, list[str]] = {}
        for order in ("asc", "desc"):
            by_page: list[str] = []
            for page in (1, 2, 3, 4):
                answer = await server.get("/sessions/", page=page, page_size=3, sort_by=key, sort_order=order)
                SessionList.model_validate(answer)
                assert (answer["total"], answer["page"], answer["page_size"]) == (7, page, 3)
                assert answer["has_next"] is (page < 3)
                by_page += [session["session_id"] for session in answer["sessions"]]
            by_cursor: list[str] = []
            cursor: dict[str, str] = {}
            for _ in range(3):
                answer = await server.get("/sessions/", page_size=3, sort_by=key, sort_order=order, **cursor)
                by_cursor += [session["session_id"] for session in answer["sessions"]]
                cursor = {"cursor": answer["cursor"]}
            assert answer["cursor"] is None
            assert sorted(by_page) == sorted(ids)
            assert by_cursor == by_page
            whole[order] = by_page
        assert whole["asc"] == whole["desc"][::-1], key
    by_tokens = await server.get("/sessions/", sort_by="tokens")
    assert [session["session_id"] for session in by_tokens["sessions"][:2]] == [ids[3], ids[1]]


async def test_filters_apply_to_items_and_total(server: LiveServer) -> None:
    ids = await _fill(server)

    async def found(**params: Any) -> set[int]:
        answer = await server.get("/sessions/", **params)
        assert answer["total"] == len(answer["sessions"])
        return {ids.index(session["session_id"]) for session in answer["sessions"]}

    assert await found(status="completed") == {1, 3}
    assert await found(status="active") == {0, 2, 4, 5, 6}
    assert await found(status="stopped") == set()
    assert await found(search=ids[2]) == {2}
    assert await found(search="TITLE 4") == {4}
    assert await found(search="订单 5") == {5}
    assert await found(search="订单 5%_") == {5}  # no wildcards
    assert await found(search="5%") == {5}
    assert await found(search="%") == set(range(7))
    assert await found(search="_%") == set()
    assert await found(search="\\") == set()
    assert await found(search="none such") == set()
    assert await found(search="test") == set(range(7))
    assert await found(search="") == set(range(7))


async def test_a_malformed_list_names_the_place(server: LiveServer) -> None:
    bad = [
        {"page": 0}, {"page": "x"}, {"page_size": 0}, {"page_size": 101}, {"status": "done"}, {"sort_by": "title"},
        {"sort_order": "up"}, {"search": "x" * 201},
    ]  # fmt: skip
    for params in bad:
        answer = await server.client.get("/sessions/", params=params)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
        assert [fault["path"] for fault in answer.json()["errors"]] == [f"/query/{next(iter(params))}"]
    for params in ({"page": 1_000_000}, {"page_size": 100}, {"search": "x" * 200}):
        await server.get("/sessions/", **params)


async def test_a_cursor_of_another_order_or_none_at_all_is_refused(server: LiveServer) -> None:
    await _fill(server, 2)
    cursor = (await server.get("/sessions/", page_size=1))["cursor"]
    import base64

    import orjson

    def made(value: Any) -> str:
        return base64.urlsafe_b64encode(orjson.dumps(value)).decode().rstrip("=")

    bad = [
        "x",
        "é",
        "",
        made({}),
        made(None),
        made(7),
        made(["created_at", True, 1]),
        made(["created_at", True, 1, 2**63]),
    ]
    bad += [
        made(["created_at", True, 2**64 - 1, 1]),
        made(["created_at", True, [1], 1]),
        made(["created_at", True, 1, True]),
    ]
    for params in [*({"cursor": text} for text in bad), {"cursor": cursor, "sort_order": "asc"}]:
        answer = await server.client.get("/sessions/", params=params)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_cursor"), params


# -- changes ---------------------------------------------------------------------------------------------------


async def test_metadata_is_merged_and_touches_nothing_else(server: LiveServer) -> None:
    session_id = await server.session(metadata={"a": 1, "b": {"x": 1}})
    before = await server.get(f"/sessions/{session_id}")
    answer = await server.client.put(
        f"/sessions/{session_id}",
        json={"metadata": {"b": 2, "status": "completed", "session_id": "other", "last_seq": 9, "usage": 1}},
    )
    after = answer.json()
    assert after.pop("metadata") == {
        "a": 1,
        "b": 2,
        "status": "completed",
        "session_id": "other",
        "last_seq": 9,
        "usage": 1,
    }
    assert after.pop("updated_at") >= before.pop("updated_at")
    before.pop("metadata")
    assert after == before


async def test_title_and_tags_are_set_and_taken_away(server: LiveServer) -> None:
    url = f"/sessions/{await server.session(title='Old', tags=['a'])}"
    changed = (await server.client.put(url, json={"title": "New", "tags": ["b", "c"]})).json()
    assert (changed["title"], changed["tags"]) == ("New", ["b", "c"])
    changed = (await server.client.put(url, json={})).json()
    assert (changed["title"], changed["tags"]) == ("New", ["b", "c"])
    changed = (await server.client.put(url, json={"title": "", "tags": []})).json()
    assert (changed["title"], changed["tags"]) == (None, [])


async def test_of_changes_at_the_same_time_none_is_lost(server: LiveServer) -> None:
    session_id = await server.session()
    changes = [server.client.put(f"/sessions/{session_id}", json={"metadata": {f"k{n}": n}}) for n in range(30)]
    assert {answer.status_code for answer in await asyncio.gather(*changes)} == {200}
    assert (await server.get(f"/sessions/{session_id}"))["metadata"] == {f"k{n}": n for n in range(30)}


async def test_other_fields_cannot_be_put(server: LiveServer) -> None:
    url = f"/sessions/{await server.session()}"
    for body in ({"session_id": "x"}, {"last_seq": 3}, {"metadata": [1]}, {"tags": "a"}, {"status": 1}):
        answer = await server.client.put(url, json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


async def test_a_status_that_cannot_be_had_is_a_conflict_and_changes_nothing(server: LiveServer) -> None:
    session_id = await server.session()
    before = await server.get(f"/sessions/{session_id}")
    for status, code in (
        ("completed", "status_not_settable"),
        ("error", "status_not_settable"),
        ("nonsense", "status_not_settable"),
        ("paused", "no_active_run"),
        ("stopped", "no_active_run"),
        ("active", "run_not_paused"),
    ):
        answer = await server.client.put(f"/sessions/{session_id}", json={"status": status, "title": "No"})
        assert (answer.status_code, answer.json()["code"]) == (409, code)
        assert await server.get(f"/sessions/{session_id}") == before


async def test_a_status_stops_the_run(server: LiveServer) -> None:
    session_id = await server.session("workflows/slow.yaml")
    await server.run(session_id, "x", mode="background")
    answer = await server.client.put(f"/sessions/{session_id}", json={"status": "stopped"})
    assert answer.json()["status"] == "stopped"
    assert answer.json()["current_run_id"] is None


# -- deletion --------------------------------------------------------------------------------------------------


async def test_a_deleted_session_is_gone_everywhere(server: LiveServer, tmp_path: Path) -> None:
    session_id = await server.session()
    await server.run(session_id, "hello")
    kept = tmp_path / "data" / "files" / session_id
    kept.mkdir(parents=True)
    (kept / "large.txt").write_text("what a tool gave")
    async with asyncio.timeout(5):
        while not list(tmp_path.glob(f"data/history/*/{session_id}.jsonl")):
            await asyncio.sleep(0.02)
    answer = await server.client.delete(f"/sessions/{session_id}")
    assert answer.status_code == 200
    assert answer.json()["message"]
    assert (await server.client.get(f"/sessions/{session_id}")).status_code == 404
    assert (await server.client.delete(f"/sessions/{session_id}")).status_code == 404
    assert (await server.get("/sessions/"))["total"] == 0
    assert [path for path in (tmp_path / "data").rglob("*") if session_id in path.name] == []
    for table in ("sessions", "runs", "records", "checkpoints", "llm_calls", "log_items"):
        assert await server.runtime.database.readers.query(f"SELECT count(*) FROM {table}", ()) == [(0,)], table


async def test_deleting_stops_the_run_first(server: LiveServer) -> None:
    session_id = await server.session("workflows/slow.yaml")
    run = await server.run(session_id, "x", mode="background")
    async with server.events(f"/sessions/{session_id}/events?after_seq=0") as events:
        assert (await server.client.delete(f"/sessions/{session_id}")).status_code == 200
        seen = await events.take(1000)
    assert seen[-1].type == "session_deleted"
    assert [e.data["data"]["status"] for e in seen if e.type == "session_update" and "status" in e.data["data"]][
        -1
    ] == "stopped"
    assert not server.runtime.supervisor.is_here(run["run_id"])
    assert server.runtime.supervisor.running == 0


async def test_deletions_at_the_same_time_delete_once(server: LiveServer) -> None:
    session_id = await server.session("workflows/slow.yaml")
    await server.run(session_id, "x", mode="background")
    answers = await asyncio.gather(*(server.client.delete(f"/sessions/{session_id}") for _ in range(5)))
    assert {answer.status_code for answer in answers} <= {200, 404}
    assert any(answer.status_code == 200 for answer in answers)
    assert (await server.get("/sessions/"))["total"] == 0


# -- repeated requests -----------------------------------------------------------------------------------------


async def test_a_repeated_request_is_answered_as_the_first_was(server: LiveServer) -> None:
    headers = {"Idempotency-Key": "k1"}
    body = {"workflow_config_path": "workflows/test.yaml", "metadata": {"a": 1}}
    first = await server.client.post("/sessions/", json=body, headers=headers)
    (server.configs / "workflows" / "test.yaml").write_text("broken: [")
    second = await server.client.post("/sessions/", json=body, headers=headers)
    assert (first.status_code, first.json()) == (second.status_code, second.json())
    other = await server.client.post("/sessions/", json={**body, "metadata": {"a": 2}}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")
    assert (await server.get("/sessions/"))["total"] == 1


async def test_twins_at_the_same_time_make_one_session(server: LiveServer) -> None:
    body = {"workflow_config_path": "workflows/test.yaml"}
    twins = [server.client.post("/sessions/", json=body, headers={"Idempotency-Key": "k2"}) for _ in range(10)]
    answers = await asyncio.gather(*twins)
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["session_id"] for answer in answers}) == 1
    assert (await server.get("/sessions/"))["total"] == 1


async def test_a_key_is_not_used_up_by_a_request_that_failed(server: LiveServer) -> None:
    headers = {"Idempotency-Key": "k3"}
    body = {"workflow_config_path": "workflows/later.yaml"}
    assert (await server.client.post("/sessions/", json=body, headers=headers)).status_code == 400
    server.workflow(ECHO, name="later")
    assert (await server.client.post("/sessions/", json=body, headers=headers)).status_code == 201


async def test_sessions_made_in_the_same_second_have_ids_of_their_own(server: LiveServer) -> None:
    made = await asyncio.gather(*(server.session() for _ in range(50)))
    assert len(set(made)) == 50


# -- looking ---------------------------------------------------------------------------------------------------


async def test_history_is_the_newest_records_oldest_first(server: LiveServer) -> None:
    session_id = await server.session()
    assert await server.get(f"/sessions/{session_id}/history") == {"history": []}
    await server.run(session_id, "one")
    records = await server.records(session_id)
    assert (await server.get(f"/sessions/{session_id}/history"))["history"] == records
    assert (await server.get(f"/sessions/{session_id}/history", limit=2))["history"] == records[-2:]
    for limit in (0, 501):
        assert (await server.client.get(f"/sessions/{session_id}/history", params={"limit": limit})).status_code == 422


async def test_the_state_is_the_conversation_and_what_the_workflow_keeps(server: LiveServer) -> None:
    session_id = await server.session(initial_state={"score": 0.5})
    state = await server.get(f"/sessions/{session_id}/state")
    assert state["messages"] == []
    await server.run(session_id, "one")
    state = await server.get(f"/sessions/{session_id}/state")
    said = [(message["role"], message["content"]) for message in state["messages"]]
    assert said == [("user", "one"), ("assistant", "You said: one")]
    assert state["score"] == 0.5
    assert state["workflow_name"] == "test"
    assert state["iteration_count"] == 1
    assert state["tool_results"] == []
    assert state["errors"] == []
    assert state["start_time"].endswith("Z")
    answer = await server.client.get(f"/sessions/{session_id}/state", params={"checkpoint_id": "none"})
    assert answer.status_code == 404
