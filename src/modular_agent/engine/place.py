"""Where something stands in a file, for messages that a person can follow."""

import difflib
from collections.abc import Iterable
from typing import TypeAlias

from modular_agent.errors import Fault, Text
from modular_agent.kit.dataclass import dataclass

__all__ = ["KeyPath", "Place", "closest", "fault_at", "path_text"]

KeyPath: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """A file (relative to the configs root) with line and column, counted from 1, and the key path there."""

    file: str | None = None
    line: int | None = None
    column: int | None = None
    path: str = ""

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        return " ".join(part for part in (place, self.path) if part)


def fault_at(place: Place, code: str, text: Text, *, suggestion: str | None = None, path: str | None = None) -> Fault:
    """A fault at `place`; `path` when the key path is another (a key that is missing there)."""
    return Fault(
        code=code,
        text=text,
        path=place.path if path is None else path,
        file=place.file,
        line=place.line,
        column=place.column,
        suggestion=suggestion,
    )


def path_text(path: KeyPath) -> str:
    """`("edges", 2, "when")` as `edges[2].when`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def closest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that `name` is probably a typo of, or None."""
    known = list(candidates)
    folded = {candidate.casefold(): candidate for candidate in known}
    matches = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if matches or name.casefold() in folded:
        return matches[0] if matches else folded[name.casefold()]
    letters = sorted(name)  # two letters changed places in a short word: difflib finds them too far apart
    return next((candidate for candidate in known if sorted(candidate) == letters), None)
