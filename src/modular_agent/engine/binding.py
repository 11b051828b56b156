"""A run as the saver sees it: what it still has to hand over, and how far behind the writer is."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import field
from typing import Any, Final

from modular_agent.engine.store import Facts, RunKey
from modular_agent.errors import AgentError
from modular_agent.kit.dataclass import dataclass

__all__ = ["BINDING", "Binding"]

BINDING: Final = "__modular_agent_binding"  # in `config["configurable"]`; two underscores keep it out of metadata
GATHER: Final = 0.005  # seconds
MAX_BEHIND: Final = 32  # writes of one run that may wait for the writer while it goes on

_Act = tuple[int, Callable[[], object]]  # how many writes are committed first, and what is done then


@dataclass(slots=True)
class Binding:
    """A run as the saver sees it.

    `pending` collects the facts of each task until its writes come. `gathered` is what nobody waits for: it is handed
    over as one write `GATHER` seconds after the first of it, or as soon as somebody does wait. `failure` is the first
    refused write, `last` the newest one not yet known to be durable. `questions` are the graph ids of the interrupts
    raised since the start; those in `asked` were put to a person before, and are not put again.
    """

    run: RunKey
    commit: Callable[[RunKey, Facts], Awaitable[object]]
    pending: dict[str, Facts] = field(default_factory=dict[str, Facts])
    gathered: Facts = field(default_factory=Facts)
    unstored: str | None = None  # the checkpoint that holds nothing but the input, which the run's row has
    failure: BaseException | None = None
    last: asyncio.Future[object] | None = None
    questions: set[str] = field(default_factory=set[str])
    asked: frozenset[str] = frozenset()
    fresh: bool = False  # nothing is stored for the session yet
    newest: str | None = None  # the session's newest checkpoint at the start, if no task has written anything after it
    clears_pending: bool = False
    values: Mapping[str, Any] | None = None  # the state's channels at the newest checkpoint since the start
    foreign: dict[str, str] = field(default_factory=dict[str, str])  # tasks that run a user's graph, to their nodes
    handed: int = 0  # writes handed over
    behind: int = 0  # of them, not yet settled
    _timer: asyncio.TimerHandle | None = None
    _afterwards: deque[_Act] = field(default_factory=deque[_Act])

    def facts(self, task_id: str) -> Facts:
        """The facts of a task, to be committed with what it writes."""
        facts = self.pending.get(task_id)
        if facts is None:
            facts = self.pending[task_id] = Facts()
        return facts

    def gather(self, facts: Facts) -> None:
        """Takes facts to be written soon, in the order in which they are given."""
        self.gathering().extend(facts)

    def gathering(self) -> Facts:
        """Where facts are to be put that are to be written soon."""
        self.check()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER, self.flush)
        return self.gathered

    def take(self) -> Facts:
        """What was gathered, for the write that is about to be made."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        facts, self.gathered = self.gathered, Facts()
        return facts

    def flush(self) -> None:
        """Hands over what was gathered."""
        facts = self.take()
        if facts and self.failure is None:
            try:
                self.track(self.commit(self.run, facts))
            except AgentError as error:  # the database is closed, or too much waits for it
                self.failure = error

    def afterwards(self, act: Callable[[], object]) -> None:
        """Acts when everything that was given so far is committed, at once if it is; never after a refused write."""
        needed = self.handed + bool(self.gathered)
        if needed > self.handed - self.behind:
            self._afterwards.append((needed, act))
        elif self.failure is None:
            act()

    def track(self, write: Awaitable[object]) -> asyncio.Future[object]:
        """Remembers a write, so that `durable` waits for it and a failure is kept."""
        future = asyncio.ensure_future(write)
        self.handed += 1
        self.behind += 1
        future.add_done_callback(self._settle)
        self.last = future
        return future

    def _settle(self, future: asyncio.Future[object]) -> None:
        self.behind -= 1
        if not future.cancelled() and (error := future.exception()) is not None and self.failure is None:
            self.failure = error
        if self.failure is not None:
            self._afterwards.clear()
        while self._afterwards and self._afterwards[0][0] <= self.handed - self.behind:
            self._afterwards.popleft()[1]()

    async def durable(self) -> None:
        """Waits until everything that was given so far is committed; raises the first failure."""
        self.flush()
        await self.settled()

    async def settled(self) -> None:
        """Waits until everything handed over is committed, not for what is gathered; raises the first failure."""
        if self.last is not None and not self.last.done():
            await asyncio.wait({self.last})  # in order: the last one stands for all
        elif self.behind:
            await asyncio.sleep(0)  # all are done, and about to say how
        self.check()

    async def keep_up(self) -> None:
        """Lets the run go on while its writes are on their way, unless too many are; raises the first failure.

        Writes are committed in the order in which they are handed over, so a crash loses the newest ones only, and
        what was done since is done again. That is for nodes whose work may be: see `durable` for all others.
        """
        if self.behind > MAX_BEHIND:
            await self.durable()
        self.check()

    def check(self) -> None:
        if self.failure is not None:
            raise self.failure
