"""`${env.NAME}` and `${env.NAME:-default}` in text; `$${` stands for `${`.

As in a shell, the default counts when the variable is missing or empty.
"""

import re
from collections.abc import Mapping

from modular_agent.kit.dataclass import dataclass

__all__ = ["Interpolated", "interpolate"]

_PATTERN = re.compile(
    r"\$(?:(?P<escape>\$\{)|\{env\.(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^{}]*))?\})?)",
)


@dataclass(frozen=True, slots=True)
class Interpolated:
    """The text with the environment put in; names that are missing; whether a `${env.` is not well formed."""

    text: str
    missing: tuple[str, ...] = ()
    malformed: bool = False
    used: bool = False  # whether anything of the environment (or a default) went in


def interpolate(text: str, *, environment: Mapping[str, str]) -> Interpolated:
    """Fills in `text` from `environment`; a missing variable leaves nothing and is named in the result."""
    if "${" not in text:
        return Interpolated(text)
    missing: list[str] = []
    malformed = used = False

    def fill(match: re.Match[str]) -> str:
        nonlocal malformed, used
        if match["escape"]:
            return "${"
        name, default = match["name"], match["default"]
        if name is None:
            malformed = True
            return match[0]
        used = True
        value = environment.get(name)
        if value or (value is not None and default is None):
            return value
        if default is None:
            missing.append(name)
            return ""
        return default

    filled = _PATTERN.sub(fill, text)
    return Interpolated(filled, tuple(missing), malformed, used)
