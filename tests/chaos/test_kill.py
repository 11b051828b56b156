"""SIGKILL at any moment: after a restart every run goes on by itself, and nothing is lost or there twice.

CHAOS_ROUNDS=100 uv run pytest tests/chaos/test_kill.py -s    # longer; prints its figures
"""

import asyncio
import os
import random
import time
from pathlib import Path

import pytest

from chaos.consistency import check_ledger, check_session
from chaos.planned_model import PlannedModel
from chaos.workflows import KINDS, run_input
from chaos.world import ChaosServer, until_status
from servers.server_process import eventually

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "5"))
SEED = int(os.environ.get("CHAOS_SEED", str(random.randrange(10**6))))
RUNS = 20


class Figures:
    """What happened in all rounds."""

    def __init__(self) -> None:
        self.kills = 0
        self.sessions = 0
        self.records = 0
        self.resumed = 0
        self.seconds_to_answer: list[float] = []
        self.seconds_to_resume: list[float] = []

    def __str__(self) -> str:
        answer, resume = sorted(self.seconds_to_answer), sorted(self.seconds_to_resume)
        return (
            f"seed {SEED}: {self.kills} kills survived, {self.sessions} sessions and {self.records} records checked, "
            f"{self.resumed} runs taken up; from the start of the process until it answers: median "
            f"{answer[len(answer) // 2]:.2f} s, at most {answer[-1]:.2f} s; until the runs go on: median "
            f"{resume[len(resume) // 2]:.2f} s, at most {resume[-1]:.2f} s"
        )


@pytest.mark.timeout(60 + 30 * ROUNDS)
async def test_runs_survive_a_kill_at_any_moment(tmp_path: Path, model: PlannedModel) -> None:
    model.delay, model.token_delay = 0.2, 0.03
    chance = random.Random(SEED)
    print(f"\nCHAOS_SEED={SEED}")
    figures = Figures()
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
        await _crash(server, figures)
    runs = await asyncio.gather(*starts)
    assert len(set(runs)) == RUNS
    await until_status(server, sessions, operator=server)
    for session_id in sessions:
        figures.records += len(await check_session(server, session_id))
        listed = (await server.get(f"/sessions/{session_id}/runs"))["runs"]
        assert [run["run_id"] for run in listed] == [runs[sessions.index(session_id)]], "a repeated start is one run"
    figures.sessions += RUNS


async def _crash(server: ChaosServer, figures: Figures) -> None:
    await server.kill()
    figures.kills += 1
    left = server.query("SELECT count(*) FROM runs WHERE status IN ('queued', 'running')")[0][0]
    before = len(server.log_events())
    began = time.monotonic()
    await server.start()
    figures.seconds_to_answer.append(server.healthy_after)

    async def recovered() -> dict[str, object] | None:
        return next((line for line in server.log_events()[before:] if line["event"] == "recovered"), None)

    if left:
        line = await eventually("what was left behind is taken up", recovered, within=20)
        assert line["runs"] == left
        figures.seconds_to_resume.append(time.monotonic() - began)
        figures.resumed += left
