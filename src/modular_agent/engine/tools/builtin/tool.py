"""What the built-in tools have in common: checked arguments, a time limit, failures that a model can act upon."""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from pydantic import ConfigDict

from modular_agent.engine.providers.port import ToolSchema
from modular_agent.engine.tools.arguments import ArgumentSchema
from modular_agent.engine.tools.outcomes import failed, within
from modular_agent.engine.tools.port import Effect, ToolContext, ToolOutcome
from modular_agent.kit.clock import Clock
from modular_agent.kit.dataclass import dataclass
from modular_agent.kit.late_model import LateModel

__all__ = ["BuiltinTool", "Options", "Refused", "Run", "Setup"]

Run: TypeAlias = Callable[[Mapping[str, Any], ToolContext], Awaitable[str]]


class Refused(Exception):
    """A call that cannot be done as asked; the text is for the model."""


class Options(LateModel):
    """The options of a built-in tool in a workflow file; unknown keys are faults."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a built-in tool is made with besides its options. `root` is the configs root."""

    name: str
    root: Path
    clock: Clock
    timeout: float | None = None
    description: str | None = None
    effect: Effect = Effect.READ


class BuiltinTool:
    """A tool whose `run` gives the text that the model reads, or raises `Refused`."""

    def __init__(
        self, setup: Setup, *, description: str, parameters: Mapping[str, Any], run: Run, timeout: float = 30.0
    ) -> None:
        about = setup.description or description
        self.schema: Final = ToolSchema(name=setup.name, description=about, parameters=parameters)
        self._arguments = ArgumentSchema(parameters)
        self.effect: Final = setup.effect
        self._run = run
        self.timeout: Final = setup.timeout if setup.timeout is not None else timeout

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
        fault = self._arguments.check(arguments)
        if fault is not None:
            return fault
        return await within(self.timeout, lambda: self._answer(arguments, context))

    async def _answer(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
        try:
            return ToolOutcome(content=await self._run(arguments, context))
        except Refused as error:
            return failed(str(error), error_type="Refused")
