"""The application: its commands, its options, and what becomes of errors."""

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from modular_agent.cli.commands import db, history, keys, sessions
from modular_agent.cli.commands.draw import draw
from modular_agent.cli.commands.init import init
from modular_agent.cli.commands.reprice import reprice
from modular_agent.cli.commands.run import run
from modular_agent.cli.commands.serve import serve
from modular_agent.cli.commands.test import try_out
from modular_agent.cli.commands.validate import validate
from modular_agent.cli.commands.version import version
from modular_agent.cli.exit_codes import ExitCode, exit_code_of
from modular_agent.cli.help_texts import localise
from modular_agent.cli.language import language_of
from modular_agent.cli.options import Invocation
from modular_agent.cli.terminal import Terminal, open_terminal
from modular_agent.errors import AgentError

__all__ = ["main", "make_app"]


def make_app() -> typer.Typer:
    """The commands with their English texts."""
    app = typer.Typer(
        name="modular-agent",
        help="Runs AI-agent workflows: YAML files, durable sessions, one log of everything.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_invocation)
    for command in (run, serve, init, validate):
        app.command(command.__name__)(command)
    app.command("test")(try_out)
    app.command("draw")(draw)
    app.command("reprice")(reprice)
    app.command("version")(version)
    listed = typer.Typer(help="Look at sessions, also while a server runs.", no_args_is_help=True)
    listed.command("list")(sessions.list_sessions)
    listed.command("show")(sessions.show)
    app.add_typer(listed, name="sessions")
    logs = typer.Typer(help="Search, export and check the logs of sessions.", no_args_is_help=True)
    for command in (history.search, history.export, history.reindex, history.verify, history.rebuild):
        logs.command(command.__name__)(command)
    app.add_typer(logs, name="history")
    access = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True)
    access.command("create")(keys.create)
    access.command("list")(keys.list_keys)
    access.command("revoke")(keys.revoke)
    app.add_typer(access, name="keys")
    database = typer.Typer(help="Look after the database.", no_args_is_help=True)
    database.command("upgrade")(db.upgrade)
    database.command("check")(db.check)
    app.add_typer(database, name="db")
    return app


def _invocation(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show stack traces and debug logs.")] = False,
) -> None:
    context.obj = Invocation(open_terminal(os.environ, debug=debug))


def main(arguments: Sequence[str] | None = None) -> int:
    """Carries out a command line; answers the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    try:
        command = localise(typer.main.get_command(make_app()), language_of(os.environ))
        command(args=given, prog_name="modular-agent")
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(bool(done.code))
    except AgentError as error:
        return _told(open_terminal(os.environ, debug=debug), error)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads on: nothing more to flush there
        return ExitCode.FAILED
    except Exception as error:  # noqa: BLE001 - the last one to hear of it tells the person
        return _unexpected(open_terminal(os.environ, debug=debug), error)
    return ExitCode.OK


def _told(terminal: Terminal, error: AgentError) -> int:
    if terminal.debug:
        traceback.print_exception(error)
    terminal.error(error)
    return exit_code_of(error)


def _unexpected(terminal: Terminal, error: Exception) -> int:
    if terminal.debug:
        traceback.print_exception(error)
        return ExitCode.FAILED
    terminal.say(
        terminal.text(
            "error[internal_error]: {kind}: {text}\n(modular-agent --debug ... shows where.)",
            "error[internal_error]：{kind}：{text}\n（modular-agent --debug ... 会显示出处。）",
            kind=type(error).__name__,
            text=str(error).replace("{", "{{").replace("}", "}}") or "-",
        )
    )
    return ExitCode.FAILED
