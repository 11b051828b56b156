"""What a call of a model costs.

Three sources, the first that knows wins: the operator's own prices (`parse_prices`), the cost the provider itself
reported, the table of the `genai-prices` package (MIT; its data is part of the installation and never updates itself).
What none of them knows has no price: None, never 0.
"""

import asyncio
import fnmatch
import hashlib
from collections.abc import Callable, Mapping
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from functools import partial
from types import ModuleType
from typing import Any, Final, Literal, TypeAlias, cast

import orjson

from modular_agent.engine.providers.errors import InvalidPrices
from modular_agent.engine.providers.port import Usage
from modular_agent.errors import Fault, Text
from modular_agent.kit.clock import utc_datetime
from modular_agent.kit.dataclass import dataclass

__all__ = ["Price", "PriceBook", "PriceSource", "TokenPrices", "parse_prices"]

PriceSource: TypeAlias = Literal["override", "provider", "genai-prices"]

_NANO: Final = Decimal(1_000_000_000)
_MILLION: Final = Decimal(1_000_000)
_KEYS: Final = ("input", "output", "cached", "cache_write")
_TABLE_PRICES: Final = ("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok")
_PROBES: Final = (
    Usage(prompt_tokens=1003, completion_tokens=107, cached_tokens=211, cache_write_tokens=109),
    Usage(prompt_tokens=7_000_003, completion_tokens=900_007, cached_tokens=1_000_211, cache_write_tokens=2_000_109),
)
MAX_REMEMBERED: Final = 1000
"""Models whose look-up is remembered: their names come from providers, so they must not collect without end."""

