"""The help in Chinese. The English texts are those of the commands; a test keeps the two lists equal."""

from collections.abc import Mapping
from typing import Any, Final

from modular_agent.errors import Language

__all__ = ["CHINESE", "localise"]

CHINESE: Final[Mapping[str, str]] = {}


def localise(command: Any, language: Language) -> Any:  # a command of Typer, whose classes are private
    """`command` and all below it with their help in `language`."""
    if language == "zh":
        _translate(command)
    return command


def _translate(command: Any) -> None:
    command.help = _chinese(command.help)
    command.short_help = _chinese(command.short_help)
    for parameter in command.params:
        parameter.help = _chinese(getattr(parameter, "help", None))
    for child in getattr(command, "commands", {}).values():
        _translate(child)


def _chinese(text: str | None) -> str | None:
    return CHINESE.get(text, text) if text else text
