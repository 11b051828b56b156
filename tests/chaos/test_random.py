"""Random workflows under random control while everything fails that can: afterwards the same holds as ever.

    CHAOS_ROUNDS=40 uv run pytest tests/chaos/test_random.py -s       # longer; prints its figures
    CHAOS_SEED=12 CHAOS_ROUNDS=1 uv run pytest tests/chaos/test_random.py -s    # the same choices again

The choices (workflows, commands, events) follow from the seed and the round; the moments are real, so that a repetition
is alike, not equal. What is looked at is what is outside of the server: its API, its files, its rows, and a ledger that
the tools write to.
"""

import asyncio
import os
import random
import resource
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from chaos.figures import Figures
from chaos.planned_model import PlannedModel
from chaos.projections import check_fork, check_sums
from chaos.random_operator import Operator, Records
from chaos.random_workflows import INNER, PRICES, ROAM_TOOLS, random_workflow
from chaos.workflows import TOOLS
from chaos.world import ChaosServer
from servers.jumping_clock import JumpingClock
from servers.small_disk import NoSmallDisk, SmallDisk

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "1"))
SEED = int(os.environ.get("CHAOS_SEED", str(random.randrange(10**6))))
SESSIONS = 5
EVENTS = 5  # in a round
WORKFLOWS = 8


class Weather:
    """What happens to a server: each a coroutine, over when it returns, with the server up again."""

    def __init__(
        self,
        server: ChaosServer,
        model: PlannedModel,
        clock: JumpingClock,
        disk: SmallDisk | None,
        figures: Figures,
    ) -> None:
        self.server = server
        self.model = model
        self.clock = clock
        self.disk = disk
        self.figures = figures

    async def happens(self, chance: random.Random) -> None:
        events = [
            self.kill,
            self.kill,
            self.torn_tail,
            self.hanging_model,
            self.clock_jumps,
            self.no_room,
            self.restart,
        ]
        event = chance.choice(events if self.disk is None else [*events, self.full_disk, self.full_disk])
        self.figures.events[event.__name__] += 1
        await event(chance)

    async def kill(self, _: random.Random) -> None:
        await self.figures.crash(self.server, alone=False)

    async def torn_tail(self, chance: random.Random) -> None:
        await self.server.kill()
        self.figures.kills += 1
        files = sorted(self.server.data.glob("history/*/*.jsonl"))
        for file in chance.sample(files, min(3, len(files))):
            size = file.stat().st_size
            match chance.randrange(3):
                case 0:
                    os.truncate(file, max(0, size - chance.randrange(1, 2_000)))
                case 1:
                    file.write_bytes(file.read_bytes() + b'{"seq": 99, "rec')
                case _:
                    file.unlink()
        await self.figures.crash(self.server, alone=False)

    async def hanging_model(self, chance: random.Random) -> None:
        self.model.hangs = True
        await asyncio.sleep(chance.uniform(0.3, 2.0))
        if chance.random() < 0.3:
            await self.figures.crash(self.server, alone=False)
        self.model.hangs = False

    async def clock_jumps(self, chance: random.Random) -> None:
        seconds = chance.choice([-1, 1]) * 10 ** chance.uniform(-1, 6)
        down = chance.random() < 0.5
        if down:
            await self.server.kill()
            self.figures.kills += 1
        self.clock.jump(seconds)
        if down:
            await self.figures.crash(self.server, alone=False)

    async def no_room(self, chance: random.Random) -> None:
        """No file may grow: the operating system says so of one process."""
        process: Any = psutil.Process(self.server.pid)
        process.rlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        await asyncio.sleep(chance.uniform(0.2, 1.5))
        process.rlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    async def full_disk(self, chance: random.Random) -> None:
        assert self.disk is not None
        self.disk.fill()
        await asyncio.sleep(chance.uniform(0.2, 1.5))
        if chance.random() < 0.3:
            await self.server.kill()
            self.figures.kills += 1
            self.disk.free()
            await self.figures.crash(self.server, alone=False)
        else:
            self.disk.free()

    async def restart(self, _: random.Random) -> None:
        await self.server.terminate()
        await self.server.start()


