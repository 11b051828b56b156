"""What is wrong with a request, and where."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from modular_agent.errors import Fault, Text
from modular_agent.validation import validation_text

__all__ = ["request_faults"]


def request_faults(errors: Iterable[Mapping[str, Any]], body: object) -> list[Fault]:
    """The faults behind a validator's errors (mappings of `type`, `loc`, `msg`, `ctx`), each place and text once."""
    faults: dict[tuple[str, Text], Fault] = {}
    for error in errors:
        path = _path(error["loc"], body, missing=error["type"] == "missing")
        code, text = validation_text(error)
        faults.setdefault((path, text), Fault(code=code, text=text, path=path))
    return list(faults.values())


def _path(loc: Sequence[str | int], body: object, *, missing: bool) -> str:
    """`loc` as a JSON pointer (RFC 6901) behind the part of the request, without the names of the validator's types."""
    part, *keys = loc
    if part != "body":
        return "/".join(["", str(part), *(_escape(key) for key in keys[:1])])
    steps: list[str] = []
    place = body
    for number, key in enumerate(keys):
        held, inner = _inside(place, key)
        if held:
            place = inner
        if held or (missing and number == len(keys) - 1):
            steps.append(_escape(key))
    return "/".join(["", "body", *steps])


def _inside(place: object, key: str | int) -> tuple[bool, object]:
    """Whether `place` of the body holds `key`, and what is there."""
    if isinstance(place, dict):
        mapping = cast(dict[str | int, object], place)
        return key in mapping, mapping.get(key)
    if isinstance(place, list) and isinstance(key, int):
        items = cast(list[object], place)
        return key < len(items), items[key] if key < len(items) else None
    return False, None


def _escape(key: str | int) -> str:
    return str(key).replace("~", "~0").replace("/", "~1")
