"""What is used by many runs together: accounts in memory, taken over from what is stored, charged before it is.

One process executes all runs of a data path, so its memory may decide; what was paid is stored in the transaction of
the call that it was paid for. Checking and holding do not await, so nothing comes between them.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import field
from typing import Final

from modular_agent.engine.store import Scope, Spent
from modular_agent.kit.clock import MICROSECONDS, Clock
from modular_agent.kit.dataclass import dataclass

__all__ = ["DAY", "Account", "Held", "Known", "Ledger", "Pot"]

DAY: Final = 86_400 * MICROSECONDS
IDLE_POTS: Final = 1_024  # kept in memory though no run is charged to them
MAX_REMEMBERED: Final = 1_000  # models of which something is known

Usage = Callable[[Sequence[Scope], int], Awaitable[Sequence[tuple[Spent, Spent]]]]
"""What each scope has used in all and on a day, as it is stored."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a call in progress may use at most, as far as is known."""

    calls: int = 0
    tokens: int = 0
    cost_nano: int = 0


@dataclass(slots=True)
class Known:
    """What calls of a model needed so far: the longest answer (tokens), and the most that a token cost."""

    answer: int = 0
    nano_per_token: float = 0.0


@dataclass(slots=True)
class Account:
    """What was used within one period, and what calls in progress hold of it."""

    spent: Spent = field(default_factory=Spent)
    calls: int = 0  # held
    tokens: int = 0
    cost_nano: int = 0
    _waiters: list["asyncio.Future[None]"] = field(default_factory=list["asyncio.Future[None]"])

    def hold(self, held: Held) -> None:
        self.calls += held.calls
        self.tokens += held.tokens
        self.cost_nano += held.cost_nano

    def release(self, held: Held) -> None:
        """Gives back what a call held, and wakes those who wait for that."""
        self.calls -= held.calls
        self.tokens -= held.tokens
        self.cost_nano -= held.cost_nano
        if self._waiters:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    async def changed(self) -> None:
        """Returns when a call that holds something has ended."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter


@dataclass(slots=True, eq=False)
class Pot:
    """What is counted together: from the first time on, and on the current UTC day."""

    scope: Scope
    day: int
    in_all: Account
    on_day: Account
    users: int = 0

    def turn_to(self, day: int) -> None:
        """Begins a new day; calls in progress give back what they hold to the day on which they began."""
        if day > self.day:
            self.day, self.on_day = day, Account()


class Ledger:
    """The accounts that the runs of this process share.

    A day never goes back, whatever the clock does.
    """

    def __init__(self, usage: Usage, clock: Clock) -> None:
        self._usage = usage
        self._clock = clock
        self._pots: OrderedDict[Scope, Pot] = OrderedDict()
        self._opening = asyncio.Lock()
        self._day = 0
        self._known: dict[str, Known] = {}

    @property
    def day(self) -> int:
        """The current day, in days since the epoch (UTC)."""
        self._day = max(self._day, self._clock.now_us() // DAY)
        return self._day

    async def open(self, scopes: Sequence[Scope]) -> list[Pot]:
        """The accounts of these scopes, for a run that is charged to them; give them back with `close`.

        Whoever charges a scope opens it first, so what is stored is all there is when it is read.
        """
        if self._missing(scopes):
            async with self._opening:
                while missing := self._missing(scopes):
                    await self._read(missing)
        pots = [self._pots[scope] for scope in scopes]
        for pot in pots:
            pot.users += 1
            self._pots.move_to_end(pot.scope)
        return pots

    def _missing(self, scopes: Sequence[Scope]) -> list[Scope]:
        return [scope for scope in scopes if scope not in self._pots]

    async def _read(self, scopes: Sequence[Scope]) -> None:
        day = self.day
        for scope, (in_all, on_day) in zip(scopes, await self._usage(scopes, day), strict=True):
            self._pots[scope] = Pot(scope, day, Account(in_all), Account(on_day))

    def close(self, pots: Sequence[Pot]) -> None:
        """Gives accounts back, when all that was charged to them is stored."""
        for pot in pots:
            pot.users -= 1
        if len(self._pots) > IDLE_POTS:
            idle = [pot.scope for pot in self._pots.values() if not pot.users]
            for scope in idle[: len(self._pots) - IDLE_POTS]:
                del self._pots[scope]

    def pot(self, scope: Scope) -> Pot | None:
        """The account of a scope, if it is in memory."""
        pot = self._pots.get(scope)
        if pot is not None:
            pot.turn_to(self.day)
        return pot

    def forget(self, scope: Scope) -> None:
        """Has the account read again: what is stored was changed by hand. Not while a run is charged to it."""
        pot = self._pots.get(scope)
        if pot is not None and not pot.users:
            del self._pots[scope]

    # -- what calls turned out to need ---------------------------------------------------------------------------

    def known(self, model: str) -> Known | None:
        """What this process has seen of a model."""
        return self._known.get(model)

    def learn(self, model: str, *, answer: int, spent: Spent) -> None:
        """Remembers what a call needed: the tokens of its answer, and what all its tokens cost."""
        known = self._known.get(model)
        if known is None:
            if len(self._known) >= MAX_REMEMBERED:
                return
            known = self._known[model] = Known()
        known.answer = max(known.answer, answer)
        if spent.tokens:
            known.nano_per_token = max(known.nano_per_token, spent.cost_nano / spent.tokens)
