"""Arithmetic expressions, evaluated from their syntax tree with every intermediate result bounded.

Python's operators and meaning: `+ - * / // % **`, parentheses, the functions and constants below. Integers are exact.
"""

import ast
import math
import operator
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final, TypeAlias, cast

from modular_agent.kit.python_source import parse

__all__ = ["ArithmeticFault", "evaluate", "written"]

Number: TypeAlias = int | float

CHARACTERS: Final = 4_000  # of an expression
DEPTH: Final = 100  # of its tree; a chain such as 1 + 2 + 3 counts once
BITS: Final = 13_000  # of an integer: below the 4,300 digits that Python writes
FACTORIAL: Final = 1_400
DIGITS: Final = 15  # significant, of a float: what a double holds


class ArithmeticFault(ValueError):
    """An expression without a value; the text says why."""


def evaluate(expression: str) -> Number:
    """The value of `expression`. Raises `ArithmeticFault`."""
    if len(expression) > CHARACTERS:
        raise ArithmeticFault(f"The expression is longer than {CHARACTERS} characters.")
    text = expression.translate({ord("×"): "*", ord("÷"): "/", ord("−"): "-"}).strip()
    try:
        tree = parse(text, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ArithmeticFault(f"This is not an arithmetic expression: {reason}.") from None
    try:
        return _bounded(_value(tree.body, 0))
    except ZeroDivisionError:
        raise ArithmeticFault("Division by zero.") from None
    except OverflowError:
        raise ArithmeticFault("The result is too large.") from None
    except (ValueError, TypeError) as error:
        if isinstance(error, ArithmeticFault):
            raise
        raise ArithmeticFault(f"{str(error).capitalize()}.") from None


def written(value: Number) -> str:
    """`value` for a reader: integers exactly, floats with at most 15 significant digits and no trailing zeros."""
    if isinstance(value, int):
        return str(value)
    return format(value, f".{DIGITS}g") if value else "0"


def _value(node: ast.expr, depth: int) -> Number:
    if depth > DEPTH:
        raise ArithmeticFault("The expression is nested too deeply.")
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return _bounded(value)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, depth + 1)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand, depth + 1)
        case ast.BinOp():
            return _chain(node, depth)
        case ast.Name(id=name):
            return _constant(name)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            return _bounded(_function(name)(*(_value(argument, depth + 1) for argument in arguments)))
        case _:
            raise ArithmeticFault(f"Not allowed here: {ast.unparse(node)[:100]!r}. Only arithmetic is.")


def _chain(node: ast.BinOp, depth: int) -> Number:
    """The value of `a + b - c ...`, which leans to the left as deep as it is long: so without recursion."""
    steps: list[ast.BinOp] = []
    first: ast.expr = node
    while isinstance(first, ast.BinOp):
        steps.append(first)
        first = first.left
    value = _value(first, depth + 1)
    for step in reversed(steps):
        value = _bounded(_operator(step.op)(value, _value(step.right, depth + 1)))
    return value


def _bounded(value: Any) -> Number:
    """`value` when it is a finite real number of bearable size."""
    if isinstance(value, complex):
        raise ArithmeticFault("The result is not a real number.")
    if isinstance(value, int) and value.bit_length() > BITS:
        raise ArithmeticFault("The result is too large.")
    if isinstance(value, float) and not math.isfinite(value):
        raise ArithmeticFault("The result is not a finite number.")
    if not isinstance(value, int | float):
        raise ArithmeticFault("The result is not a number.")
    return value


def _power(base: Number, exponent: Number) -> Any:
    bits = abs(base).bit_length() - 1 if isinstance(base, int) else 0
    # An integral power has at least so many bits: refused before it is computed.
    if isinstance(exponent, int) and exponent > 0 and bits * exponent > BITS:
        raise ArithmeticFault("The result is too large.")
    return base**exponent


def _factorial(number: Number) -> int:
    if number > FACTORIAL:
        raise ArithmeticFault(f"factorial() goes up to {FACTORIAL}.")
    return math.factorial(operator.index(number))  # pyright: ignore[reportArgumentType]  # a float is refused with its reason


def _choices(function: Callable[[int, int], int]) -> Callable[[Number, Number], int]:
    def bounded(total: Number, chosen: Number) -> int:
        n, k = operator.index(total), operator.index(chosen)  # pyright: ignore[reportArgumentType]
        if n > 10_000 or k > FACTORIAL * 4:
            raise ArithmeticFault("The numbers are too large.")
        return function(n, k)

    return bounded


def _round(number: Number, digits: Number = 0) -> Number:
    places = operator.index(digits)  # pyright: ignore[reportArgumentType]
    if abs(places) > 300:
        raise ArithmeticFault("round() takes at most 300 digits.")
    return round(number, places) if places else round(number)


_Binary: TypeAlias = Callable[[Any, Any], Any]
OPERATORS: Final[MappingProxyType[type[ast.operator], _Binary]] = MappingProxyType(
    {
        ast.Add: cast(_Binary, operator.add),
        ast.Sub: cast(_Binary, operator.sub),
        ast.Mult: cast(_Binary, operator.mul),
        ast.Div: cast(_Binary, operator.truediv),  # pyright: ignore[reportUnknownMemberType]
        ast.FloorDiv: cast(_Binary, operator.floordiv),  # pyright: ignore[reportUnknownMemberType]
        ast.Mod: cast(_Binary, operator.mod),
        ast.Pow: _power,
    }
)
CONSTANTS: Final = MappingProxyType({"pi": math.pi, "e": math.e, "tau": math.tau})
_PLAIN: Final = (
    *("sqrt", "cbrt", "isqrt", "exp", "log", "log2", "log10", "hypot", "fmod", "gcd", "lcm", "floor", "ceil", "trunc"),
    *("sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh"),
    *("degrees", "radians"),
)
FUNCTIONS: Final[MappingProxyType[str, Callable[..., Any]]] = MappingProxyType(
    {
        **{name: getattr(math, name) for name in _PLAIN},
        "abs": abs,
        "min": min,
        "max": max,
        "ln": math.log,
        "pow": _power,
        "round": _round,
        "factorial": _factorial,
        "comb": _choices(math.comb),
        "perm": _choices(math.perm),
    }
)


def _operator(sign: ast.operator) -> Callable[[Any, Any], Any]:
    found = OPERATORS.get(type(sign))
    if found is None:
        hint = " For a power write **." if isinstance(sign, ast.BitXor) else ""
        raise ArithmeticFault(f"This operator is not supported.{hint}")
    return found


def _constant(name: str) -> float:
    if name not in CONSTANTS:
        raise ArithmeticFault(f"There is no constant {name!r}; there are {', '.join(CONSTANTS)}.")
    return CONSTANTS[name]


def _function(name: str) -> Callable[..., Any]:
    if name not in FUNCTIONS:
        raise ArithmeticFault(f"There is no function {name!r}; there are {', '.join(sorted(FUNCTIONS))}.")
    return FUNCTIONS[name]
