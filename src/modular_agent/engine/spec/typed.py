"""Configuration files other than workflows: typed, with every fault at its place."""

from collections.abc import Sequence
from typing import Any, Final, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from modular_agent.engine.spec.document import Document, not_a_mapping
from modular_agent.engine.spec.wording import Wording
from modular_agent.errors import Fault

__all__ = ["read_typed"]

T = TypeVar("T", bound=BaseModel)
_ROUNDS: Final = 4


def read_typed(document: Document, model: type[T]) -> tuple[T | None, list[Fault]]:
    """The document as a `model`, or all that is wrong with it."""
    data = document.data()
    if not isinstance(data, dict):
        return None, [*document.faults, not_a_mapping(document)]
    found = _typed(document.data(), model)
    for _ in range(_ROUNDS):
        if isinstance(found, BaseModel):
            break
        wording = Wording(document, model=model)
        paths = {wording.path(error["loc"]) for error in found if str(error["type"]).endswith("_type")}
        if not document.flip(paths):
            break
        found = _typed(document.data(), model)
    if isinstance(found, BaseModel):
        return (None, list(document.faults)) if document.faults else (found, [])
    told = {fault.path for fault in document.faults}
    faults = [fault for fault in Wording(document, model=model).faults(found) if fault.path not in told]
    return None, [*document.faults, *faults]


def _typed(data: Any, model: type[T]) -> T | Sequence[Any]:
    try:
        return model.model_validate_json(orjson.dumps(data), strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        return list(error.errors(include_url=False, include_input=False))
