"""What happened in all rounds of a test with kills, and how long it took."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from chaos.world import ChaosServer
from servers.server_process import eventually

__all__ = ["Figures"]


class Figures:
    """Counts; `crash` kills the server and starts it again, and measures how soon its runs go on."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.kills = 0
        self.sessions = 0
        self.forks = 0
        self.records = 0
        self.resumed = 0
        self.events = Counter[str]()
        self.commands = Counter[str]()
        self.seconds_to_answer: list[float] = []
        self.seconds_to_resume: list[float] = []

    def __str__(self) -> str:
        forks = f" ({self.forks} of them forks)" if self.forks else ""
        text = (
            f"seed {self.seed}: {self.kills} kills survived, {self.sessions} sessions{forks} and {self.records} records"
            f" checked, {self.resumed} runs taken up; from the start of the process until it answers: "
            f"{_told(self.seconds_to_answer)}; until the runs go on: {_told(self.seconds_to_resume)}"
        )
        if self.events:
            text += f"\nevents: {dict(self.events)}\ncommands: {dict(sorted(self.commands.items()))}"
        return text

    def took(self, records: Sequence[Mapping[str, Any]], *, is_fork: bool = False) -> None:
        """Counts a session that was checked."""
        self.sessions += 1
        self.forks += is_fork
        self.records += len(records)

    async def crash(self, server: ChaosServer, *, alone: bool = True) -> None:
        """Kills the server (unless it is down) and starts it; what was under way must be taken up by itself.

        Unless we are `alone`, others may have stopped those runs before: then how many there are is not looked at.
        """
        if server.running:
            await server.kill()
            self.kills += 1
        left = server.query("SELECT count(*) FROM runs WHERE status IN ('queued', 'running')")[0][0]
        before = len(server.log_events())
        began = time.monotonic()
        await server.start(within=90)  # on a machine that is busy
        self.seconds_to_answer.append(server.healthy_after)

        async def recovered() -> dict[str, object] | None:
            return next((line for line in server.log_events()[before:] if line["event"] == "recovered"), None)

        if left and alone:
            line = await eventually("what was left behind is taken up", recovered, within=20)
            assert isinstance(line["runs"], int)
            assert line["runs"] >= left
            self.seconds_to_resume.append(time.monotonic() - began)
            self.resumed += left


def _told(seconds: list[float]) -> str:
    if not seconds:
        return "not measured"
    ordered = sorted(seconds)
    return f"median {ordered[len(ordered) // 2]:.2f} s, at most {ordered[-1]:.2f} s"
