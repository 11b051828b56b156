"""Snippets: the part of a text around what was found, with the places that match."""

import re
from html import escape
from typing import Final

from modular_agent.kit.dataclass import dataclass
from modular_agent.storage.grams import fold

__all__ = ["Fragment", "Snippet", "snippet_of"]

BEFORE: Final = 60  # characters in front of the first match
LENGTH: Final = 240
MAPPED: Final = 20_000  # characters: longer lines are cut before they are mapped
_ELLIPSIS: Final = "…"


@dataclass(frozen=True, slots=True)
class Fragment:
    """A piece of a snippet; `match` says whether it is what was searched for."""

    text: str
    match: bool


@dataclass(frozen=True, slots=True)
class Snippet:
    """Fragments that, one after the other, are the snippet. None of them is marked where the places are not certain."""

    fragments: tuple[Fragment, ...]

    def html(self) -> str:
        """Safe HTML: everything escaped, matches in `<mark>`."""
        return "".join(f"<mark>{escape(f.text)}</mark>" if f.match else escape(f.text) for f in self.fragments)

    def text(self) -> str:
        return "".join(fragment.text for fragment in self.fragments)


def snippet_of(text: str, wanted: str) -> Snippet:
    """The snippet of `text`, which holds `wanted` (folded) once both are folded."""
    start, part = _neighbourhood(text, wanted)
    folded, places = _mapping(part)
    at = folded.find(wanted)
    if at < 0 or fold(part) != folded:  # combining marks, half-width kana: characters fold together
        return _unmarked(text, start)
    first = max(0, places[at] - BEFORE)
    last = max(first + LENGTH, places[at + len(wanted) - 1] + 1)
    spans = _spans(folded, places, wanted, last)
    return _cut(text, start + first, min(len(text), start + last), [(start + a, start + b) for a, b in spans])


def _neighbourhood(text: str, wanted: str) -> tuple[int, str]:
    """A part of `text` to look at, and where it starts: all of it, or the lines around the match in a long one."""
    if len(text) <= MAPPED:
        return 0, text
    if text.isascii():
        at = max(0, text.lower().find(wanted) - BEFORE)
        return at, text[at : at + LENGTH + len(wanted)]
    start = 0
    for line in re.findall(r"[^\n]*\n|[^\n]+", text):  # no fold reaches across a newline
        if wanted in fold(line):
            return _halved(line, wanted, start)
        start += len(line)
    return 0, text[:MAPPED]


def _halved(line: str, wanted: str, start: int) -> tuple[int, str]:
    """The smallest half of a half ... of `line` that still holds `wanted`."""
    while len(line) > MAPPED:
        third = len(line) // 3
        for offset in (0, third, len(line) - 2 * third):
            piece = line[offset : offset + 2 * third]
            if wanted in fold(piece):
                line, start = piece, start + offset
                break
        else:
            return start, line
    return start, line


def _mapping(text: str) -> tuple[str, list[int] | range]:
    """The characters of `text` folded one by one, and for each folded one the index of the character it came from."""
    if text.isascii():
        return text.lower(), range(len(text))
    pieces: list[str] = []
    places: list[int] = []
    for index, character in enumerate(text):
        piece = fold(character)
        pieces.append(piece)
        places.extend([index] * len(piece))
    return "".join(pieces), places


def _spans(folded: str, places: list[int] | range, wanted: str, last: int) -> list[tuple[int, int]]:
    """Where `wanted` is, up to `last`, in the text's own characters."""
    spans: list[tuple[int, int]] = []
    at = folded.find(wanted)
    while at >= 0 and places[at] < last:
        begin, end = places[at], places[at + len(wanted) - 1] + 1
        if not spans or begin >= spans[-1][1]:
            spans.append((begin, end))
        at = folded.find(wanted, at + len(wanted))
    return spans


def _cut(text: str, first: int, last: int, spans: list[tuple[int, int]]) -> Snippet:
    fragments: list[Fragment] = []
    here = first
    for begin, end in spans:
        if end > last:
            break
        fragments.append(Fragment(text[here:begin], False))
        fragments.append(Fragment(text[begin:end], True))
        here = end
    fragments.append(Fragment(text[here:last], False))
    if first > 0:
        fragments.insert(0, Fragment(_ELLIPSIS, False))
    if last < len(text):
        fragments.append(Fragment(_ELLIPSIS, False))
    return Snippet(tuple(_joined([f for f in fragments if f.text])))


def _joined(fragments: list[Fragment]) -> list[Fragment]:
    """Neighbours that do not match, as one."""
    joined: list[Fragment] = []
    for fragment in fragments:
        if joined and not fragment.match and not joined[-1].match:
            joined[-1] = Fragment(joined[-1].text + fragment.text, False)
        else:
            joined.append(fragment)
    return joined


def _unmarked(text: str, start: int) -> Snippet:
    return _cut(text, start, min(len(text), start + LENGTH), [])
