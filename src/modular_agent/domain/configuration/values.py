"""The values that may change while the server runs: where each comes from, and who is told when it changes.

What wins: what was stored, the environment, `.env`, `global.yaml`, the default.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias, cast

import orjson
from pydantic import BaseModel, ValidationError

from modular_agent.domain.configuration.errors import ConfigValueInvalid
from modular_agent.engine.spec.configured import GlobalFile
from modular_agent.errors import Fault, Text
from modular_agent.kit.dataclass import dataclass
from modular_agent.validation import own_words

__all__ = ["KEYS", "LiveValues", "ProcessValue", "Source", "checked_value", "description_of", "plain"]

Source: TypeAlias = Literal["stored", "environment", ".env", "command line", "global.yaml", "default"]

KEYS: Final = tuple(name for name in GlobalFile.model_fields if name != "schema_")
_SCHEMA: Final = "modular-agent/global/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessValue:
    """A setting of the process. `key` is the variable in small letters; of a secret, `value` is a mask or None."""

    key: str
    variable: str
    value: Any  # JSON
    source: Source
    description: str


def description_of(key: str) -> str:
    """What a value that may change means."""
    return GlobalFile.model_fields[key].description or ""


def checked_value(key: str, value: Any) -> Any:
    """The value of `key` as it counts, from JSON. Raises `ConfigValueInvalid` with the place of each fault."""
    if value is None:
        text = Text(
            "must not be null; delete the key to take the stored value away", "不得为 null；要撤销所存的值，请删除该键"
        )
        raise ConfigValueInvalid([Fault(code="wrong_type", text=text, path="value")])
    try:
        text = orjson.dumps({"schema": _SCHEMA, key: value})
        whole = GlobalFile.model_validate_json(text, strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        raise ConfigValueInvalid([_fault(key, each) for each in error.errors(include_url=False)]) from None
    return plain(getattr(whole, key))


def _fault(key: str, error: Any) -> Fault:  # one of Pydantic's
    places = [str(part) for part in error["loc"] if part != key]
    code = "unknown_key" if error["type"] == "extra_forbidden" else "invalid_value"
    return Fault(code=code, text=own_words(error), path=".".join(["value", *places]))


def plain(value: Any) -> Any:
    """A value as JSON."""
    if isinstance(value, dict):
        return {name: plain(each) for name, each in cast("dict[str, Any]", value).items()}
    return value.model_dump(exclude_unset=True) if isinstance(value, BaseModel) else value


class LiveValues:
    """The values as they count now. Whoever uses one reads it here, or subscribes to be told of changes."""

    def __init__(self, process: Sequence[ProcessValue] = ()) -> None:
        self._process = {each.key: each for each in process}
        self._stored: dict[str, Any] = {}
        self._global: dict[str, Any] = {}
        self._listeners: list[Callable[[LiveValues], None]] = []
        self._read: dict[str, Any] = {}  # since the last change

    def __getitem__(self, key: str) -> Any:
        if key not in self._read:
            self._read[key] = self.of(key)[0]
        return self._read[key]

    def of(self, key: str) -> tuple[Any, Source]:
        """The value of `key` and where it comes from."""
        if key in self._stored:
            return self._stored[key], "stored"
        setting = self._process.get(key)
        if setting is not None and setting.source != "default":
            return setting.value, setting.source
        if key in self._global:
            return self._global[key], "global.yaml"
        return (None if setting is None else setting.value), "default"

    @property
    def default_limits(self) -> Mapping[str, Any]:
        """The limits of runs for which nobody else sets one."""
        return self["default_limits"] or {}

    def subscribe(self, listener: Callable[["LiveValues"], None]) -> None:
        """Calls `listener` now, and after each change."""
        self._listeners.append(listener)
        listener(self)

    def take(self, *, stored: Mapping[str, Any] | None = None, file: GlobalFile | None = None) -> None:
        """Takes over what was stored, or what `global.yaml` says, and tells everybody."""
        if stored is not None:
            self._stored = {key: value for key, value in stored.items() if key in KEYS}
        else:
            given = {} if file is None else {key: plain(getattr(file, key)) for key in KEYS}
            self._global = {key: value for key, value in given.items() if value is not None}
        self._read.clear()
        for listener in self._listeners:
            listener(self)
