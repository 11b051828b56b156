"""Budgets without runs: what may be held and spent, however parallel runs take turns."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modular_agent.engine.accounts import DAY, IDLE_POTS, Held, Ledger
from modular_agent.engine.budgets import Bound, Budget, Need, Reservation, Terms
from modular_agent.engine.store import Charge, ModelCall, Scope, ScopeKind, Spent

WORKFLOW = Scope(ScopeKind.WORKFLOW, "react")
TODAY = 20_000


@dataclass
class Hands:
    """A clock set by hand."""

    us: int = TODAY * DAY

    def now_us(self) -> int:
        return self.us

    def monotonic(self) -> float:
        return self.us / 1_000_000


@dataclass
class Stored:
    """What is stored: charges by scope and day, as the database keeps them."""

    spent: dict[tuple[Scope, int], Spent] = field(default_factory=dict[tuple[Scope, int], Spent])
    reads: int = 0

    async def usage(self, scopes: Sequence[Scope], day: int) -> Sequence[tuple[Spent, Spent]]:
        self.reads += 1
        await asyncio.sleep(0)
        found: list[tuple[Spent, Spent]] = []
        for scope in scopes:
            in_all, on_day = Spent(), Spent()
            for (of, at), spent in self.spent.items():
                if of == scope:
                    in_all.add(spent)
                    if at == day:
                        on_day.add(spent)
            found.append((in_all, on_day))
        return found

    def take(self, charges: Sequence[Charge]) -> None:
        for charge in charges:
            for scope in charge.scopes:
                self.spent.setdefault((scope, charge.day), Spent()).add(charge.spent)


def call(tokens: int = 0, *, cost_nano: int | None = 0, error_kind: str | None = None) -> ModelCall:
    return ModelCall(
        call_id="rec_1",
        workflow_id="react",
        node="think",
        provider="scripted",
        model="m",
        duration_us=1,
        first_token_us=None,
        prompt_tokens=tokens,
        completion_tokens=0,
        cached_tokens=0,
        cache_write_tokens=0,
        reasoning_tokens=0,
        cost_nano=cost_nano,
        price_source=None,
        error_kind=error_kind,
    )


def terms(limits: Mapping[str, Any], *, name: str = "workflow", unpriced: float = 0.0, **more: Any) -> Terms:
    period: Any = "day" if name.endswith(".day") else "total"
    bound = Bound(name=name, scope=WORKFLOW, period=period, limits=lambda: limits)
    return Terms(scopes=(WORKFLOW,), bounds=(bound,), unpriced=lambda: unpriced, **more)


async def opened(agreed: Terms, ledger: Ledger) -> Budget:
    budget = Budget(agreed, ledger, elapsed=lambda: 0.0)
    await budget.open()
    return budget


def need(tokens: int, *, least: int = 0, cost_nano: int = 0) -> Need:
    return Need(calls=1, tokens=least, most=Held(calls=1, tokens=tokens, cost_nano=cost_nano))


# What a branch does next: begin a call that holds so much, or end its call having used a part of that.
STEPS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(1, 60), st.integers(0, 100), st.booleans()), min_size=1, max_size=60
)


@given(steps=STEPS, maximum=st.integers(1, 200), runs=st.integers(1, 3))
def test_whatever_turns_runs_take_they_overspend_by_one_call_at_most(
    steps: list[tuple[int, int, int, bool]], maximum: int, runs: int
) -> None:
    async def turns() -> None:
        ledger, stored = Ledger(Stored().usage, Hands()), Stored()
        limits = {"max_tokens": maximum, "max_cost_usd": maximum / 1e9, "max_iterations": 20}
        budgets = [await opened(terms(limits), ledger) for _ in range(runs)]
        held: dict[int, tuple[Budget, Reservation]] = {}
        largest = 0
        for branch, tokens, part, fails in steps:
            if branch in held:
                budget, reservation = held.pop(branch)
                if fails:
                    reservation.release()
                    reservation.release()  # twice gives nothing back twice
                else:
                    used = reservation.held.tokens * part // 100
                    stored.take(budget.settle(reservation, call(used, cost_nano=used), model="m"))
            else:
                budget = budgets[branch % runs]
                wanted = need(tokens, cost_nano=tokens)
                if budget.excess(wanted) is None:
                    held[branch] = (budget, budget.hold(wanted))
                    largest = max(largest, tokens)
        for budget, reservation in held.values():  # all calls in progress use all that they hold
            used = call(reservation.held.tokens, cost_nano=reservation.held.cost_nano)
            stored.take(budget.settle(reservation, used, model="m"))
        pot = ledger.pot(WORKFLOW)
        assert pot is not None
        spent = pot.in_all.spent
        assert spent.tokens <= maximum + largest
        assert spent.cost_nano <= maximum + largest
        assert spent.calls <= 20
        assert (pot.in_all.calls, pot.in_all.tokens, pot.in_all.cost_nano) == (0, 0, 0)
        assert stored.spent.get((WORKFLOW, TODAY), Spent()) == spent  # what is stored is what is counted

    asyncio.run(turns())


async def test_a_call_waits_for_what_others_hold_and_asks_only_when_it_is_used() -> None:
    ledger = Ledger(Stored().usage, Hands())
    first, second = [await opened(terms({"max_tokens": 100}), ledger) for _ in range(2)]
    reservation = first.hold(need(90))
    excess = second.excess(need(90))
    assert excess is not None
    assert excess.is_passing
    waiting = asyncio.create_task(excess.account.changed())
    await asyncio.sleep(0)
    assert not waiting.done()
    first.settle(reservation, call(5), model="m")
    await waiting
    assert second.excess(need(90)) is None
    first.settle(second.hold(need(90)), call(95), model="m")
    reached = second.excess(need(90, least=1))
    assert reached is not None
    assert (reached.is_passing, reached.used, reached.maximum) == (False, 100, 100)


async def test_who_stops_waiting_leaves_nothing_behind() -> None:
    ledger = Ledger(Stored().usage, Hands())
    budget = await opened(terms({"max_tokens": 100}), ledger)
    reservation = budget.hold(need(100))
    excess = budget.excess(need(100))
    assert excess is not None
    waiting = asyncio.create_task(excess.account.changed())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    reservation.release()
    assert budget.excess(need(100)) is None


async def test_a_day_begins_with_nothing_used_and_never_comes_back() -> None:
    clock = Hands()
    ledger = Ledger(Stored().usage, clock)
    budget = await opened(terms({"max_tokens": 100}, name="workflow.day"), ledger)
    late = budget.hold(need(100))
    assert budget.excess(need(1)) is not None
    clock.us += DAY  # a call over midnight: it counts on the day on which it ends
    assert budget.excess(need(1)) is None
    [charge] = budget.settle(late, call(70), model="m")
    assert charge.day == TODAY + 1
    assert budget.excess(need(31, least=31)) is not None
    clock.us -= DAY
    assert budget.excess(need(31, least=31)) is not None
    pot = ledger.pot(WORKFLOW)
    assert pot is not None
    assert (pot.on_day.spent.tokens, pot.in_all.spent.tokens, pot.on_day.tokens) == (70, 70, 0)


async def test_what_is_stored_is_taken_over_once() -> None:
    stored = Stored({(WORKFLOW, TODAY - 1): Spent(tokens=30), (WORKFLOW, TODAY): Spent(tokens=12)})
    ledger = Ledger(stored.usage, Hands())
    await asyncio.gather(*(ledger.open([WORKFLOW]) for _ in range(20)))
    assert stored.reads == 1
    pot = ledger.pot(WORKFLOW)
    assert pot is not None
    assert (pot.in_all.spent.tokens, pot.on_day.spent.tokens, pot.users) == (42, 12, 20)


async def test_accounts_that_nobody_uses_make_room() -> None:
    ledger = Ledger(Stored().usage, Hands())
    [mine] = await ledger.open([WORKFLOW])
    for number in range(IDLE_POTS + 50):
        ledger.close(await ledger.open([Scope(ScopeKind.SESSION, str(number))]))
    assert ledger.pot(Scope(ScopeKind.SESSION, "0")) is None
    assert ledger.pot(Scope(ScopeKind.SESSION, str(IDLE_POTS + 49))) is not None
    assert ledger.pot(WORKFLOW) is mine


@pytest.mark.parametrize(("unpriced", "is_over"), [(0.0, False), (10_000.0, True)])
async def test_tokens_without_a_price_count_at_an_assumed_one(unpriced: float, is_over: bool) -> None:
    ledger = Ledger(Stored().usage, Hands())
    budget = await opened(terms({"max_cost_usd": 0.01}, unpriced=unpriced), ledger)
    budget.settle(budget.hold(need(1)), call(1_000, cost_nano=None), model="m")  # at 10 USD per million tokens: a cent
    excess = budget.excess(need(1))
    assert (excess is not None) is is_over
    assert budget.spent() == {
        "iterations": 1,
        "tokens": 1_000,
        "cost_usd": 0.0,
        "unpriced_tokens": 1_000,
        "steps": 0,
        "seconds": 0.0,
    }


async def test_a_failed_call_is_no_iteration() -> None:
    budget = await opened(terms({"max_iterations": 1}), Ledger(Stored().usage, Hands()))
    budget.replay([call(5, error_kind="timeout"), call(7)], steps=3)
    assert (budget.run.spent.calls, budget.run.spent.tokens, budget.run.spent.steps) == (1, 12, 3)
    assert budget.charges() == []  # what was before is stored


async def test_an_allowance_is_for_one_run() -> None:
    ledger = Ledger(Stored().usage, Hands())
    allowed = await opened(terms({"max_tokens": 10}, allowed={"workflow": {"max_tokens": 1_000}}), ledger)
    other = await opened(terms({"max_tokens": 10}), ledger)
    allowed.settle(allowed.hold(need(10)), call(10), model="m")
    assert allowed.excess(need(1, least=1)) is None
    assert other.excess(need(1, least=1)) is not None


async def test_steps_and_seconds_of_all_runs_together() -> None:
    ledger, seconds = Ledger(Stored().usage, Hands()), [0.0]
    agreed = terms({"max_seconds": 5, "max_steps": 4})
    first = Budget(agreed, ledger, elapsed=lambda: 100 + seconds[0], active_us=100_000_000)  # before: counted already
    second = Budget(agreed, ledger, elapsed=lambda: seconds[0])
    for budget in (first, second):
        await budget.open()
        budget.replay([], steps=7)
    seconds[0] = 2.0
    assert first.excess(Need()) is None
    assert second.excess(Need()) is None
    seconds[0] = 2.5
    first.steps += 2
    assert first.excess(Need()) is None
    over = second.excess(Need())
    assert over is not None
    assert (over.limit, over.used) == ("max_seconds", 5.0)
    [charge] = first.charges()
    assert (charge.spent.steps, charge.spent.active_us) == (2, 2_500_000)
    first.close()
    assert first.charges() == []


async def test_what_calls_needed_is_remembered_by_the_model_that_was_asked_for() -> None:
    ledger = Ledger(Stored().usage, Hands())
    budget = await opened(terms({}), ledger)
    assert budget.known("asked") is None
    budget.settle(budget.hold(need(1)), call(100, cost_nano=5_000), model="asked")
    budget.settle(budget.hold(need(1)), call(100, cost_nano=1_000), model="asked")
    known = budget.known("asked")
    assert known is not None
    assert (known.answer, known.nano_per_token) == (0, 50.0)
    assert budget.known("m") is None
