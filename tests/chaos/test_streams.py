"""Clients that are cut off and come back see every event once, in order; also when it was the server that went away."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from chaos.consistency import check_session
from chaos.followers import Follower, SseFollower, WebSocketFollower
from chaos.planned_model import PlannedModel, plan
from chaos.world import ChaosServer, until_status
from servers.server_process import eventually

pytestmark = pytest.mark.timeout(60)

STORY = "It was a dark and stormy night and the rain fell in torrents except at occasional intervals."


def check_follower(follower: Follower, records: list[dict[str, Any]]) -> None:
    """Everything came once, in order; the deltas of each message are the beginning of its text."""
    assert [record["seq"] for record in follower.records] == list(range(1, len(records) + 1))
    assert follower.records == records
    contents = {record["record_id"]: record["content"] for record in records if record["record_type"] == "message"}
    for message_id, text in follower.texts.items():
        if message_id in contents:  # a crash loses the text that was being written: it is written anew
            assert contents[message_id].startswith(text)


async def follow(stack: AsyncExitStack, server: ChaosServer, session_id: str, **options: Any) -> list[Follower]:
    followers = [SseFollower(server, session_id, **options), WebSocketFollower(server, session_id, **options)]
    return [await stack.enter_async_context(follower) for follower in followers]


async def finish(server: ChaosServer, session_id: str, followers: list[Follower]) -> None:
    await until_status(server, [session_id])
    records = await check_session(server, session_id)
    for follower in followers:
        await follower.reached(len(records))
        check_follower(follower, records)


async def test_clients_that_cut_the_connection_miss_nothing(tmp_path: Path, model: PlannedModel) -> None:
    async with ChaosServer(tmp_path, model.url) as server, AsyncExitStack() as stack:
        session_id = await server.create_session("react")
        followers = await follow(stack, server, session_id, cut_after=7)
        for number in range(3):
            await server.start_run(session_id, plan([f"note:{number}", "look:b"], STORY))
            await until_status(server, [session_id])
        await finish(server, session_id, followers)
        assert all(follower.connections > 5 for follower in followers)
        assert all(follower.texts for follower in followers)


async def test_clients_miss_nothing_when_the_server_is_killed(tmp_path: Path, model: PlannedModel) -> None:
    async with ChaosServer(tmp_path, model.url) as server, AsyncExitStack() as stack:
        session_id = await server.create_session("react")
        followers = await follow(stack, server, session_id)
        await server.start_run(session_id, plan(["note:a", "look:b"], ["note:c"], ["look:d"], STORY))
        for seq in (5, 25):
            await followers[0].reached(seq)
            await server.restart()
        await finish(server, session_id, followers)
        assert all(follower.connections >= 3 for follower in followers)


async def test_clients_miss_nothing_when_the_server_restarts_in_order(tmp_path: Path, model: PlannedModel) -> None:
    async with ChaosServer(tmp_path, model.url) as server, AsyncExitStack() as stack:
        session_id = await server.create_session("react")
        followers = await follow(stack, server, session_id)
        await server.start_run(session_id, plan(["note:a", "look:b"], ["note:c"], ["look:d"], STORY))
        await followers[0].reached(5)
        await server.terminate()
        await server.start()
        await finish(server, session_id, followers)
        assert all(follower.connections >= 2 for follower in followers)


@pytest.mark.parametrize("kind", [SseFollower, WebSocketFollower])
async def test_who_joins_in_the_middle_of_a_message_gets_what_was_missed_as_one_delta(
    tmp_path: Path, model: PlannedModel, kind: type[Follower]
) -> None:
    model.gate.clear()  # the text stops after its second word
    async with ChaosServer(tmp_path, model.url) as server:
        session_id = await server.create_session("talk")
        async with kind(server, session_id) as early:
            await server.start_run(session_id, plan(STORY))

            async def begun() -> bool:
                return "It was " in early.texts.values()

            await eventually("two words", begun)
            async with kind(server, session_id) as late:

                async def joined() -> bool:
                    return bool(late.first_deltas)

                await eventually("the missed text", joined)
                assert late.first_deltas[0]["text"] == "It was "
                model.gate.set()
                await finish(server, session_id, [early, late])
