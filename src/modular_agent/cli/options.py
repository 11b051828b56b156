"""Options that several commands have, and the settings that follow from them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modular_agent.kit.dataclass import dataclass

if TYPE_CHECKING:
    from modular_agent.cli.terminal import Terminal
    from modular_agent.settings import Settings

__all__ = ["Configs", "DataPath", "Invocation", "Json", "names_root", "read_settings"]

DataPath = Annotated[
    Path | None, typer.Option("--data-path", metavar="DIR", help="The directory of all data (DATA_PATH; data).")
]
Configs = Annotated[
    Path | None,
    typer.Option("--configs", metavar="DIR", help="The configs root, with workflows and tools (CONFIG_PATH; configs)."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@dataclass(frozen=True, slots=True)
class Invocation:
    """What every command gets by its context: the terminal."""

    terminal: "Terminal"

    @staticmethod
    def of(context: typer.Context) -> "Invocation":
        found = context.find_object(Invocation)
        assert found is not None
        return found


def read_settings(*, data_path: Path | None = None, configs: Path | None = None, **more: str | None) -> "Settings":
    """The settings of the environment and `.env`, with what the command line says on top. Raises `InvalidSettings`."""
    from modular_agent.settings import load_settings

    given = {
        "DATA_PATH": None if data_path is None else str(data_path),
        "CONFIG_PATH": None if configs is None else str(configs),
        **more,
    }
    return load_settings(given)


def names_root(configs: Path | None) -> bool:
    """Whether the person said which configs root is meant, by `configs` or by CONFIG_PATH."""
    from modular_agent.settings import environment

    return configs is not None or bool(environment().get("CONFIG_PATH"))
