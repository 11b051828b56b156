"""The language of what a person reads in the terminal."""

from collections.abc import Mapping
from typing import Final

from modular_agent.errors import Language

__all__ = ["language_of"]

_VARIABLES: Final = ("LC_ALL", "LC_MESSAGES", "LANG")  # the first that is set decides (POSIX)


def language_of(environment: Mapping[str, str]) -> Language:
    """Chinese for a Chinese locale (`zh_CN.UTF-8`), English for every other and without one."""
    for name in _VARIABLES:
        value = environment.get(name)
        if value:
            return "zh" if value.lower().startswith("zh") else "en"
    return "en"