# The names of LangChain's packages where the table has others.
_TABLE_NAMES: Final = {
    "azure_openai": "azure",
    "bedrock": "aws",
    "bedrock_converse": "aws",
    "google_genai": "google",
    "google_vertexai": "google",
    "mistralai": "mistral",
    "xai": "x-ai",
}
_PRICE: Final = Text(
    "a price is a number of US dollars per million tokens, 0 or more", "价格是每百万 token 的美元数，不得小于 0"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a call costs: `amount_nano` billionths of a US dollar. `version` is that of the prices used."""

    amount_nano: int
    source: PriceSource
    version: str
    currency: str = "USD"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPrices:
    """US dollars per million tokens; `cached` and `cache_write` None cost what `input` does."""

    input: Decimal
    output: Decimal
    cached: Decimal | None = None
    cache_write: Decimal | None = None

    def cost(self, usage: Usage) -> Decimal:
        """The cost of `usage` in US dollars."""
        plain = usage.prompt_tokens - usage.cached_tokens - usage.cache_write_tokens
        cached = self.input if self.cached is None else self.cached
        written = self.input if self.cache_write is None else self.cache_write
        total = (
            plain * self.input
            + usage.cached_tokens * cached
            + usage.cache_write_tokens * written
            + usage.completion_tokens * self.output
        )
        return total / _MILLION


class PriceBook:
    """Looks up prices. `overrides` are by `model` or `provider/model`; `*` stands for any characters in either."""

    def __init__(self, overrides: Mapping[str, TokenPrices] | None = None) -> None:
        self._table: ModuleType | None = None
        self._unknown: set[tuple[str, str, str]] = set()
        self._flat: dict[tuple[str, str, str], TokenPrices] = {}
        self.take(overrides or {})

    def take(self, overrides: Mapping[str, TokenPrices]) -> None:
        """Has other `overrides` count from the next call on."""
        given = dict(overrides)
        self._exact = {name: prices for name, prices in given.items() if "*" not in name}
        self._patterns = {name: prices for name, prices in given.items() if "*" in name}
        self._version = _fingerprint(given) if given else ""

    async def load(self) -> None:
        """Loads the table in a thread (a third of a second); without this the first `price` does it in place."""
        await asyncio.to_thread(self._load)

    def price(self, provider: str, model: str, usage: Usage, at: int, *, served_by: str = "") -> Price | None:
        """The price of a call made `at` (microseconds since the epoch), None if nobody knows it.

        `served_by` is `Completion.served_by`: a service of another name is priced by its address, not by the protocol
        it speaks, so that a model on one's own machine has no price unless the operator gave one.
        """
        prices = self._override(provider, model) if self._exact or self._patterns else None
        if prices is not None:
            return Price(amount_nano=_nano(prices.cost(usage)), source="override", version=self._version)
        if usage.cost_usd is not None:
            return Price(amount_nano=_nano(Decimal(usage.cost_usd)), source="provider", version="")
        if provider == "scripted":
            return None
        return self._from_table(provider, model, usage, at, served_by)

    def overrides(self, provider: str, model: str) -> bool:
        """Whether the operator gave prices of this model."""
        return self._override(provider, model) is not None

    def _override(self, provider: str, model: str) -> TokenPrices | None:
        names = (f"{provider}/{model}", model)
        for name in names:
            if name in self._exact:
                return self._exact[name]
        for pattern, prices in self._patterns.items():
            if any(fnmatch.fnmatchcase(name, pattern) for name in names):
                return prices
        return None

    def _from_table(self, provider: str, model: str, usage: Usage, at: int, served_by: str) -> Price | None:
        key = (provider, model, served_by)
        if key in self._unknown:
            return None
        table = self._load()
        flat = self._flat.get(key)
        if flat is not None:
            return Price(amount_nano=_nano(flat.cost(usage)), source="genai-prices", version=table.__version__)
        name = provider.removeprefix("langchain:")
        where = {"provider_api_url": served_by} if served_by else {"provider_id": _TABLE_NAMES.get(name, name)}
        ask = partial(_ask, table, model=model, at=at, where=where)
        try:
            found = ask(usage)
        except LookupError:
            if len(self._unknown) < MAX_REMEMBERED:
                self._unknown.add(key)
            return None
        if len(self._flat) < MAX_REMEMBERED and (flat := _flat_prices(found, ask)) is not None:
            self._flat[key] = flat
        return Price(amount_nano=_nano(found.total_price), source="genai-prices", version=table.__version__)

    def _load(self) -> ModuleType:
        if self._table is None:
            # Imported here: its data is 30,000 lines, and a server that never asks shall not wait for them.
            import genai_prices
            from genai_prices import data_snapshot

            data_snapshot.get_snapshot()
            self._table = genai_prices
        return self._table


def _ask(table: ModuleType, usage: Usage, *, model: str, at: int, where: Mapping[str, str]) -> Any:
    """The table's own calculation, a `PriceCalculation` (untyped here: the package is imported late)."""
    counts = table.Usage(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        cache_read_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
    )
    return table.calc_price(counts, model, genai_request_timestamp=utc_datetime(at), **where)


def _flat_prices(found: Any, ask: Callable[[Usage], Any]) -> TokenPrices | None:
    """The prices behind `found` if they are one number for each kind of token at any time, else None.

    Most are, and adding up five numbers takes a twentieth of the time of the table's own calculation. Whether they
    really are (no tiers, no price for each request) is tried out on a small and a large call.
    """
    if isinstance(found.model.prices, list):  # they depend on the time
        return None
    parts = (getattr(found.model_price, name, None) for name in _TABLE_PRICES)
    rates = {key: rate for key, rate in zip(_KEYS, parts, strict=True) if rate is not None}
    if not {"input", "output"} <= set(rates) or not all(isinstance(rate, Decimal) for rate in rates.values()):
        return None
    flat = TokenPrices(**rates)
    return flat if all(ask(probe).total_price == flat.cost(probe) for probe in _PROBES) else None


def parse_prices(data: Any, *, source: str) -> dict[str, TokenPrices]:  # parsed YAML: any value
    """The prices in `data`, `{models: {NAME: {input, output, cached?, cache_write?}}}` in USD per million tokens.

    `source` is the file's name. Raises `InvalidPrices` with every fault and its key path.
    """
    faults: list[Fault] = []
    models = cast("Mapping[str, Any]", data).get("models") if isinstance(data, Mapping) else None
    if not isinstance(models, Mapping):
        text = Text("expected {models: {NAME: prices}}", "应为 {models: {名称: 价格}}")
        raise InvalidPrices([Fault(code="price_shape", text=text, file=source)])
    faults += [
        Fault(code="price_key", text=_unknown(key), path=str(key), file=source)
        for key in cast("Mapping[str, Any]", data)
        if key != "models"
    ]
    result: dict[str, TokenPrices] = {}
    for name, entry in cast("Mapping[Any, Any]", models).items():
        prices = _entry(entry, path=f"models.{name}", source=source, faults=faults)
        if prices is not None:
            result[str(name)] = prices
    if faults:
        raise InvalidPrices(faults)
    return result


def _entry(entry: Any, *, path: str, source: str, faults: list[Fault]) -> TokenPrices | None:  # one model's prices
    if not isinstance(entry, Mapping):
        text = Text("expected {input, output}", "应为 {input, output}")
        faults.append(Fault(code="price_shape", text=text, path=path, file=source))
        return None
    found: dict[str, Decimal] = {}
    count = len(faults)
    for key, value in cast("Mapping[Any, Any]", entry).items():
        place = f"{path}.{key}"
        if key not in _KEYS:
            faults.append(Fault(code="price_key", text=_unknown(key), path=place, file=source))
            continue
        price = _price(value)
        if price is None:
            faults.append(Fault(code="price_value", text=_PRICE, path=place, file=source))
        else:
            found[key] = price
    faults += [
        Fault(code="price_missing", text=Text(f"{key} is missing", f"缺少 {key}"), path=path, file=source)
        for key in ("input", "output")
        if key not in cast("Mapping[Any, Any]", entry)
    ]
    return TokenPrices(**found) if len(faults) == count else None


def _unknown(key: object) -> Text:
    return Text(f"unknown key {key!r}", f"未知的键 {key!r}")


def _price(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        price = Decimal(str(value))
    except InvalidOperation:
        return None
    return price if price.is_finite() and price >= 0 else None


def _nano(dollars: Decimal) -> int:
    return int((dollars * _NANO).to_integral_value(ROUND_HALF_EVEN))


def _fingerprint(overrides: Mapping[str, TokenPrices]) -> str:
    """A short name for a set of prices: equal sets have equal names."""
    rows = [[name, *(str(getattr(prices, key)) for key in _KEYS)] for name, prices in sorted(overrides.items())]
    return hashlib.sha256(orjson.dumps(rows)).hexdigest()[:12]