@pytest.mark.timeout(120 + 90 * ROUNDS)
async def test_whatever_happens_the_log_holds(tmp_path: Path, model: PlannedModel) -> None:
    print(f"\nCHAOS_SEED={SEED} CHAOS_ROUNDS={ROUNDS}")
    figures = Figures(SEED)
    workflows = {f"roam-{n}": random_workflow(random.Random(f"{SEED}/{n}"), f"roam-{n}") for n in range(WORKFLOWS)}
    clock = JumpingClock(tmp_path / "clock")
    limits = {"MAX_PARALLEL_RUNS": "12", "SHUTDOWN_GRACE_SECONDS": "1", "RATE_LIMIT_ENABLED": "false"}
    with ExitStack() as stack:
        disk = None
        with suppress(NoSmallDisk):  # then without a full disk; `no_room` needs nothing
            disk = stack.enter_context(SmallDisk(tmp_path / "data", megabytes=64 + 8 * ROUNDS))
        async with ChaosServer(
            tmp_path,
            model.url,
            workflows={**workflows, "inner": INNER},
            tools=TOOLS + ROAM_TOOLS,
            files={"prices.yaml": PRICES},
            disk=disk,
            **clock.environment,
            **limits,
        ) as server:
            weather = Weather(server, model, clock, disk, figures)
            run_again = Counter[str]()
            logs: list[Records] = []
            for number in range(ROUNDS):
                try:
                    logs += await _round(weather, random.Random(f"{SEED}/round {number}"), run_again)
                except AssertionError as error:
                    error.add_note(f"in round {number}")
                    raise
            await check_sums(server, logs)
            _check_ledger(server, run_again)
    print(figures)


async def _round(weather: Weather, chance: random.Random, run_again: Counter[str]) -> list[Records]:
    server, figures, model = weather.server, weather.figures, weather.model
    model.delay, model.token_delay = 0.05, 0.01
    operators = [await _operator(server, chance, figures) for _ in range(SESSIONS)]
    end = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for operator in operators:
            group.create_task(operator.work(end))
        for _ in range(EVENTS):
            await asyncio.sleep(chance.uniform(0.2, 1.5))
            await weather.happens(chance)
        end.set()
    model.delay, model.token_delay = 0.0, 0.0  # what is to fail has failed
    for each in operators:
        each.find_forks()
    forks = [
        Operator(server, session_id, random.Random(0), figures.commands)
        for each in operators
        for session_id in each.forks
    ]
    everybody = [*operators, *forks]
    await asyncio.gather(*(operator.settle() for operator in everybody))
    await asyncio.gather(*(operator.end() for operator in everybody))
    assert server.query("SELECT count(*) FROM runs WHERE status NOT IN ('completed', 'stopped', 'failed')") == [(0,)]
    logs = dict(zip(everybody, await asyncio.gather(*(each.check() for each in everybody)), strict=True))
    for operator in operators:
        for fork in forks:
            if fork.session_id in operator.forks:
                check_fork(logs[operator], logs[fork])
    for operator, records in logs.items():
        figures.took(records, is_fork=operator in forks)
        run_again.update(operator.run_again)
    return list(logs.values())


async def _operator(server: ChaosServer, chance: random.Random, figures: Figures) -> Operator:
    session_id = await server.create_session(f"roam-{chance.randrange(WORKFLOWS)}")
    return Operator(server, session_id, random.Random(chance.random()), figures.commands)


def _check_ledger(server: ChaosServer, run_again: Counter[str]) -> None:
    """A payment is made once, and once more for each word of a person; a call has one key."""
    lines = server.ledger()
    payments = Counter((line["session"], line["label"]) for line in lines if line["tool"] == "pay")
    twice = {call: count for call, count in payments.items() if count > 1 + run_again[call[1]]}
    assert not twice, f"made without a person's word: {twice}"
    keys: dict[tuple[str, str], set[str]] = {}  # a fork makes the calls that were open for itself
    for line in lines:
        if line["tool"] != "look":  # what only reads does not wait until the answer that asked for it is stored
            keys.setdefault((line["session"], line["label"]), set()).add(line["key"])
    assert not [call for call, found in keys.items() if len(found) > 1]
