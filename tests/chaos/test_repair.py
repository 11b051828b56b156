"""What a crash, or a disk, may leave half done is put right at the next start."""

import asyncio
from pathlib import Path

import pytest

from chaos.consistency import check_session
from chaos.planned_model import PlannedModel, plan
from chaos.world import ChaosServer
from servers.server_process import eventually

pytestmark = pytest.mark.timeout(60)


async def test_damaged_files_are_repaired_from_the_records_at_the_start(tmp_path: Path, model: PlannedModel) -> None:
    async with ChaosServer(tmp_path, model.url) as server:
        sessions = [await server.create_session("talk") for _ in range(5)]
        await asyncio.gather(*(server.start_run(name, plan("some words"), mode="wait") for name in sessions))
        for session_id in sessions:
            await check_session(server, session_id)
        await server.kill()
        torn, short, garbage, gone, whole = (next(server.data.glob(f"history/*/{name}.jsonl")) for name in sessions)
        torn.write_bytes(torn.read_bytes()[:-17])
        short.write_bytes(b"")
        garbage.write_bytes(garbage.read_bytes() + b'{"seq":99,"half a li')
        gone.unlink()
        before = whole.read_bytes()
        await server.start()
        for session_id in sessions:
            await check_session(server, session_id)
        assert whole.read_bytes() == before
        await asyncio.gather(*(server.start_run(name, plan("more words"), mode="wait") for name in sessions))
        for session_id in sessions:  # the logs go on where they were
            await check_session(server, session_id)


async def test_a_deletion_cut_by_a_crash_is_finished_at_the_start(tmp_path: Path, model: PlannedModel) -> None:
    async with ChaosServer(tmp_path, model.url) as server:
        sessions = [await server.create_session("talk") for _ in range(6)]
        for number in range(3):
            runs = [server.start_run(session_id, plan(f"words {number}"), mode="wait") for session_id in sessions]
            await asyncio.gather(*runs)
        kept, deleted = sessions[0], sessions[1:]
        requests = [asyncio.create_task(server.client.delete(f"/sessions/{name}")) for name in deleted]

        async def marked() -> bool:
            return bool(server.query("SELECT 1 FROM sessions WHERE deleted_at IS NOT NULL")) or requests[0].done()

        await eventually("a deletion has begun", marked, every=0.0)
        await server.kill()
        await asyncio.gather(*requests, return_exceptions=True)
        begun = [row[0] for row in server.query("SELECT session_id FROM sessions WHERE deleted_at IS NOT NULL")]
        left = {row[0] for row in server.query("SELECT session_id FROM sessions WHERE deleted_at IS NULL")}
        await server.start()

        async def finished() -> bool:
            return not server.query("SELECT 1 FROM sessions WHERE deleted_at IS NOT NULL")

        await eventually("the deletions are finished", finished)
        for session_id in [name for name in deleted if name not in left]:
            assert (await server.client.get(f"/sessions/{session_id}")).status_code == 404
            assert not list(server.data.rglob(f"*{session_id}*"))
        assert server.query("SELECT count(*) FROM records WHERE session_n NOT IN (SELECT n FROM sessions)") == [(0,)]
        assert kept in left
        assert not set(begun) & left
        for session_id in left:  # whole, or gone
            await check_session(server, session_id)
