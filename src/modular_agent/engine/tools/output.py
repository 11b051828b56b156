"""The bound on what a call puts into the log: more goes to a file, and the model reads its beginning."""

import asyncio
import dataclasses
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from modular_agent.engine.providers.port import ToolSchema
from modular_agent.engine.tools.outcomes import raised
from modular_agent.engine.tools.port import Effect, Tool, ToolContext, ToolOutcome

__all__ = ["DEFAULT_LIMIT", "LimitedTool", "OutputLimit", "file_name"]

DEFAULT_LIMIT: Final = 64 * 1024  # bytes
NAME_CHARACTERS: Final = 100


def file_name(tool_call_id: str, suffix: str = ".txt") -> str:
    """A file name for a call that cannot leave its folder; ids that differ have names that differ."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", tool_call_id)[:NAME_CHARACTERS]
    if plain != tool_call_id:
        plain = f"{plain}-{hashlib.sha256(tool_call_id.encode('utf-8', 'replace')).hexdigest()[:8]}"
    return f"{plain}{suffix}"


class OutputLimit:
    """At most `maximum` bytes of UTF-8 for one outcome."""

    def __init__(self, maximum: int = DEFAULT_LIMIT) -> None:
        self._maximum = maximum

    async def apply(self, outcome: ToolOutcome, context: ToolContext) -> ToolOutcome:
        """`outcome` itself, or its beginning and a note that names the file below `context.files` that holds it all."""
        if outcome.stack_trace is not None and len(outcome.stack_trace) > self._maximum:
            # Its end says most; what came before is not worth a file.
            outcome = dataclasses.replace(outcome, stack_trace="[...] " + outcome.stack_trace[-self._maximum :])
        # A character is at most four bytes, so most outputs need not be encoded to be known to be small enough.
        if len(outcome.content) * 4 <= self._maximum:
            return outcome
        data = outcome.content.encode("utf-8", "replace")
        if len(data) <= self._maximum:
            return outcome
        name = file_name(context.tool_call_id)
        try:
            await asyncio.to_thread(_write, context.files / name, data)
            kept = f"all of it is in the file {name}"
        except OSError as error:
            kept = f"the rest could not be kept ({error.strerror})"
        head = data[: self._maximum].decode("utf-8", "ignore")
        note = f"\n\n[The output has {len(data)} bytes; the first {self._maximum} are above, {kept}.]"
        return dataclasses.replace(outcome, content=head + note)


class LimitedTool:
    """A tool within an output limit, which never raises."""

    def __init__(self, tool: Tool, limit: OutputLimit) -> None:
        self._tool = tool
        self._limit = limit

    @property
    def schema(self) -> ToolSchema:
        return self._tool.schema

    @property
    def effect(self) -> Effect:
        return self._tool.effect

    @property
    def timeout(self) -> float | None:
        return self._tool.timeout

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
        try:
            outcome = await self._tool.call(arguments, context)
        except Exception as error:  # noqa: BLE001  # the last line of defence: a tool's failure is an outcome
            outcome = raised(error)
        return await self._limit.apply(outcome, context)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
