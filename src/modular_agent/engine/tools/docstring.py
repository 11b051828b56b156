"""Google-style docstrings: the text before the sections, and the entries of `Args:`.

Source of the format: https://google.github.io/styleguide/pyguide.html#383-functions-and-methods
"""

import inspect
import re
from typing import Final

from modular_agent.kit.dataclass import dataclass

__all__ = ["Docstring"]

SECTION: Final = re.compile(
    r"^(Args|Arguments|Parameters|Params|Returns|Return|Yields|Raises|Example|Examples|Note|Notes|Attributes|See Also|"
    r"Todo|Warning|Warnings|References):\s*$"
)
ARGUMENTS: Final = frozenset({"Args", "Arguments", "Parameters", "Params"})
ENTRY: Final = re.compile(r"^\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)$")


@dataclass(frozen=True, slots=True)
class Docstring:
    """A docstring's text without its sections, and a description for each parameter it names."""

    text: str
    parameters: dict[str, str]

    @classmethod
    def parse(cls, raw: str | None) -> "Docstring":
        text: list[str] = []
        arguments: list[str] = []
        target: list[str] | None = text
        for line in inspect.cleandoc(raw or "").splitlines():
            if section := SECTION.match(line):
                target = arguments if section[1] in ARGUMENTS else None
            elif target is not None:
                target.append(line)
        return cls("\n".join(text).strip(), _entries(inspect.cleandoc("\n" + "\n".join(arguments)).splitlines()))


def _entries(lines: list[str]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in lines:
        if line[:1].strip() and (entry := ENTRY.match(line)):
            current = found.setdefault(entry[1], [])
            current.append(entry[2].strip())
        elif line.strip():
            current.append(line.strip())
    return {name: " ".join(part for part in parts if part) for name, parts in found.items()}
