"""What a workflow says of its tools, as data that knows no file format."""

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from modular_agent.engine.tools.port import Effect
from modular_agent.kit.dataclass import dataclass

__all__ = ["McpConfig", "ToolConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class McpConfig:
    """An MCP server: a `command` (stdio), or a `url` (streamable HTTP).

    `env` names variables of the server's environment that the command gets; `cwd` is below the configs root.
    `headers` are header names with the name of the environment variable that holds the value. `include` are names as
    the server says them; `prefix` is put in front of each name that a model sees.
    """

    command: tuple[str, ...] | None = None
    env: tuple[str, ...] = ()
    cwd: str | None = None
    url: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    include: tuple[str, ...] | None = None
    prefix: str = ""

    @property
    def server(self) -> tuple[object, ...]:
        """What makes two configurations mean the same server."""
        return (self.command, self.env, self.cwd, self.url, tuple(sorted(self.headers.items())))


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolConfig:
    """One entry of a workflow's `tools`: exactly one of `use` (built in), `ref` (Python) and `mcp`.

    `effect` None means what the tool itself says: built-in tools read, Python code is irreversible, an MCP server has
    annotations. `timeout` is in seconds.
    """

    name: str
    use: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    ref: str | None = None
    mcp: McpConfig | None = None
    description: str | None = None
    effect: Effect | None = None
    timeout: float | None = None
