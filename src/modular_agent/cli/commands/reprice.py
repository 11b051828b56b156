"""`reprice`: what model calls cost, computed again by the prices of today."""

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modular_agent.cli.options import Configs, DataPath, Invocation, Json, read_settings

if TYPE_CHECKING:
    from modular_agent.cli.terminal import Terminal
    from modular_agent.settings import Settings

__all__ = ["reprice"]


def reprice(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    data_path: DataPath = None,
    configs: Configs = None,
    as_json: Json = False,
) -> None:
    """Compute the cost of all model calls again, by prices.yaml of the configs root and the price table.

    The log keeps what was known then; statistics follow. Beside a server only a dry run is possible.
    """
    terminal = Invocation.of(context).terminal
    found = asyncio.run(_reprice(read_settings(data_path=data_path, configs=configs), dry_run=dry_run))
    if as_json:
        terminal.json({"dry_run": dry_run, **found})
    else:
        _show(terminal, found, dry_run=dry_run)


async def _reprice(settings: "Settings", *, dry_run: bool) -> dict[str, Any]:
    from modular_agent.domain.analytics.repricing import Repriced, Repricing
    from modular_agent.engine.providers.price_file import read_prices
    from modular_agent.engine.providers.pricing import PriceBook
    from modular_agent.storage.database import Database
    from modular_agent.storage.location import Location
    from modular_agent.storage.readers import Readers

    storage = settings.storage
    prices = PriceBook(await asyncio.to_thread(read_prices, storage.config_path))
    location = Location.of(storage.data_path, url=storage.url)
    if not location.database.exists():
        return Repriced().view()
    if dry_run:
        async with Readers(location.database) as readers:
            return (await Repricing(readers, writer=None, prices=prices).run()).view()
    async with Database.open(storage.data_path, url=storage.url) as database:
        return (await Repricing(database.readers, writer=database.writer, prices=prices).run()).view()


def _show(terminal: "Terminal", found: dict[str, Any], *, dry_run: bool) -> None:
    changed = found["changed"]
    figures = {
        "examined": found["examined"],
        "calls": changed["calls"],
        "before": f"{changed['cost_before']:.6f}",
        "after": f"{changed['cost_after']:.6f}",
    }
    if dry_run:
        english = "{examined} calls, of which {calls} would change: {before} USD -> {after} USD."
        chinese = "共 {examined} 次调用，其中 {calls} 次将改变：{before} 美元 -> {after} 美元。"
    else:
        english = "{examined} calls, of which {calls} changed: {before} USD -> {after} USD."
        chinese = "共 {examined} 次调用，其中 {calls} 次已改变：{before} 美元 -> {after} 美元。"
    terminal.show(terminal.text(english, chinese, **figures))
    for model, sums in found["by_model"].items():
        terminal.show(
            f"  {model}: {sums['calls']}  {sums['cost_before']:.6f} -> {sums['cost_after']:.6f} USD"
            f"  ({sums['unpriced_tokens_before']} -> {sums['unpriced_tokens_after']} unpriced)"
        )
