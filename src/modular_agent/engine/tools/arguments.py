"""The arguments that a model wrote, as a mapping; or what to tell the model about them."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final, cast

import orjson
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import Draft202012Validator, validator_for
from referencing import Registry

from modular_agent.engine.tools.outcomes import failed
from modular_agent.engine.tools.plain_schema import fitting, is_fitting
from modular_agent.engine.tools.port import ToolOutcome

__all__ = ["ArgumentSchema", "parse_arguments"]

SHOWN: Final = 10  # faults in one answer
ERROR: Final = "InvalidArguments"
LONG: Final = re.compile(r"\d{19}")


def parse_arguments(text: str) -> dict[str, Any] | ToolOutcome:
    """The object that the JSON `text` holds; an outcome for the model when it does not hold one.

    What the log and the checkpoints cannot hold is refused here: half characters, integers beyond 64 bits. Empty text
    is an empty object: that is how some models call a tool without arguments.
    """
    if not text.strip():
        return {}
    try:
        value = orjson.loads(text)
        if LONG.search(text):
            json.loads(text, parse_int=_bounded_integer)  # orjson makes floats of them
    except (ValueError, RecursionError) as error:
        decoding = isinstance(error, json.JSONDecodeError)
        place = f"{error.msg} at line {error.lineno} column {error.colno}" if decoding else str(error)
        return failed(f"The arguments are not valid JSON: {place}. Send one JSON object.", error_type=ERROR)
    if not isinstance(value, dict):
        kinds: dict[type, str] = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
        name = kinds.get(type(cast(object, value)), "a number")
        return failed(f"The arguments must be one JSON object, not {name}.", error_type=ERROR)
    return cast(dict[str, Any], value)


class ArgumentSchema:
    """A JSON Schema, compiled once. References to other documents are never fetched."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        kind: type[Validator] = validator_for(schema, default=Draft202012Validator)
        self._validator = kind(cast(Any, schema), registry=Registry())
        self.usable = True
        try:
            kind.check_schema(cast(Any, schema))
        except SchemaError:
            self.usable = False  # a server's own mistake: the server checks the arguments itself
        self._plain = fitting(schema) if self.usable else None

    def check(self, arguments: Mapping[str, Any]) -> ToolOutcome | None:
        """None when `arguments` fit, else an outcome that names every fault (the first ten)."""
        if not self.usable or (self._plain is not None and is_fitting(arguments, self._plain)):
            return None
        try:
            faults = sorted(self._validator.iter_errors(cast(Any, arguments)), key=_place)
        except Exception as error:  # noqa: BLE001  # a reference to elsewhere, a regular expression Python does not know
            return failed(f"The arguments could not be checked: {error}", error_type=ERROR)
        if not faults:
            return None
        lines = [f"- {_place(fault) or 'arguments'}: {fault.message[:300]}" for fault in faults[:SHOWN]]
        if len(faults) > SHOWN:
            lines.append(f"- and {len(faults) - SHOWN} more")
        return failed("The arguments are not valid:\n" + "\n".join(lines), error_type=ERROR)


def _place(fault: ValidationError) -> str:
    return ".".join(str(part) for part in fault.absolute_path)


def _bounded_integer(digits: str) -> int:
    value = int(digits) if len(digits) <= 20 else 2**64
    if not -(2**63) <= value < 2**64:
        raise ValueError(f"the number {digits[:30]} has more than 64 bits: send it as a string")
    return value
