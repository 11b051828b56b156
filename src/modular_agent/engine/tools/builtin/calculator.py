"""`builtin.calculator`: arithmetic."""

from collections.abc import Mapping
from typing import Any, Final

from modular_agent.engine.tools.builtin.arithmetic import ArithmeticFault, evaluate, written
from modular_agent.engine.tools.builtin.tool import BuiltinTool, Options, Refused, Setup
from modular_agent.engine.tools.port import ToolContext

__all__ = ["CalculatorOptions", "calculator"]

DESCRIPTION: Final = (
    "Evaluates an arithmetic expression exactly. Operators: + - * / // % ** and parentheses. Functions such as sqrt, "
    "log, exp, sin, cos, round, floor, ceil, min, max, factorial, gcd, comb. Constants: pi, e, tau."
)
PARAMETERS: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {"expression": {"type": "string", "description": "For example: (17 * 23) / 4"}},
    "required": ["expression"],
    "additionalProperties": False,
}


class CalculatorOptions(Options):
    """None."""


def calculator(options: CalculatorOptions, setup: Setup) -> BuiltinTool:
    """The tool that answers `17 * 23` with `391`."""
    del options

    async def run(arguments: Mapping[str, Any], context: ToolContext) -> str:
        del context
        try:
            return written(evaluate(arguments["expression"]))
        except ArithmeticFault as error:
            raise Refused(str(error)) from error

    return BuiltinTool(setup, description=DESCRIPTION, parameters=PARAMETERS, run=run)
