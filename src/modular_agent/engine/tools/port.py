"""The seam between the engine and what a workflow's model can call."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from modular_agent.engine.providers.port import ToolSchema
from modular_agent.kit.dataclass import dataclass

__all__ = ["Effect", "Tool", "ToolContext", "ToolOutcome"]


class Effect(StrEnum):
    """What a call does to the world: decides whether it may run again after a crash."""

    READ = "read"
    IDEMPOTENT = "idempotent"
    IRREVERSIBLE = "irreversible"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolContext:
    """What a call is told besides its arguments.

    `idempotency_key` is the same every time the same call runs. `files` is a folder for results too large for the log.
    `log` takes (level, message) and may be called from any coroutine of the event loop.
    """

    session_id: str
    run_id: str
    tool_call_id: str
    idempotency_key: str
    files: Path
    log: Callable[[str, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolOutcome:
    """What a call returned. `content` is what the model reads; a failed call says in it what went wrong.

    `error_type` and `stack_trace` are set when `success` is false and there is one; they go to the log only.
    """

    content: str
    success: bool = True
    error_type: str | None = None
    stack_trace: str | None = None


class Tool(Protocol):
    """Something a model can call. Safe to call from many tasks at once.

    `effect` is the declared one. `timeout` is in seconds; None means no limit of its own.
    """

    @property
    def schema(self) -> ToolSchema: ...

    @property
    def effect(self) -> Effect: ...

    @property
    def timeout(self) -> float | None: ...

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
        """Runs the call to its end. A failure of the tool is an outcome, not an exception.

        When it is cancelled, nothing of the call executes any more once this has returned.
        """
        ...
