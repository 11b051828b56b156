"""`version`: which version this is, and of what it is made."""

import typer

from modular_agent.cli.options import Invocation, Json

__all__ = ["version"]


def version(context: typer.Context, as_json: Json = False) -> None:
    """Show the version, and those of Python and the main libraries."""
    import platform
    import sqlite3
    from importlib.metadata import version as version_of

    from modular_agent import __version__

    terminal = Invocation.of(context).terminal
    parts = {
        "modular-agent": __version__,
        "python": platform.python_version(),
        "langgraph": version_of("langgraph"),
        "sqlite": sqlite3.sqlite_version,
    }
    if as_json:
        terminal.json(parts)
        return
    terminal.show("\n".join(f"{name} {number}" for name, number in parts.items()))
