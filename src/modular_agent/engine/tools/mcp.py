"""Tools of MCP servers. The SDK is imported when the first server is named: it takes a third of a second."""

import asyncio
import importlib
import re
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from modular_agent.engine.providers.port import ToolSchema
from modular_agent.engine.tools.arguments import ArgumentSchema
from modular_agent.engine.tools.config import McpConfig
from modular_agent.engine.tools.errors import McpUnavailable
from modular_agent.engine.tools.outcomes import failed, within
from modular_agent.engine.tools.port import Effect, ToolContext, ToolOutcome

if TYPE_CHECKING:
    from mcp.types import Tool as ServerTool
    from mcp.types import ToolAnnotations

    from modular_agent.engine.tools.mcp_connection import McpConnection

__all__ = ["McpServers", "McpTool"]

TIMEOUT: Final = 60.0  # seconds of a call whose workflow names none
NAME: Final = re.compile(r"[^a-zA-Z0-9_-]")


class McpTool:
    """One tool of an MCP server.

    The call is cancelled at the server when it is cancelled here; whether the server obeys is its own business.
    """

    def __init__(
        self,
        connection: "McpConnection",
        tool: "ServerTool",
        *,
        prefix: str = "",
        effect: Effect | None = None,
        timeout: float | None = None,
    ) -> None:
        self._connection = connection
        self._name = tool.name
        self._schema = ToolSchema(
            # What every provider takes: letters, digits, underscore and hyphen, 64 of them.
            name=NAME.sub("_", prefix + tool.name)[:64],
            description=tool.description or tool.title or "",
            parameters=tool.input_schema,
        )
        self._arguments = ArgumentSchema(tool.input_schema)
        self._effect = effect or effect_of(tool.annotations)
        self._timeout = timeout if timeout is not None else TIMEOUT

    @property
    def schema(self) -> ToolSchema:
        return self._schema

    @property
    def effect(self) -> Effect:
        return self._effect

    @property
    def timeout(self) -> float | None:
        return self._timeout

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
        fault = self._arguments.check(arguments)
        if fault is not None:
            return fault
        return await within(self._timeout, lambda: self._run(arguments, context))

    async def _run(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
        from modular_agent.engine.tools.mcp_connection import ConnectionLost, MCPError
        from modular_agent.engine.tools.mcp_content import outcome_of

        repeatable = self._effect is not Effect.IRREVERSIBLE
        while True:
            try:
                result = await self._connection.call(
                    self._name, arguments, key=context.idempotency_key, log=context.log
                )
                return await outcome_of(result, context)
            except ConnectionLost as error:
                if not repeatable:
                    text = f"The connection to the server of this tool ended during the call: {error}."
                    return failed(text, error_type="ConnectionLost")
                repeatable = False  # once
            except McpUnavailable as error:
                return failed(str(error), error_type=error.code)
            except MCPError as error:
                return failed(f"The server refused the call: {error.message}", error_type="MCPError")


class McpServers:
    """The MCP servers that workflows name; two workflows that name the same one share it. Ends them all at the end."""

    def __init__(self, root: Path, *, environ: Mapping[str, str], connect_timeout: float = 30.0) -> None:
        self._root = root
        self._environ = environ
        self._connect_timeout = connect_timeout
        self._connections: dict[tuple[object, ...], McpConnection] = {}
        self._closed = False

    async def __aenter__(self) -> "McpServers":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        connections = list(self._connections.values())
        self._connections.clear()
        await asyncio.gather(*(connection.aclose() for connection in connections))

    async def tools(
        self,
        name: str,
        config: McpConfig,
        *,
        effect: Effect | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # the tools', not this method's
    ) -> list[McpTool]:
        """The tools of the server `config`, called `name` in messages. Connects. Raises `McpUnavailable`.

        It also raises that when `include` names a tool that the server does not have.
        """
        connection = await self._connection(name, config)
        offered = await connection.list_tools()
        if config.include is not None:
            missing = sorted(set(config.include) - {tool.name for tool in offered})
            if missing:
                raise McpUnavailable(name=name, reason=f"it has no tool {', '.join(missing)}")
            offered = [tool for tool in offered if tool.name in config.include]
        return [McpTool(connection, tool, prefix=config.prefix, effect=effect, timeout=timeout) for tool in offered]

    async def _connection(self, name: str, config: McpConfig) -> "McpConnection":
        module = await asyncio.to_thread(importlib.import_module, "modular_agent.engine.tools.mcp_connection")
        if self._closed:
            raise McpUnavailable(name=name, reason="the server is shutting down")
        known = self._connections.get(config.server)
        if known is None:
            known = module.McpConnection(
                config, name=name, root=self._root, environ=self._environ, connect_timeout=self._connect_timeout
            )
            self._connections[config.server] = known
        return known


def effect_of(annotations: "ToolAnnotations | None") -> Effect:
    """What the server's hints say; a server that says nothing is taken to do what cannot be undone."""
    if annotations is None:
        return Effect.IRREVERSIBLE
    if annotations.read_only_hint:
        return Effect.READ
    # `destructiveHint: false` alone promises no more than that a repeated call adds twice.
    return Effect.IDEMPOTENT if annotations.idempotent_hint else Effect.IRREVERSIBLE
