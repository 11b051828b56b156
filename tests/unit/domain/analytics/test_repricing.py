import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from modular_agent.domain.analytics.period import Period
from modular_agent.domain.analytics.repricing import Repricing
from modular_agent.engine.providers.errors import InvalidPrices
from modular_agent.engine.providers.price_file import read_prices
from modular_agent.engine.providers.pricing import PriceBook, TokenPrices
from modular_agent.storage.database import Database
from modular_agent.storage.repositories.api_keys import charge_to_key
from modular_agent.storage.repositories.llm_calls import LlmCallRow, put_llm_call
from modular_agent.storage.rollups import DAY
from modular_agent.storage.unit_of_work import Counters, UnitOfWork
from unit.domain.analytics.analytics_lab import MovableClock, Store

CALLS = 2_300  # more than two pieces


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    clock = MovableClock()
    async with Database.open(tmp_path, clock=clock) as database:
        yield Store(database, clock)


def prices(**given: int) -> PriceBook:
    return PriceBook(
        {name.replace("_", "-"): TokenPrices(input=Decimal(price), output=Decimal(0)) for name, price in given.items()}
    )


async def make_calls(store: Store, count: int, **fields: Any) -> None:
    """Calls of 1,000 prompt tokens, spread over three sessions and days, priced at 1 USD per million."""
    sessions = [await store.session("react") for _ in range(3)]
    units: list[Any] = []
    for number in range(count):
        session = sessions[number % 3]
        given = {
            "model": ("small", "large")[number % 2],
            "cost": 1_000_000,
            "source": "override x",
            "served_by": "",
            **fields,
        }
        unit: UnitOfWork[None] = UnitOfWork()
        row = LlmCallRow(
            *(f"c{store.clock.now}-{number}", session.n, "r", store.clock.now + number % 3 * DAY, "react", "think"),
            *("openai", given["model"], 5_000, None, 1_000, 0, 0, 0, 0, given["cost"], given["source"]),
            *(given.get("error"), given["served_by"]),
        )
        put_llm_call(unit, row)
        unpriced = 1_000 if given["cost"] is None else 0
        unit.count(session, Counters(prompt_tokens=1_000, cost_nano=given["cost"] or 0, unpriced_tokens=unpriced))
        units.append(store.database.writer.submit(unit))
    await asyncio.gather(*units)


async def reprice(store: Store, book: PriceBook, *, dry_run: bool = False) -> dict[str, Any]:
    writer = None if dry_run else store.database.writer
    return (await Repricing(store.database.readers, writer=writer, prices=book).run()).view()


async def test_new_prices_reach_every_sum_exactly(store: Store) -> None:
    await make_calls(store, CALLS)
    before = await store.sums()
    dry = await reprice(store, prices(small=3), dry_run=True)
    assert await store.sums() == before
    done = await reprice(store, prices(small=3))
    assert done == dry
    assert done["examined"] == CALLS
    assert (done["by_model"]["small"]["cost_before"], done["by_model"]["small"]["cost_after"]) == (1.15, 3.45)
    cost = await store.analytics.cost(Period())
    assert cost["cost_by_model"]["small"]["cost"] == 3.45
    sums = await store.sums()
    assert sums == await store.rebuilt()
    of_sessions = [await store.analytics.session(session) for session in store.sessions]
    assert sum(each["cost"] for each in of_sessions) == pytest.approx(cost["total_cost"])
    assert (await reprice(store, prices(small=3)))["changed"]["calls"] == 0


async def test_budgets_count_the_new_prices_too(store: Store) -> None:
    await make_calls(store, 30, cost=None, source=None, model="small")
    session = store.sessions[0]
    await store.database.writer.commit(UnitOfWork(then=charge_to_key(session.session_id, "r", "key_1")))
    await reprice(store, prices(small=2))
    changed = await store.database.readers.query(
        "SELECT scope, sum(cost_nano), sum(unpriced_tokens), sum(tokens) FROM spending GROUP BY scope ORDER BY scope"
    )
    whole = (60_000_000, -30_000, 0)  # beside what was counted when the calls were made
    assert changed == [
        ("installation", *whole),
        ("key", 20_000_000, -10_000, 0),
        ("session", *whole),
        ("workflow", *whole),
    ]


async def test_a_model_that_nobody_knows_any_more_becomes_unpriced_and_back(store: Store) -> None:
    await make_calls(store, 30)
    await reprice(store, prices(small=1))
    cost = await store.analytics.cost(Period())
    assert cost["cost_by_model"]["large"] == {
        "cost": None,
        "total_tokens": 15_000,
        "unpriced_tokens": 15_000,
        "request_count": 15,
    }
    assert await store.sums() == await store.rebuilt()
    await reprice(store, prices(small=1, large=1))
    assert (await store.analytics.cost(Period()))["total_cost"] == 0.03


@pytest.mark.parametrize(
    "fields",
    [{"source": "provider"}, {"served_by": None}, {"error": "timeout", "cost": None}],
    ids=["the provider said it", "nobody knows who served it", "it failed"],
)
async def test_what_is_not_known_better_stays(store: Store, fields: dict[str, Any]) -> None:
    await make_calls(store, 6, **fields)
    assert (await reprice(store, prices(other=9)))["changed"]["calls"] == 0


async def test_a_model_of_ones_own_stays_unpriced(store: Store) -> None:
    served = {"model": "gpt-4.1-mini", "cost": None, "source": None}
    await make_calls(store, 2, served_by="http://127.0.0.1:9/v1", **served)
    assert (await reprice(store, PriceBook()))["changed"]["calls"] == 0
    store.clock.now += DAY
    await make_calls(store, 2, served_by="", **served)  # the provider's own: the table knows it
    assert (await reprice(store, PriceBook()))["changed"]["calls"] == 2


def test_a_price_file_is_read_or_its_faults_are_told(tmp_path: Path) -> None:
    assert read_prices(tmp_path) == {}
    file = tmp_path / "prices.yaml"
    file.write_text("models: {m: {input: 1.5, output: '2'}}")
    assert read_prices(tmp_path) == {"m": TokenPrices(input=Decimal("1.5"), output=Decimal(2))}
    for text in ("models: {m: [", "models: {m: {input: -1}}", "a: b"):
        file.write_text(text)
        with pytest.raises(InvalidPrices) as refused:
            read_prices(tmp_path)
        assert refused.value.faults[0].file == "prices.yaml"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidPrices):
        read_prices(tmp_path)
