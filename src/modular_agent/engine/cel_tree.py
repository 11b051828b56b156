"""What a compiled CEL expression reads, found in its syntax tree.

cel-expr-python gives the tree only as a serialized `cel.expr.CheckedExpr` message
(https://github.com/google/cel-spec/blob/master/proto/cel/expr/checked.proto and `syntax.proto`), so the few fields that
matter are read from the wire format here.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

__all__ = ["Reads", "reads"]

_ANY_VALUE: Final = 2
_CHECKED_EXPR: Final = 4
_CONST, _IDENT, _SELECT, _CALL, _LIST, _STRUCT, _COMPREHENSION = 3, 4, 5, 6, 7, 8, 9
_INDEX_FUNCTIONS: Final = frozenset({"_[_]", "_[?_]", "_?._"})


@dataclass(slots=True)
class Reads:
    """`names`: variables used; `keys`: keys of the root variable; `whole`: whether it is used as a whole."""

    names: set[str] = field(default_factory=set[str])
    keys: set[str] = field(default_factory=set[str])
    whole: bool = False


def reads(serialized: bytes, *, root: str) -> Reads:
    """What the expression reads; `root` is the variable whose keys are told apart."""
    checked = _message(serialized, _ANY_VALUE)
    found = Reads()
    _walk(_message(checked, _CHECKED_EXPR), frozenset(), root, found)
    return found


def _walk(expr: bytes, shadowed: frozenset[str], root: str, found: Reads) -> None:
    for number, value in _fields(expr):
        if number == _IDENT:
            name = _message(value, 1).decode()
            if name not in shadowed:
                found.names.add(name)
                found.whole = found.whole or name == root
        elif number == _SELECT:
            _walk_select(value, shadowed, root, found)
        elif number == _CALL:
            _walk_call(value, shadowed, root, found)
        elif number == _LIST:
            for item in _all(value, 1):
                _walk(item, shadowed, root, found)
        elif number == _STRUCT:
            for entry in _all(value, 2):
                for part in (*_all(entry, 3), *_all(entry, 4)):
                    _walk(part, shadowed, root, found)
        elif number == _COMPREHENSION:
            _walk_comprehension(value, shadowed, root, found)


def _walk_select(select: bytes, shadowed: frozenset[str], root: str, found: Reads) -> None:
    operand = _message(select, 1)
    if _is_root(operand, shadowed, root):
        found.names.add(root)
        found.keys.add(_message(select, 2).decode())
    else:
        _walk(operand, shadowed, root, found)


def _walk_call(call: bytes, shadowed: frozenset[str], root: str, found: Reads) -> None:
    target, function, arguments = _message(call, 1), _message(call, 2).decode(), list(_all(call, 3))
    place = (0, 1) if function in _INDEX_FUNCTIONS else (1, 0) if function == "@in" else None
    if place and len(arguments) == 2:
        key = _text_constant(arguments[place[1]])
        if key is not None and _is_root(arguments[place[0]], shadowed, root):
            found.names.add(root)
            found.keys.add(key)
            return
    for part in (target, *arguments):
        _walk(part, shadowed, root, found)


def _walk_comprehension(value: bytes, shadowed: frozenset[str], root: str, found: Reads) -> None:
    for outer in (*_all(value, 2), *_all(value, 4)):  # the range and the accumulator's start see no loop variable
        _walk(outer, shadowed, root, found)
    inner = shadowed | {name.decode() for number in (1, 3, 8) for name in _all(value, number)}
    for part in (*_all(value, 5), *_all(value, 6), *_all(value, 7)):
        _walk(part, inner, root, found)


def _is_root(expr: bytes, shadowed: frozenset[str], root: str) -> bool:
    ident = _message(expr, _IDENT)
    return root not in shadowed and bool(ident) and _message(ident, 1).decode() == root


def _text_constant(expr: bytes) -> str | None:
    for constant in _all(expr, _CONST):
        for number, value in _fields(constant):
            if number == 6:
                return value.decode()
    return None


def _message(data: bytes, number: int) -> bytes:
    """The (only) field `number`; empty if it is not set."""
    return next(_all(data, number), b"")


def _all(data: bytes, number: int) -> Iterator[bytes]:
    return (value for found, value in _fields(data) if found == number)


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The length-delimited fields of a message, in order; the others are passed over."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        wire = tag & 7
        if wire == 2:
            length, position = _varint(data, position)
            yield tag >> 3, data[position : position + length]
            position += length
        elif wire == 0:
            _, position = _varint(data, position)
        elif wire in (1, 5):
            position += 8 if wire == 1 else 4
        else:
            raise ValueError(f"unknown wire type {wire}")


def _varint(data: bytes, position: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
        shift += 7
