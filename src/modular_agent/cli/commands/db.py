"""`db`: the database's schema."""

from typing import TYPE_CHECKING

import typer

from modular_agent.cli.exit_codes import ExitCode
from modular_agent.cli.options import DataPath, Invocation, Json, read_settings

if TYPE_CHECKING:
    from modular_agent.cli.terminal import Terminal

__all__ = ["check", "upgrade"]


def upgrade(context: typer.Context, data_path: DataPath = None) -> None:
    """Make the database, or bring it to the newest schema (a starting server does so by itself)."""
    from modular_agent.storage.location import Location
    from modular_agent.storage.schema import upgrade_database

    terminal = Invocation.of(context).terminal
    storage = read_settings(data_path=data_path).storage
    location = Location.of(storage.data_path, url=storage.url)
    before = upgrade_database(location)
    if before.current:
        terminal.show(_newest(terminal, str(location.database), before.head))
        return
    terminal.show(
        terminal.text(
            "{file}: schema {old} -> {head}.",
            "{file}：结构 {old} -> {head}。",
            file=location.database,
            old=before.revision or terminal.text("none", "无"),
            head=before.head,
        )
    )


def check(context: typer.Context, data_path: DataPath = None, as_json: Json = False) -> None:
    """Say which schema the database has, also while a server runs; exit code 1 when it is not the newest."""
    from modular_agent.storage.location import Location
    from modular_agent.storage.schema import check_database

    terminal = Invocation.of(context).terminal
    storage = read_settings(data_path=data_path).storage
    location = Location.of(storage.data_path, url=storage.url)
    state = check_database(location)
    if as_json:
        terminal.json({"database": str(location.database), **state._asdict(), "current": state.current})
    elif state.current:
        terminal.show(_newest(terminal, str(location.database), state.head))
    else:
        terminal.show(
            terminal.text(
                "{file}: schema {old}, the newest is {head}; run: modular-agent db upgrade",
                "{file}：结构 {old}，最新为 {head}；请运行：modular-agent db upgrade",
                file=location.database,
                old=state.revision or terminal.text("none", "无"),
                head=state.head,
            )
        )
    if not state.current:
        raise typer.Exit(ExitCode.FAILED)


def _newest(terminal: "Terminal", file: str, head: str) -> str:
    return terminal.text("{file}: schema {head}, the newest.", "{file}：结构 {head}，已是最新。", file=file, head=head)
