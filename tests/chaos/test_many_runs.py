"""Two hundred runs at once in one process."""

import asyncio
from pathlib import Path

import pytest

from chaos.consistency import check_session
from chaos.planned_model import PlannedModel, plan
from chaos.world import ChaosServer, until_status

RUNS = 200
MIB = 1024 * 1024


@pytest.mark.timeout(120)
async def test_two_hundred_runs_at_once_all_complete_in_bounded_memory(tmp_path: Path, model: PlannedModel) -> None:
    async with ChaosServer(tmp_path, model.url, MAX_PARALLEL_RUNS=str(RUNS)) as server:
        first = await server.create_session("react")
        await server.start_run(first, plan(["look:a"], "warm"), mode="wait")
        sizes = [server.resident_bytes()]
        for _ in range(2):
            sessions = [await server.create_session("react") for _ in range(RUNS)]
            steps = plan(["look:a", "look:b"], "All of this was done.")
            await asyncio.gather(*(server.start_run(session_id, steps) for session_id in sessions))
            await until_status(server, sessions, within=60)
            sizes.append(server.resident_bytes())
            for session_id in sessions:
                assert len(await check_session(server, session_id)) > 10
        print(f"resident: {[size // MIB for size in sizes]} MiB before, after {RUNS} and after {2 * RUNS} runs")
        assert sizes[1] - sizes[0] < 150 * MIB
        assert sizes[2] - sizes[1] < 40 * MIB, "the second round takes hardly any memory more"
        said = server.log_text()
        assert "database is locked" not in said
        assert not [line for line in server.log_events() if line["level"] in {"error", "critical"}]
        assert server.query("SELECT count(*) FROM errors") == [(0,)]
