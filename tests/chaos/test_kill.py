"""SIGKILL at any moment: after a restart every run goes on by itself, and nothing is lost or there twice.

CHAOS_ROUNDS=100 uv run pytest tests/chaos/test_kill.py -s    # longer; prints its figures
"""

import asyncio
import os
import random
from pathlib import Path

import pytest

from chaos.consistency import check_ledger, check_session
from chaos.figures import Figures
from chaos.planned_model import PlannedModel
from chaos.workflows import KINDS, run_input
from chaos.world import ChaosServer, until_status

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "3"))
SEED = int(os.environ.get("CHAOS_SEED", str(random.randrange(10**6))))
RUNS = 20


@pytest.mark.timeout(60 + 30 * ROUNDS)
async def test_runs_survive_a_kill_at_any_moment(tmp_path: Path, model: PlannedModel) -> None:
    model.delay, model.token_delay = 0.2, 0.03
    chance = random.Random(SEED)
    print(f"\nCHAOS_SEED={SEED}")
    figures = Figures(SEED)
    async with ChaosServer(tmp_path, model.url) as server:
        for _ in range(ROUNDS):
            await _round(server, chance, figures)
        check_ledger(server.ledger())
    print(figures, dict(server.answered))
    assert figures.kills >= ROUNDS


async def _round(server: ChaosServer, chance: random.Random, figures: Figures) -> None:
    kinds = [KINDS[number % len(KINDS)] for number in range(RUNS)]
    sessions = [await server.create_session(kind) for kind in kinds]
    starts = [
        asyncio.create_task(server.start_surely(session_id, run_input(kind)))
        for session_id, kind in zip(sessions, kinds, strict=True)
    ]
    for longest in (2.0, *([1.0] if chance.random() < 0.4 else [])):
        await asyncio.sleep(chance.uniform(0, longest))  # the moment of the kill: any
        await figures.crash(server)
    runs = await asyncio.gather(*starts)
    assert len(set(runs)) == RUNS
    await until_status(server, sessions, operator=server)
    for session_id in sessions:
        figures.records += len(await check_session(server, session_id))
        listed = (await server.get(f"/sessions/{session_id}/runs"))["runs"]
        assert [run["run_id"] for run in listed] == [runs[sessions.index(session_id)]], "a repeated start is one run"
    figures.sessions += RUNS
