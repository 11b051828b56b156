"""Values as they are written at a command line."""

from collections.abc import Sequence
from typing import Any

from modular_agent.cli.errors import ArgumentInvalid

__all__ = ["json_or_text", "state_of"]


def state_of(pairs: Sequence[str]) -> dict[str, Any]:
    """The state of `KEY=JSON` pairs. Raises `ArgumentInvalid`."""
    import orjson

    state: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        try:
            state[key] = orjson.loads(text)
        except orjson.JSONDecodeError:
            equals = ""
        if not equals or not key:
            raise ArgumentInvalid(option="--state", value=pair, example="""'score=0.5', 'name="Ada"'""")
    return state


def json_or_text(text: str) -> Any:  # any JSON value
    """The JSON value that `text` is, or else the text itself."""
    import orjson

    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
