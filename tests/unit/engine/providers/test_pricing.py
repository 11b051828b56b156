"""A call has the price that the best source knows, or none."""

import subprocess
import sys
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modular_agent.engine.providers.errors import InvalidPrices
from modular_agent.engine.providers.port import Usage
from modular_agent.engine.providers.pricing import PriceBook, TokenPrices, parse_prices
from modular_agent.kit.clock import utc_datetime

AT = 1_760_000_000_000_000  # October 2025
USAGE = Usage(prompt_tokens=1_000_000, completion_tokens=100_000, cached_tokens=400_000)


def book(**models: dict) -> PriceBook:
    return PriceBook(parse_prices({"models": models}, source="prices.yaml"))


def test_the_table_prices_known_models_by_part() -> None:
    price = PriceBook().price("openai", "gpt-4.1-mini", USAGE, AT)
    assert price is not None
    # 600,000 at 0.40, 400,000 cached at 0.10, 100,000 at 1.60 per million
    assert price.amount_nano == 240_000_000 + 40_000_000 + 160_000_000
    assert (price.source, price.currency) == ("genai-prices", "USD")
    assert price.version


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("anthropic", "claude-sonnet-4-5"),
        ("google", "gemini-2.5-flash"),
        ("langchain:mistralai", "mistral-large-latest"),
    ],
)
def test_the_table_knows_our_names_of_providers(provider: str, model: str) -> None:
    price = PriceBook().price(provider, model, USAGE, AT)
    assert price is not None
    assert price.amount_nano > 0


def test_the_short_way_to_a_price_gives_what_the_table_gives_for_every_model() -> None:
    from genai_prices import Usage as TableUsage
    from genai_prices import calc_price
    from genai_prices.data import providers

    at = utc_datetime(AT)
    usages = [
        Usage(prompt_tokens=5000, completion_tokens=300, cached_tokens=700, cache_write_tokens=90),
        Usage(prompt_tokens=900_000, completion_tokens=40_000, cached_tokens=300_000),
    ]
    compared = 0
    prices = PriceBook()
    for provider in [each for each in providers if each.id in {"openai", "anthropic", "google", "mistral", "deepseek"}]:
        for model in provider.models:
            for usage in [*usages, *usages]:  # the second time goes the short way
                price = prices.price(provider.id, model.id, usage, AT)
                if price is None:
                    continue
                counts = TableUsage(
                    input_tokens=usage.prompt_tokens,
                    output_tokens=usage.completion_tokens,
                    cache_read_tokens=usage.cached_tokens,
                    cache_write_tokens=usage.cache_write_tokens,
                )
                exact = calc_price(counts, model.id, provider_id=provider.id, genai_request_timestamp=at).total_price
                assert abs(price.amount_nano - exact * 10**9) <= 1, (provider.id, model.id)
                compared += 1
    assert compared > 100


def test_what_nobody_knows_has_no_price() -> None:
    prices = PriceBook()
    for _ in range(2):
        assert prices.price("openai", "my-own-finetune", USAGE, AT) is None
        assert prices.price("nobody", "gpt-4.1-mini", USAGE, AT) is None
        assert prices.price("scripted", "gpt-4.1-mini", USAGE, AT) is None


def test_a_service_of_another_name_is_priced_by_its_address() -> None:
    prices = PriceBook()
    assert prices.price("openai", "gpt-4.1-mini", USAGE, AT, served_by="http://127.0.0.1:8000/v1") is None
    deepseek = prices.price("openai", "deepseek-chat", USAGE, AT, served_by="https://api.deepseek.com/v1")
    assert deepseek is not None
    assert deepseek.amount_nano > 0


def test_a_reported_cost_beats_the_table_and_the_operator_beats_both() -> None:
    reported = Usage(prompt_tokens=1000, completion_tokens=0, cost_usd="0.0123456785")
    price = PriceBook().price("openai", "gpt-4.1-mini", reported, AT)
    assert price is not None
    assert (price.amount_nano, price.source) == (12_345_678, "provider")
    price = book(**{"gpt-4.1-mini": {"input": 2, "output": 4}}).price("openai", "gpt-4.1-mini", reported, AT)
    assert price is not None
    assert (price.amount_nano, price.source) == (2_000_000, "override")


def test_a_model_that_is_free_by_the_operators_word_costs_nothing() -> None:
    price = book(llama={"input": 0, "output": 0}).price("openai", "llama", USAGE, AT)
    assert price is not None
    assert price.amount_nano == 0


def test_names_may_have_a_provider_or_a_pattern_and_the_most_exact_wins() -> None:
    prices = book(
        **{
            "qwen*": {"input": 1, "output": 1},
            "qwen-max": {"input": 2, "output": 2},
            "openai/qwen-max": {"input": 3, "output": 3},
            "local/*": {"input": 4, "output": 4},
        }
    )
    one = Usage(prompt_tokens=1_000_000, completion_tokens=0)

    def dollars(provider: str, model: str) -> float:
        price = prices.price(provider, model, one, AT)
        assert price is not None
        return price.amount_nano / 1e9

    assert dollars("openai", "qwen-max") == 3
    assert dollars("langchain:qwen", "qwen-max") == 2
    assert dollars("openai", "qwen-plus") == 1
    assert dollars("local", "anything") == 4


def test_the_version_of_overrides_follows_their_content() -> None:
    one, same, other = (
        book(a={"input": 1, "output": 1}),
        book(a={"output": 1, "input": 1}),
        book(a={"input": 2, "output": 1}),
    )
    versions = [prices.price("p", "a", USAGE, AT).version for prices in (one, same, other)]
    assert versions[0] == versions[1] != versions[2]


@settings(deadline=None)  # the machine may be busy
@given(
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    st.decimals(0, 1000, places=4, allow_nan=False),
)
def test_amounts_are_exact_to_the_nano_dollar(prompt: int, completion: int, cached: int, rate: Decimal) -> None:
    usage = Usage(prompt_tokens=prompt + cached, completion_tokens=completion, cached_tokens=cached)
    price = PriceBook({"m": TokenPrices(input=rate, output=rate)}).price("p", "m", usage, AT)
    assert price is not None
    assert abs(Decimal(price.amount_nano) - rate * 1000 * (prompt + cached + completion)) <= Decimal("0.5")


@pytest.mark.parametrize(
    ("data", "places"),
    [
        ([], [""]),
        ({"models": {"a": 5}}, ["models.a"]),
        ({"models": {"a": {"input": -1, "ouput": 1}}}, ["models.a.input", "models.a.ouput", "models.a"]),
        ({"models": {"a": {"input": "cheap", "output": float("nan")}}}, ["models.a.input", "models.a.output"]),
        ({"models": {}, "prices": 1}, ["prices"]),
    ],
)
def test_faults_of_a_price_file_are_located(data: object, places: list[str]) -> None:
    with pytest.raises(InvalidPrices) as caught:
        parse_prices(data, source="prices.yaml")
    assert [fault.path for fault in caught.value.faults] == places


async def test_the_table_is_loaded_only_when_asked_for() -> None:
    code = (
        "import sys\n"
        "from modular_agent.engine.providers import pricing, registry, resilience\n"
        "heavy = {'genai_prices', 'aiohttp', 'jinja2', 'langchain_core', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
    prices = PriceBook()
    await prices.load()
    assert prices.price("openai", "gpt-4.1", USAGE, AT) is not None
