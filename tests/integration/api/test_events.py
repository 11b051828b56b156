"""`/sessions/{id}/events`: every event once and in order, from any place on, also across a restart."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from servers.live_server import Event, LiveServer

ECHO = """
models: {main: {provider: scripted, script: scripts/test.yaml}}
nodes: {answer: {type: llm, model: main}}
edges: [{from: START, to: answer}, {from: answer, to: END}]
"""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[LiveServer]:
    server = LiveServer(tmp_path)
    slow = {"when": {"last_user": "slow"}, "reply": "one two three four five", "token_delay": "60ms"}
    server.workflow(ECHO, turns=[slow], otherwise={"reply": "You said: {{ input }}"})
    async with server:
        yield server


def stored(events: list[Event]) -> list[dict[str, Any]]:
    return [event.data["data"] for event in events if event.id is not None]


async def test_from_the_first_event_on_everything_comes_once_and_in_order(server: LiveServer) -> None:
    session_id = await server.session()
    await server.run(session_id, "one")
    records = await server.records(session_id)
    for query in ("?after_seq=0", "?after_seq=3"):
        async with server.events(f"/sessions/{session_id}/events{query}") as events:
            skipped = int(query.rpartition("=")[2])
            seen = await events.take(len(records) - skipped)
            assert stored(seen) == records[skipped:]
            for event, record in zip(seen, records[skipped:], strict=True):
                assert event.data["seq"] == record["seq"]
                assert event.id is not None
                assert int(event.id.partition(".")[0]) == record["seq"]
                assert event.data["type"] == event.type
                assert event.data["session_id"] == session_id
                assert event.data["timestamp"] == record["timestamp"]
            await server.run(session_id, "two")  # and what happens now follows without a gap
            after = await server.records(session_id)
            later = [event for event in await events.until("session_update", status="completed") if event.id]
            assert stored(later) == after[len(records) :]
        records = after


async def test_without_a_place_only_what_happens_from_now_on_comes(server: LiveServer) -> None:
    session_id = await server.session()
    await server.run(session_id, "one")
    before = len(await server.records(session_id))
    async with server.events(f"/sessions/{session_id}/events") as events:
        await server.run(session_id, "two")
        seen = await events.until("session_update", status="completed")
    assert stored(seen) == (await server.records(session_id))[before:]


async def test_the_last_event_id_goes_before_the_query(server: LiveServer) -> None:
    session_id = await server.session()
    await server.run(session_id, "one")
    records = await server.records(session_id)
    headers = {"Last-Event-ID": "4"}
    async with server.events(f"/sessions/{session_id}/events?after_seq=0", headers=headers) as events:
        assert stored(await events.take(len(records) - 4)) == records[4:]


async def test_a_place_in_the_future_is_told_as_a_reset(server: LiveServer) -> None:
    session_id = await server.session()
    await server.run(session_id, "one")
    async with server.events(f"/sessions/{session_id}/events?after_seq=100000") as events:
        [event] = await events.take(5)
    assert event.type == "log_reset"
    assert event.data["data"]["last_seq"] == len(await server.records(session_id))


async def test_a_place_that_is_none_is_malformed(server: LiveServer) -> None:
    url = f"/sessions/{await server.session()}/events"
    for query in ("?after_seq=-1", "?after_seq=x", "?after_seq=99999999999999999999"):
        answer = await server.client.get(url + query)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    for text in ("x", "-1", "1.2.3", "١"):
        answer = await server.client.get(url, headers={"Last-Event-ID": text.encode()})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_cursor"), text


async def test_the_headers_keep_proxies_from_holding_events_back(server: LiveServer) -> None:
    async with server.events(f"/sessions/{await server.session()}/events") as events:
        headers = events.response.headers
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["x-accel-buffering"] == "no"
    assert "no-store" in headers["cache-control"]
    assert "content-length" not in headers
    assert "content-encoding" not in headers
    names = [name for name, _ in headers.multi_items()]
    assert len(names) == len(set(names)), "no header twice"


async def test_deltas_come_before_the_message_and_make_it_up(server: LiveServer) -> None:
    session_id = await server.session()
    async with server.events(f"/sessions/{session_id}/events?after_seq=0") as events:
        await server.run(session_id, "slow", mode="background")
        seen = await events.until("session_update", status="completed")
    deltas = [event.data["data"] for event in seen if event.type == "message_delta"]
    assert len(deltas) >= 2
    [message] = [r for r in await server.records(session_id, "message") if r["message_type"] == "assistant"]
    assert "".join(delta["text"] for delta in deltas) == message["content"]
    assert {delta["message_id"] for delta in deltas} == {message["record_id"]}
    types = [event.type for event in seen]
    end_of_deltas = len(types) - types[::-1].index("message_delta")
    assert end_of_deltas <= next(
        n
        for n, event in enumerate(seen)
        if event.type == "message" and event.data["data"]["message_type"] == "assistant"
    )
    assert set(types) <= {"session_update", "workflow_state", "message", "message_delta", "llm_call", "log"}


async def test_who_comes_in_the_middle_of_a_message_gets_what_was_missed_as_one(server: LiveServer) -> None:
    session_id = await server.session()
    async with server.events(f"/sessions/{session_id}/events?after_seq=0") as first:
        await server.run(session_id, "slow", mode="background")
        before = await first.until("message_delta")
        before += await first.until("message_delta")
    last = max(int(event.id.partition(".")[0]) for event in before if event.id)
    async with server.events(f"/sessions/{session_id}/events", headers={"Last-Event-ID": str(last)}) as second:
        after = await second.until("session_update", status="completed")
    text = "".join(event.data["data"]["text"] for event in after if event.type == "message_delta")
    assert text == "one two three four five"
    assert stored([*before, *after]) == await server.records(session_id)


async def test_a_cut_client_sees_everything_once_also_across_a_restart(server: LiveServer, tmp_path: Path) -> None:
    session_id = await server.session()
    seen: list[Event] = []
    for n in range(3):
        await server.run(session_id, f"number {n}")
        headers = {"Last-Event-ID": seen[-1].id} if seen and seen[-1].id else {}
        query = "" if headers else "?after_seq=0"
        async with server.events(f"/sessions/{session_id}/events{query}", headers=headers) as events:
            seen += await events.take(5)
    await server.__aexit__()
    async with LiveServer(tmp_path) as later:
        total = len(await later.records(session_id))
        assert seen[-1].id
        headers = {"Last-Event-ID": seen[-1].id}
        async with later.events(f"/sessions/{session_id}/events", headers=headers) as events:
            seen += await events.take(total - len(seen))
        assert stored(seen) == await later.records(session_id)
    await server.__aenter__()


async def test_a_slow_reader_loses_nothing_and_slows_nobody(server: LiveServer) -> None:
    session_id = await server.session()
    async with server.events(f"/sessions/{session_id}/events?after_seq=0") as slow:
        for n in range(60):  # more than the server keeps at hand for one session
            await server.run(session_id, f"{n} " + "text " * 2000)
        records = await server.records(session_id)
        assert len(records) > 512
        seen: list[Event] = []
        async with asyncio.timeout(20):
            async for event in slow:
                if event.id is not None:
                    seen.append(event)
                if len(seen) == len(records):
                    break
    assert stored(seen) == records


async def test_the_end_of_the_server_ends_the_stream(server: LiveServer) -> None:
    session_id = await server.session()
    async with server.events(f"/sessions/{session_id}/events") as events:
        reading = asyncio.create_task(events.take(10))
        await asyncio.sleep(0.1)
        async with asyncio.timeout(5):
            await server.__aexit__()
            await asyncio.gather(reading, return_exceptions=True)
    await server.__aenter__()
