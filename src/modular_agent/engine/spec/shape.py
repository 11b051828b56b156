"""From data to a typed `WorkflowSpec`: what Pydantic finds wrong, in plain words and with its place.

A file with faults still gives as much of a specification as can be typed, so that the checks of meaning see the rest
and everything wrong is told at once.
"""

from typing import Any, Final, cast

import orjson
from pydantic import ValidationError

from modular_agent.engine.place import KeyPath
from modular_agent.engine.spec.document import Document, not_a_mapping
from modular_agent.engine.spec.model import WorkflowSpec
from modular_agent.engine.spec.wording import Wording
from modular_agent.errors import Fault
from modular_agent.kit.dataclass import dataclass

__all__ = ["Shape", "read_shape"]

_ROUNDS: Final = 5
_NAMED: Final = ("models", "tools", "nodes")
_LISTED: Final = ("edges", "tests")
_APART: Final = ("description", "effect", "timeout", "retry", "cache", "temperature", "max_tokens", "max_parallel")
_STAND_INS: Final[dict[str, Any]] = {"schema": "modular-agent/v1", "name": "workflow"}


@dataclass(frozen=True, slots=True)
class Shape:
    """`spec` is None when nothing can be typed. `dropped` are the places of what was left out of it.

    `indexes` gives, for `edges` and `tests`, the place in the file of each item in the specification.
    """

    spec: WorkflowSpec | None
    faults: tuple[Fault, ...]
    dropped: frozenset[KeyPath]
    indexes: dict[str, tuple[int, ...]]

    @property
    def whole_graph(self) -> bool:
        """Whether every node and edge of the file is in the specification."""
        return not any(path[0] in ("nodes", "edges") for path in self.dropped)


def read_shape(document: Document) -> Shape:
    """Types the document; never raises for what a file can hold."""
    data = document.data()
    if not isinstance(data, dict):
        return Shape(None, (not_a_mapping(document),), frozenset(), {})
    errors = _validate(document)
    if isinstance(errors, WorkflowSpec):
        return Shape(errors, (), frozenset(), _indexes(errors))
    wording = Wording(document)
    faults = tuple(wording.faults(errors))
    return _partial(document, errors, wording, faults)


def _validate(document: Document) -> WorkflowSpec | list[Any]:
    """The specification, or Pydantic's errors. Interpolated values take the reading that their place asks for."""
    errors = _typed(document.data())
    for _ in range(_ROUNDS):
        if isinstance(errors, WorkflowSpec):
            break
        paths = {document_path(document, error["loc"]) for error in errors if error["type"].endswith("_type")}
        if not document.flip(paths):
            break
        errors = _typed(document.data())
    return errors


def _typed(data: Any) -> WorkflowSpec | list[Any]:
    # JSON mode is strict about types, yet takes a list for a tuple and a whole number for a float, as files do.
    try:
        return WorkflowSpec.model_validate_json(orjson.dumps(data), strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        return list(error.errors(include_url=False, include_input=False))


def document_path(document: Document, loc: tuple[str | int, ...]) -> KeyPath:
    """Pydantic's location without the names of union branches, which are not in the file."""
    return Wording(document).path(loc)


def _partial(document: Document, errors: list[Any], wording: Wording, faults: tuple[Fault, ...]) -> Shape:
    data = document.data()
    positions = {key: list(range(len(data[key]))) for key in _LISTED if isinstance(data.get(key), list)}
    dropped: set[KeyPath] = set()
    typed: WorkflowSpec | list[Any] = errors
    for _ in range(_ROUNDS):
        if isinstance(typed, WorkflowSpec):
            break
        doomed = {_doomed(wording.path(error["loc"]), error["type"]) for error in typed}
        for path in sorted(doomed, key=lambda path: [str(part).zfill(8) for part in path], reverse=True):
            dropped.add(_drop(data, path, positions))
        wording = Wording(document, data=data)
        typed = _typed(data)
    if not isinstance(typed, WorkflowSpec):
        return Shape(None, faults, frozenset(), {})
    return Shape(typed, faults, frozenset(dropped), {key: tuple(found) for key, found in positions.items()})


def _doomed(path: KeyPath, kind: str) -> KeyPath:
    """The smallest part that has to go for the rest to be typed."""
    if kind == "extra_forbidden":
        return path
    if path and path[0] in _NAMED and len(path) > 2 and path[2] in _APART:
        return path[:3]  # no other check depends on it
    if path and path[0] in (*_NAMED, *_LISTED) and len(path) > 1:
        return path[:2]
    return path[:1]


def _drop(data: dict[str, Any], path: KeyPath, positions: dict[str, list[int]]) -> KeyPath:
    """Takes the part at `path` out of `data`; returns its path in the file."""
    original = path
    if len(path) >= 2 and path[0] in positions and isinstance(path[1], int):
        original = (path[0], positions[str(path[0])][path[1]], *path[2:])
        if len(path) == 2:
            del positions[str(path[0])][path[1]]
    holder: Any = data
    for part in path[:-1]:
        holder = holder[part]
    last = path[len(path) - 1]
    if len(path) == 1 and last in _STAND_INS:
        data[str(last)] = _STAND_INS[str(last)]
    elif isinstance(holder, list):
        del cast("list[Any]", holder)[cast("int", last)]
    else:
        cast("dict[str, Any]", holder).pop(str(last), None)
        if len(path) == 1:
            positions.pop(str(last), None)
    return original


def _indexes(spec: WorkflowSpec) -> dict[str, tuple[int, ...]]:
    return {"edges": tuple(range(len(spec.edges))), "tests": tuple(range(len(spec.tests)))}
