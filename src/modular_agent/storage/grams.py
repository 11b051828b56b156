"""Pieces of text that the search index holds: short enough to find any substring, in English and in Chinese.

A text is folded (NFKC, case), then cut into runs. A run of ASCII letters and digits gives all its trigrams, its last
two characters and every single one; two letters are searched as everything that begins with them, word ends included.
A run of other characters gives every character and every pair. SQLite's own trigram tokenizer finds no Chinese word of
two characters, and its prefix queries read all that begins so before they answer: an OR of the terms does not.
"""

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple

__all__ = ["JOINED", "JOINERS", "fold", "grams_of", "is_gram", "match_of"]

MATCHED_GRAMS: Final = 16  # of a query; what more would tell, the comparison with the text tells too
LETTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
JOINERS: Final = "-_.:/@+#"
LONGEST_WORD: Final = 24  # characters of a run that is remembered


class Cut(NamedTuple):
    """How a text is cut into runs: at what is neither non-ASCII nor one of these characters."""

    ascii: str
    runs: re.Pattern[str]

    @classmethod
    def at_others_than(cls, ascii_characters: str) -> "Cut":
        return cls(ascii_characters, re.compile(rf"[{re.escape(ascii_characters)}]+|[^\x00-\x7f]+"))


WORDS: Final = Cut.at_others_than(LETTERS)
JOINED: Final = Cut.at_others_than(LETTERS + JOINERS)  # ids and names are one run: their pieces are rarer


def fold(text: str) -> str:
    """`text` as it is compared: compatibility forms and letter cases made equal (Unicode's NFKC_Casefold, nearly)."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def grams_of(folded: str, cut: Cut = WORDS) -> set[str]:
    """All grams of a folded text."""
    return set[str]().union(*map(_grams_of_run, cut.runs.findall(folded)))


def _grams_of_run(run: str) -> Iterable[str]:
    return _grams_of_word(run) if len(run) <= LONGEST_WORD else _cut_up(run)


@lru_cache(maxsize=4_096)
def _grams_of_word(run: str) -> tuple[str, ...]:
    """Cached because most words of a text have come before: a few MB at most."""
    return tuple(_cut_up(run))


def _cut_up(run: str) -> set[str]:
    grams = set(run)
    if run.isascii():
        grams.update(map("".join, zip(run, run[1:], run[2:], strict=False)))
        grams.add(run[-2:])
    else:
        grams.update(map("".join, pairwise(run)))
    return grams


def is_gram(folded: str, cut: Cut = WORDS) -> bool:
    """Whether exactly the texts that hold the folded query fulfil its expression."""
    return bool(cut.runs.fullmatch(folded)) and len(folded) <= (3 if folded.isascii() else 2)


def match_of(folded: str, cut: Cut = WORDS) -> str | None:
    """The FTS5 expression that every text containing the folded query fulfils; None where the query has no gram.

    The grams hold neither quotation marks nor spaces, so nothing in a query can act as an operator.
    """
    long: list[str] = []
    short: list[str] = []
    for run in cut.runs.findall(folded):
        if not run.isascii():
            long += [run[i : i + 2] for i in _places(len(run), 2)] if len(run) > 1 else [run]
        elif len(run) > 2:
            long += [run[i : i + 3] for i in _places(len(run), 3)]
        else:
            short.append(run)
    if long:
        chosen = list(dict.fromkeys(long))
        step = -(-len(chosen) // MATCHED_GRAMS)
        return " AND ".join(f'"{gram}"' for gram in chosen[::step])
    if not short:
        return None
    letters = max(short, key=len)
    if len(letters) == 1:
        return f'"{letters}"'
    longer = " OR ".join(f'"{letters}{following}"' for following in cut.ascii)
    return f'("{letters}" OR {longer})'  # the end of a word, or the beginning of a trigram


def _places(length: int, size: int) -> list[int]:
    """Where to take pieces of `size` out of a run so that they cover it."""
    return [*range(0, length - size, size), length - size]
