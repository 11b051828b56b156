"""Integers in JSON texts that 64 bits do not hold: the parser would make floats of them, which are other numbers."""

import json
from collections.abc import Iterable
from typing import Final, cast

__all__ = ["first_too_large"]

LEAST: Final = -(2**63)
GREATEST: Final = 2**64 - 1
_AS_ZEROS: Final = bytes.maketrans(b"123456789", b"000000000")
_MANY: Final = b"0" * len(str(2**63))  # digits; no number with fewer is too large
_TOO_LARGE: Final = object()


def first_too_large(text: bytes) -> str | None:
    """Where (as a JSON pointer, RFC 6901) the first such integer of a valid JSON text is; None if there is none.

    A text without many digits in a row is not parsed.
    """
    if _MANY not in text.translate(_AS_ZEROS):
        return None
    level: list[tuple[str, object]] = [("", json.loads(text, parse_int=_read))]
    while level:
        for place, value in level:
            if value is _TOO_LARGE:
                return place
        level = [(f"{place}/{key}", inner) for place, value in level for key, inner in _inside(value)]
    return None


def _read(literal: str) -> object:
    fits = len(literal) <= len(str(LEAST)) and LEAST <= int(literal) <= GREATEST
    return None if fits else _TOO_LARGE


def _inside(value: object) -> Iterable[tuple[str, object]]:
    if isinstance(value, dict):
        members = cast("dict[str, object]", value)
        return ((key.replace("~", "~0").replace("/", "~1"), inner) for key, inner in members.items())
    if isinstance(value, list):
        return ((str(place), inner) for place, inner in enumerate(cast("list[object]", value)))
    return ()
