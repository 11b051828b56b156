"""`keys`: API keys are made, listed and revoked; through the server where one owns the data path."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import orjson
import typer

from modular_agent.cli.options import DataPath, Invocation, Json, read_settings

if TYPE_CHECKING:
    from modular_agent.cli.terminal import Terminal
    from modular_agent.domain.auth import ApiKeys
    from modular_agent.settings import Settings

__all__ = ["create", "list_keys", "revoke"]

T = TypeVar("T")
Server = Annotated[
    str | None,
    typer.Option("--server", metavar="URL", help="The server that owns the data path (http://HOST:PORT)."),
]
Amounts = list[str] | None


def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What people call the key.")],
    per_day: Annotated[
        Amounts, typer.Option(metavar="LIMIT=N", help="A limit of each UTC day, such as max_cost_usd=5; repeatable.")
    ] = None,
    per_run: Annotated[Amounts, typer.Option(metavar="LIMIT=N", help="A limit of each run; repeatable.")] = None,
    total: Annotated[Amounts, typer.Option(metavar="LIMIT=N", help="A limit of all runs; repeatable.")] = None,
    server: Server = None,
    data_path: DataPath = None,
    as_json: Json = False,
) -> None:
    """Make an API key, and show its secret this once.

    Runs started with the key are charged to it. Also while a server runs: it makes the key then.
    """
    from modular_agent.domain.auth import checked_key_limits, key_view

    terminal = Invocation.of(context).terminal
    limits = checked_key_limits(_limits(per_day=per_day, per_run=per_run, total=total))

    async def make(keys: "ApiKeys") -> dict[str, Any]:
        row, secret = await keys.create(name, limits=limits)
        return {**key_view(row), "secret": secret}

    body = {"name": name, "limits": limits}
    made = _write(terminal, make, "POST", "/keys", body, server=server, settings=read_settings(data_path=data_path))
    if as_json:
        terminal.json(made)
        return
    terminal.say(terminal.text("Keep it now: it is not shown again.", "请立即保存：此密钥不会再次显示。"))
    terminal.show(made["secret"])


def list_keys(context: typer.Context, data_path: DataPath = None, as_json: Json = False) -> None:
    """List API keys, oldest first, also while a server runs; never a secret."""
    from modular_agent.cli.commands.sessions import reading
    from modular_agent.domain.auth import key_view
    from modular_agent.storage.repositories.api_keys import ApiKeyRepository, ApiKeyRow

    terminal = Invocation.of(context).terminal

    async def read(readers: Any) -> list[ApiKeyRow]:  # Readers, or None where there is no database
        return [] if readers is None else await ApiKeyRepository(readers).all()

    rows = [key_view(row) for row in asyncio.run(reading(data_path, read))]
    if as_json:
        terminal.json({"keys": rows})
        return
    if not rows:
        terminal.say(terminal.text("No keys.", "没有密钥。"))
    for row in rows:
        state = terminal.text("revoked", "已撤销") if row["revoked_at"] else terminal.text("in use", "有效")
        used = row["last_used_at"] or terminal.text("never used", "从未使用")
        terminal.show("\t".join((row["prefix"], row["name"], state, used, orjson.dumps(row["limits"]).decode())))


def revoke(
    context: typer.Context,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The id of the key, or how its secret begins.")],
    server: Server = None,
    data_path: DataPath = None,
    as_json: Json = False,
) -> None:
    """Revoke an API key: from the next request on it is refused. Also while a server runs."""
    from urllib.parse import quote

    from modular_agent.domain.auth import key_view

    terminal = Invocation.of(context).terminal

    async def end(keys: "ApiKeys") -> dict[str, Any]:
        return key_view(await keys.revoke(key))

    path = f"/keys/{quote(key, safe='')}"
    row = _write(terminal, end, "DELETE", path, None, server=server, settings=read_settings(data_path=data_path))
    if as_json:
        terminal.json(row)
    else:
        terminal.show(terminal.text("{prefix} ({name}) is revoked.", "{prefix}（{name}）已撤销。", **row))


def _limits(**given: Amounts) -> dict[str, Any]:
    """The limits of a key from `LIMIT=N` texts. Raises `ArgumentInvalid`."""
    from modular_agent.cli.errors import ArgumentInvalid

    limits: dict[str, Any] = {}
    for period, texts in given.items():
        amounts: dict[str, Any] = {}
        for text in texts or ():
            name, separator, value = text.partition("=")
            if not separator or not value:
                option = f"--{period.replace('_', '-')}"
                raise ArgumentInvalid(option=option, value=repr(text), example="max_cost_usd=5")
            amounts[name] = _number(value)
        if period == "total":
            limits.update(amounts)
        elif amounts:
            limits[period] = amounts
    return limits


def _number(text: str) -> Any:  # a JSON value: what is no number is left for the check
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _write(
    terminal: "Terminal",
    here: "Callable[[ApiKeys], Coroutine[Any, Any, dict[str, Any]]]",
    method: str,
    path: str,
    body: dict[str, Any] | None,
    *,
    server: str | None,
    settings: "Settings",
) -> dict[str, Any]:
    """Does it here, or through the server that was named or owns the data path."""
    from modular_agent.cli.remote import RemoteServer
    from modular_agent.storage.errors import DataPathInUse

    if server is None:
        try:
            return asyncio.run(_here(settings, here))
        except DataPathInUse:
            server = f"http://{settings.http.host}:{settings.http.port}"
    return RemoteServer(server, language=terminal.language).call(method, path, body)


async def _here(settings: "Settings", act: "Callable[[ApiKeys], Coroutine[Any, Any, T]]") -> T:
    from modular_agent.domain.auth import ApiKeys
    from modular_agent.kit.clock import SystemClock
    from modular_agent.storage.database import Database

    storage = settings.storage
    async with (
        Database.open(storage.data_path, url=storage.url) as database,
        ApiKeys(database, clock=SystemClock()) as keys,
    ):
        return await act(keys)
