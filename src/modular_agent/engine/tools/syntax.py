"""What a Python source defines at its top level, without running it."""

import ast
from typing import Literal, TypeAlias

from modular_agent.kit.dataclass import dataclass
from modular_agent.kit.python_source import parse

__all__ = ["Definition", "DefinitionKind", "definitions"]

DefinitionKind: TypeAlias = Literal["function", "async_function", "class", "value", "import"]


@dataclass(frozen=True, slots=True)
class Definition:
    """A name at the top level of a module."""

    name: str
    kind: DefinitionKind
    line: int


def definitions(source: bytes, filename: str = "<source>") -> tuple[dict[str, Definition], bool]:
    """The names that `source` defines (branches of `if` and `try` included), and whether these are all.

    They are not all after `from x import *` or when the module has its own `__getattr__`.
    Raises `SyntaxError`, and `ValueError` for a source with null bytes.
    """
    found: dict[str, Definition] = {}
    complete = _collect(parse(source, filename).body, found)
    return found, complete and "__getattr__" not in found


def _collect(body: list[ast.stmt], found: dict[str, Definition]) -> bool:
    complete = True
    for statement in body:
        for name, kind in _names(statement):
            if name == "*":
                complete = False
            else:
                found[name] = Definition(name, kind, statement.lineno)
        for block in _blocks(statement):
            complete = _collect(block, found) and complete
    return complete


def _names(statement: ast.stmt) -> list[tuple[str, DefinitionKind]]:  # noqa: PLR0911  # one per kind of statement
    match statement:
        case ast.FunctionDef(name=name, decorator_list=decorators):
            # A decorator may turn a function into anything; only the import can tell.
            return [(name, "value" if decorators else "function")]
        case ast.AsyncFunctionDef(name=name, decorator_list=decorators):
            return [(name, "value" if decorators else "async_function")]
        case ast.ClassDef(name=name):
            return [(name, "class")]
        case ast.Assign(targets=targets):
            return [(name, "value") for target in targets for name in _targets(target)]
        case ast.AnnAssign(target=target, value=value) if value is not None:
            return [(name, "value") for name in _targets(target)]
        case ast.Import(names=names):
            return [(alias.asname or alias.name.partition(".")[0], "import") for alias in names]
        case ast.ImportFrom(names=names):
            return [(alias.asname or alias.name, "import") for alias in names]
        case _:
            return []


def _targets(target: ast.expr) -> list[str]:
    match target:
        case ast.Name(id=name):
            return [name]
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            return [name for part in parts for name in _targets(part)]
        case ast.Starred(value=value):
            return _targets(value)
        case _:
            return []


def _blocks(statement: ast.stmt) -> list[list[ast.stmt]]:
    match statement:
        case ast.If(body=body, orelse=orelse) | ast.For(body=body, orelse=orelse) | ast.While(body=body, orelse=orelse):
            return [body, orelse]
        case ast.With(body=body):
            return [body]
        case ast.Try(body=body, handlers=handlers, orelse=orelse, finalbody=final):
            return [body, *(handler.body for handler in handlers), orelse, final]
        case _:
            return []
