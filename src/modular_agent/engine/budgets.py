"""What a run may use: held before a model call, settled after it, within the limits of every scope it is charged to.

Checking, holding and settling do not await, so that parallel branches, and parallel runs under one limit, cannot
overspend together by more than one call: a call that finds others in progress must fit beside all that they hold, and
one that is alone may go on while anything is left.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any, Final, Literal, TypeAlias

from modular_agent.engine.accounts import Account, Held, Known, Ledger, Pot
from modular_agent.engine.store import Charge, ModelCall, Scope, ScopeKind, Spent
from modular_agent.kit.clock import MICROSECONDS
from modular_agent.kit.dataclass import dataclass

__all__ = [
    "LIMIT_NAMES",
    "NANO",
    "Bound",
    "Budget",
    "Excess",
    "Limits",
    "Need",
    "Period",
    "Reservation",
    "Terms",
    "amounts",
]

NANO: Final = 1_000_000_000
_NEVER: Final = -1
LIMIT_NAMES: Final = ("max_iterations", "max_tokens", "max_cost_usd", "max_seconds", "max_steps")

Limits: TypeAlias = Mapping[str, Any]  # by LIMIT_NAMES: a number or None; and `on_exceed`
Period: TypeAlias = Literal["run", "total", "day"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """Limits of what is counted together. `limits` answers them as they count now.

    `name` is how a person's allowance for one run names it: `run`, `session`, `workflow.day`, ...
    """

    name: str
    scope: Scope
    period: Period
    limits: Callable[[], Limits]


def _nothing() -> float:
    return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a run is charged to, and within which bounds, that of the run itself first.

    `allowed` is what persons allowed this run beyond a bound, by its name. `unpriced` answers at how many nano-dollars
    limits of money count a token without a known price.
    """

    scopes: Sequence[Scope] = ()
    bounds: Sequence[Bound] = ()
    allowed: Mapping[str, Limits] = field(default_factory=dict[str, Limits])
    unpriced: Callable[[], float] = _nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What is about to be done: `calls` model calls that use `tokens` at least, as far as is known, and `most`."""

    calls: int = 0
    tokens: int = 0
    most: Held = field(default_factory=Held)


@dataclass(frozen=True, slots=True, kw_only=True)
class Excess:
    """A limit that stands in the way, with what was used so far (units of the limit).

    `is_passing`: only what calls in progress hold stands in the way; `account` says when one of them has ended.
    """

    bound: Bound
    limit: str
    maximum: float
    used: float
    on_exceed: str
    is_passing: bool
    account: Account


@dataclass(slots=True, eq=False)
class Reservation:
    """What a call in progress holds; given back once."""

    held: Held
    accounts: tuple[Account, ...]
    is_open: bool = True

    def release(self) -> None:
        if self.is_open:
            self.is_open = False
            for account in self.accounts:
                account.release(self.held)


class Budget:
    """One execution of a run: what it has used, what it holds, and what it still has to have stored.

    `elapsed` answers the run's active seconds, `active_us` those of executions before. An execution opens the accounts
    it shares with others before it begins, and closes them when all is stored.
    """

    def __init__(self, terms: Terms, ledger: Ledger, *, elapsed: Callable[[], float], active_us: int = 0) -> None:
        self._terms = terms
        self._ledger = ledger
        self._elapsed = elapsed
        self._ticked_us = active_us
        self._ticked_steps = 0
        self._pots: dict[Scope, Pot] = {}
        self._is_open = False
        self._due = Spent()
        self.run = Account(Spent(active_us=active_us))
        self._charged: tuple[Account, ...] = (self.run,)
        self._charged_on = _NEVER
        self.steps = 0  # of the run; whoever counts them says so

    async def open(self) -> None:
        """Takes part in the accounts shared with other runs. A session's is needed only where it has limits."""
        bound = {bound.scope for bound in self._terms.bounds}
        shared = [scope for scope in self._terms.scopes if scope.kind is not ScopeKind.SESSION or scope in bound]
        self._pots = {pot.scope: pot for pot in await self._ledger.open(shared)}
        self._is_open, self._charged_on = True, _NEVER

    def close(self) -> None:
        """To be called once all charges are stored, or refused."""
        self._ledger.close([*self._pots.values()])
        self._pots, self._is_open, self._charged_on = {}, False, _NEVER

    def replay(self, calls: Iterable[ModelCall], *, steps: int) -> None:
        """Takes over what the run used before a restart or pause: it is stored, and charged already."""
        for call in calls:
            self.run.spent.add(Spent.of(call))
        self.run.spent.steps = self.steps = self._ticked_steps = steps

    # -- checking ----------------------------------------------------------------------------------------------

    def maximum(self, name: str) -> float | None:
        """A limit of the run itself."""
        return self._terms.bounds[0].limits().get(name) if self._terms.bounds else None

    def counts(self, name: str) -> bool:
        """Whether any of the bounds has this limit."""
        return any(self._limits(bound).get(name) is not None for bound in self._terms.bounds)

    def excess(self, need: Need) -> Excess | None:
        """What stands in the way of what is needed: first a limit that is reached, else one that calls in progress
        hold. Without `calls` only steps and seconds count."""
        self._tick()
        passing: Excess | None = None
        for bound in self._terms.bounds:
            limits = self._limits(bound) if self._terms.allowed else bound.limits()
            if not limits:
                continue
            found = self._found(bound, limits, need)
            if found is not None and not found.is_passing:
                return found
            passing = passing or found
        return passing

    def _limits(self, bound: Bound) -> Limits:
        limits, allowed = bound.limits(), self._terms.allowed.get(bound.name)
        return {**limits, **allowed} if allowed else limits

    def _found(self, bound: Bound, limits: Limits, need: Need) -> Excess | None:
        account = self._account(bound)
        for name, used, least, beside in self._measures(account, need):
            maximum = limits.get(name)
            if maximum is None:
                continue
            is_over = used + least > maximum if least is not None else used >= maximum
            if is_over or (account.calls and used + beside > maximum):
                on_exceed = limits.get("on_exceed") or "pause"
                return Excess(
                    bound=bound,
                    limit=name,
                    maximum=maximum,
                    used=used,
                    on_exceed=on_exceed,
                    is_passing=not is_over,
                    account=account,
                )
        return None

    def _measures(self, account: Account, need: Need) -> Iterable[tuple[str, float, float | None, float]]:
        """Each limit with what was used, what is needed at least (None: something must be left), and what is needed
        beside calls in progress, with all that they hold."""
        spent = account.spent
        if need.calls:
            yield "max_iterations", spent.calls, need.calls, account.calls + need.calls
            yield "max_tokens", spent.tokens, need.tokens, account.tokens + need.most.tokens
            yield "max_cost_usd", self.cost_usd(spent), None, (account.cost_nano + need.most.cost_nano) / NANO
        yield "max_seconds", spent.active_us / MICROSECONDS, None, 0
        yield "max_steps", spent.steps, 0, 0

    def _account(self, bound: Bound) -> Account:
        if bound.period == "run":
            return self.run
        pot = self._pots[bound.scope]
        pot.turn_to(self._ledger.day)
        return pot.on_day if bound.period == "day" else pot.in_all

    # -- spending ----------------------------------------------------------------------------------------------

    def hold(self, need: Need) -> Reservation:
        """Holds what a call may use at most; give it to `settle` or back with `release`."""
        accounts = self._accounts()
        for account in accounts:
            account.hold(need.most)
        return Reservation(need.most, accounts)

    def settle(self, reservation: Reservation, call: ModelCall, *, model: str) -> list[Charge]:
        """Gives a reservation back and counts what the call really used; to be stored with the call.

        `model` is the one that was asked for; the call may name it in another way.
        """
        spent = Spent.of(call)
        self._ledger.learn(model, answer=call.completion_tokens, spent=spent)
        spent.steps, spent.active_us = self._since()
        for account in self._accounts():
            account.spent.add(spent)
        self._due.add(spent)
        charges = self._taken()
        reservation.release()  # last: those who wait look at what was used
        return charges

    def charges(self) -> list[Charge]:
        """What was used and is not stored yet: the caller has it stored."""
        self._tick()
        return self._taken()

    def _taken(self) -> list[Charge]:
        """What is due, on the day of the accounts that it was counted in."""
        if not self._terms.scopes or not any(self._due.numbers()):
            return []
        due, self._due = self._due, Spent()
        return [Charge(self._terms.scopes, self._charged_on, due)]

    def _tick(self) -> None:
        """Counts the steps and seconds since the last look."""
        steps, active_us = self._since()
        self._due.steps += steps
        self._due.active_us += active_us
        for account in self._accounts():
            spent = account.spent
            spent.steps += steps
            spent.active_us += active_us

    def _since(self) -> tuple[int, int]:
        """The steps and microseconds since the last look."""
        if not self._is_open:
            return 0, 0
        active_us = int(self._elapsed() * MICROSECONDS)
        since = self.steps - self._ticked_steps, active_us - self._ticked_us
        self._ticked_us, self._ticked_steps = active_us, self.steps
        return since

    def _accounts(self) -> tuple[Account, ...]:
        """What the run is charged to now: its own account, and each scope's in all and on the current day."""
        day = self._ledger.day
        if day != self._charged_on:
            accounts = [self.run]
            for pot in self._pots.values():
                pot.turn_to(day)
                accounts += (pot.in_all, pot.on_day)
            self._charged, self._charged_on = tuple(accounts), day
        return self._charged

    # -- looking -----------------------------------------------------------------------------------------------

    @property
    def day(self) -> int:
        """The current day, in days since the epoch (UTC)."""
        return self._ledger.day

    def known(self, model: str) -> Known | None:
        """What this process has seen of a model."""
        return self._ledger.known(model)

    def assumed_nano(self, tokens: int) -> int:
        """At how many nano-dollars limits count tokens without a known price."""
        return round(tokens * self._terms.unpriced())

    def cost_usd(self, spent: Spent) -> float:
        """What limits of money count: what was paid, and an assumed price for what has none."""
        assumed = self.assumed_nano(spent.unpriced_tokens) if spent.unpriced_tokens else 0
        return (spent.cost_nano + assumed) / NANO

    def spent(self) -> dict[str, Any]:
        """What the run used, as JSON."""
        used = amounts(self.run.spent)
        return {**used, "seconds": round(self._elapsed(), 3)}


def amounts(spent: Spent) -> dict[str, Any]:
    """What was used, as JSON."""
    return {
        "iterations": spent.calls,
        "tokens": spent.tokens,
        "cost_usd": spent.cost_nano / NANO,
        "unpriced_tokens": spent.unpriced_tokens,
        "steps": spent.steps,
        "seconds": round(spent.active_us / MICROSECONDS, 3),
    }
