"""Limits at work: before a model call, a run over a limit asks a person, or fails; one that has to wait for calls in
progress waits."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from modular_agent.engine.accounts import DAY, Held, Known
from modular_agent.engine.budgets import LIMIT_NAMES, Budget, Excess, Need, Reservation, amounts
from modular_agent.engine.errors import LimitReached, SharedLimitReached
from modular_agent.engine.nodes.asking import ask, object_form
from modular_agent.engine.nodes.visit import Visit
from modular_agent.engine.providers.chain import ModelChain
from modular_agent.engine.providers.port import ToolSchema, Usage
from modular_agent.events import RecordType
from modular_agent.kit.clock import rfc3339, utc_datetime

__all__ = ["hold", "hold_now", "need_of", "need_of_unknown", "within_limits"]

BUDGET_FORM: Final = object_form(
    {**{name: {"type": "number", "exclusiveMinimum": 0} for name in LIMIT_NAMES}, "stop": {"type": "boolean"}},
    required=(),
)
USUAL_ANSWER: Final = 4_096  # tokens: what a call holds at least where nothing says how long its answer may be
UNSEEN: Final = 10  # times the assumed price: the first call of a model whose provider alone may know what it costs


def need_of(
    visit: Visit,
    chain: ModelChain,
    tokens: int,
    *,
    tools: Sequence[ToolSchema],
    parameters: Mapping[str, Any],
) -> Need:
    """What a call of a model with a conversation of so many `tokens` needs, as far as a limit asks for it.

    The most it may use is the prompt with the answer's `max_tokens`; where there is none, with the longest answer of
    that model so far, or a usual one.
    """
    budget = visit.context.budget
    with_money = budget.counts("max_cost_usd")
    if not with_money and not budget.counts("max_tokens"):
        return Need(calls=1, most=Held(calls=1))
    prompt = tokens + visit.context.conversations.tools.of(tools)
    limit = int(parameters.get("max_tokens") or 0)
    names = [(model.provider, model.model) for model in chain.models]
    return Need(calls=1, tokens=prompt + limit, most=_most(visit, names, prompt, limit=limit, with_money=with_money))


def need_of_unknown(visit: Visit, provider: str, model: str, prompt: int) -> Need:
    """What a call inside a user's graph needs, of which nothing but the prompt's tokens is known."""
    with_money = visit.context.budget.counts("max_cost_usd")
    return Need(calls=1, tokens=prompt, most=_most(visit, [(provider, model)], prompt, limit=0, with_money=with_money))


def _most(visit: Visit, models: Sequence[tuple[str, str]], prompt: int, *, limit: int, with_money: bool) -> Held:
    known = [visit.context.budget.known(model) for _, model in models]
    answer = limit or max([USUAL_ANSWER, *[each.answer for each in known if each is not None]])
    cost = _dearest(visit, models, known, prompt, answer) if with_money else 0
    return Held(calls=1, tokens=prompt + answer, cost_nano=cost)


def _dearest(
    visit: Visit, models: Sequence[tuple[str, str]], known: Sequence[Known | None], prompt: int, answer: int
) -> int:
    """What a call of the dearest of the models may cost: by its known price, and by what such calls did cost."""
    context, tokens, dearest = visit.context, prompt + answer, 0
    usage, now = Usage(prompt_tokens=prompt, completion_tokens=answer), context.clock.now_us()
    for (provider, model), seen in zip(models, known, strict=True):
        price = context.prices.price(provider, model, usage, now)
        cost = context.budget.assumed_nano(tokens) if price is None else price.amount_nano
        if seen is not None:
            cost = max(cost, round(seen.nano_per_token * tokens))
        elif price is None:
            cost *= UNSEEN
        dearest = max(dearest, cost)
    return dearest


async def hold(visit: Visit, need: Need) -> Reservation:
    """Holds what a call needs once it is within the limits; waits for calls in progress where they hold the rest.

    Asks for higher limits until they suffice. Raises `LimitReached` where the limit, or the person, says so.
    """
    budget, is_told = visit.context.budget, False
    while (excess := budget.excess(need)) is not None:
        if not excess.is_passing:
            _settle(visit, excess)
            continue
        if not is_told:
            is_told = True
            message = (
                f"waits until calls in progress are settled: {excess.limit} of {excess.bound.name} is held by them"
            )
            visit.context.emit(visit.context.record(RecordType.LOG, visit.node, level="info", message=message))
        await excess.account.changed()
    return budget.hold(need)


def hold_now(visit: Visit, need: Need) -> Reservation:
    """As `hold`, for a caller that cannot wait: what calls in progress hold counts as used."""
    within_limits(visit, need)
    return visit.context.budget.hold(need)


def within_limits(visit: Visit, need: Need) -> None:
    """Returns once what is needed is within the limits; asks and raises as `hold`."""
    while (excess := visit.context.budget.excess(need)) is not None:
        _settle(visit, excess)


def _settle(visit: Visit, excess: Excess) -> None:
    """Asks a person. An answer is stored with the run, so it counts in the limits from the next look on."""
    if excess.on_exceed == "fail":
        raise _reached(excess)
    answer = ask(visit, "budget", form=BUDGET_FORM, **_question(visit.context.budget, excess))
    if answer.get("stop"):
        raise _reached(excess)


def _question(budget: Budget, excess: Excess) -> dict[str, Any]:
    bound = excess.bound
    question: dict[str, Any] = {
        "budget": bound.name,
        "scope": bound.scope.kind.value,
        "subject": bound.scope.subject,
        "period": bound.period,
        "limit": excess.limit,
        "maximum": excess.maximum,
        "used": excess.used,
        "spent": amounts(excess.account.spent),
    }
    if excess.limit == "max_cost_usd" and excess.account.spent.unpriced_tokens:
        question["assumed_cost_usd"] = budget.cost_usd(excess.account.spent) - question["spent"]["cost_usd"]
    if bound.period == "day":
        question["day"] = f"{utc_datetime(budget.day * DAY):%Y-%m-%d}"
        question["resets_at"] = rfc3339((budget.day + 1) * DAY)
    return question


def _reached(excess: Excess) -> LimitReached:
    bound = excess.bound
    figures: dict[str, Any] = {"limit": excess.limit, "maximum": f"{excess.maximum:g}", "used": f"{excess.used:g}"}
    if bound.period == "run":
        return LimitReached(**figures)
    return SharedLimitReached(**figures, budget=bound.name, subject=bound.scope.subject or "-")
