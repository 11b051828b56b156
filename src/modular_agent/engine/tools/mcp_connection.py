"""A connection to one MCP server, made when it is first used and made again after the server has died.

The SDK's contexts must be left in the task that entered them, so one task owns each connection from its beginning to
its end; calls come from any task.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final, cast

from mcp import Client, MCPError, StdioServerParameters, stdio_client
from mcp.client import Transport
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.types import CONNECTION_CLOSED, CallToolResult, Implementation, LoggingMessageNotificationParams, Tool

from modular_agent import __version__
from modular_agent.engine.tools.config import McpConfig
from modular_agent.engine.tools.errors import McpUnavailable

__all__ = ["ConnectionLost", "MCPError", "McpConnection"]

CLOSING: Final = 15.0  # seconds: the SDK gives a server two to end by itself, then two more to be terminated
PAGES: Final = 100  # of a listing
LINE: Final = 8_192
TERMINATED: Final = "Session terminated"  # the SDK's words for a session that the server no longer knows

Log = Callable[[str, str], None]


class ConnectionLost(Exception):
    """The connection ended during a call; whether the call had an effect is not known."""


class _Link:
    """One connection while it lasts."""

    def __init__(self) -> None:
        self.client: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self.ended = asyncio.Event()
        self.owner: asyncio.Task[None] | None = None


class _WatchedStream:
    """The stream of what the server says; `ended` is set when there is no more of it."""

    def __init__(self, stream: Any, ended: asyncio.Event) -> None:  # the SDK's protocol for it is private
        self._stream = stream
        self._ended = ended

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def receive(self) -> Any:
        try:
            return await self._stream.receive()
        except Exception:
            self._ended.set()
            raise

    def __aiter__(self) -> "_WatchedStream":
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._stream.__anext__()
        except Exception:  # the regular end included
            self._ended.set()
            raise

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def __aenter__(self) -> "_WatchedStream":
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> bool | None:
        return await self._stream.__aexit__(*error)


class McpConnection:
    """The server that `config` describes. `environ` is where its variables and headers come from; `root` the configs
    root. Close it with `aclose`."""

    def __init__(
        self, config: McpConfig, *, name: str, root: Path, environ: Mapping[str, str], connect_timeout: float = 30.0
    ) -> None:
        self._config = config
        self._name = name
        self._root = root.resolve()
        self._environ = environ
        self._connect_timeout = connect_timeout
        self._logger = logging.getLogger("modular_agent.mcp")
        self._link: _Link | None = None
        self._owners: set[asyncio.Task[None]] = set()
        self._logs: list[Log] = []
        self._closed = False

    async def list_tools(self) -> list[Tool]:
        """Every tool that the server offers. Raises `McpUnavailable`."""
        client = await self._client()
        tools: list[Tool] = []
        cursor: str | None = None
        try:
            for _ in range(PAGES):
                page = await client.list_tools(cursor=cursor)
                tools += page.tools
                cursor = page.next_cursor
                if cursor is None:
                    break
        except MCPError as error:
            raise McpUnavailable(name=self._name, reason=error.message) from error
        return tools

    async def call(self, tool: str, arguments: Mapping[str, Any], *, key: str, log: Log) -> CallToolResult:
        """Calls `tool`; what the server says meanwhile goes to `log`. `key` is sent as the idempotency key.

        When it is cancelled the server is told so. Raises `McpUnavailable` when nothing was sent, `ConnectionLost`
        when the connection ended during the call, `MCPError` for the server's refusal.
        """
        client = await self._client()
        link = self._link
        self._logs.append(log)
        try:
            return await client.call_tool(tool, dict(arguments), meta={"modular-agent/idempotency-key": key})
        except MCPError as error:
            if error.code != CONNECTION_CLOSED and error.message != TERMINATED:
                raise
            if link is not None:
                link.ended.set()
            raise ConnectionLost(error.message) from error
        finally:
            self._logs.remove(log)

    async def aclose(self) -> None:
        """Ends the connection and waits until the server's process has ended."""
        self._closed = True
        if self._link is not None:
            self._link.ended.set()
        if not self._owners:
            return
        _, late = await asyncio.wait(self._owners, timeout=CLOSING)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=CLOSING)

    async def _client(self) -> Client:
        if self._closed:
            raise McpUnavailable(name=self._name, reason="it was closed")
        if self._link is None or self._link.ended.is_set():
            link = _Link()
            link.owner = asyncio.create_task(self._own(link), name=f"mcp-{self._name}")
            self._owners.add(link.owner)
            link.owner.add_done_callback(self._owners.discard)
            self._link = link
        # Many callers may wait for one connection; one that is cancelled must not take it from the others.
        return await asyncio.shield(self._link.client)

    async def _own(self, link: _Link) -> None:
        try:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(self._connect_timeout):
                    transport = _watched(await self._transport(stack), link.ended)
                    client = await stack.enter_async_context(self._new_client(transport))
                link.client.set_result(client)
                await link.ended.wait()
        except BaseException as error:
            if not link.client.done():
                link.client.set_exception(McpUnavailable(name=self._name, reason=_reason(error)))
                link.client.exception()  # seen, in case nobody waits any more
            elif isinstance(error, Exception):
                self._logger.warning("MCP server %s: the connection ended badly: %s", self._name, _reason(error))
            if not isinstance(error, Exception):
                raise
        finally:
            link.ended.set()

    def _new_client(self, transport: Transport) -> Client:
        info = Implementation(name="modular-agent", version=__version__)
        return Client(transport, client_info=info, logging_callback=self._on_log)

    async def _transport(self, stack: AsyncExitStack) -> Transport:
        config = self._config
        if config.command is not None:
            parameters = StdioServerParameters(
                command=config.command[0],
                args=list(config.command[1:]),
                env={name: self._variable(name) for name in config.env},
                cwd=self._folder(config.cwd),
            )
            errors = await stack.enter_async_context(_lines(self._on_stderr))
            return stdio_client(parameters, errlog=errors)
        if config.url is None:
            raise McpUnavailable(name=self._name, reason="neither a command nor a url is configured")
        headers = {header: self._variable(variable) for header, variable in config.headers.items()}
        http = await stack.enter_async_context(create_mcp_http_client(headers=headers))
        return streamable_http_client(config.url, http_client=http)

    def _variable(self, name: str) -> str:
        value = self._environ.get(name)
        if value is None:
            raise McpUnavailable(name=self._name, reason=f"the environment variable {name} is not set")
        return value

    def _folder(self, cwd: str | None) -> Path:
        folder = (self._root / (cwd or ".")).resolve()
        if not folder.is_relative_to(self._root) or not folder.is_dir():
            raise McpUnavailable(name=self._name, reason=f"there is no folder {cwd!r} below the configs root")
        return folder

    async def _on_log(self, params: LoggingMessageNotificationParams) -> None:
        data: Any = params.data
        self._say(str(params.level), data if isinstance(data, str) else repr(data))

    def _on_stderr(self, line: str) -> None:
        self._say("info", line)

    def _say(self, level: str, message: str) -> None:
        """To the calls in progress: which of them it concerns the protocol does not tell; else to our own log."""
        for log in tuple(self._logs):
            try:
                log(level, message)
            except Exception:
                self._logger.exception("what the MCP server %s said could not be logged", self._name)
        if not self._logs:
            self._logger.info("%s: %s", self._name, message)


@asynccontextmanager
async def _watched(transport: Transport, ended: asyncio.Event) -> AsyncGenerator[Any]:
    async with transport as (read, write):
        yield _WatchedStream(read, ended), write


@asynccontextmanager
async def _lines(take: Callable[[str], None]) -> AsyncGenerator[Any]:
    """A file for a child's standard error; `take` gets every line of it."""
    reading, writing = os.pipe()
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=LINE)
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb", buffering=0)
    )

    async def read() -> None:
        rest = b""
        while chunk := await reader.read(LINE):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > LINE:
                lines, rest = [*lines, rest], b""
            for line in lines:
                if text := line.decode(errors="replace").rstrip():
                    take(text)

    task = asyncio.create_task(read(), name="mcp-stderr")
    try:
        with os.fdopen(writing, "wb", buffering=0) as file:
            yield file
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):  # what it said last; a grandchild may hold the pipe open for ever
                await asyncio.shield(task)
    finally:
        task.cancel()
        await asyncio.wait({task})
        transport.close()


def _reason(error: BaseException) -> str:
    """What went wrong, out of the groups that the SDK's tasks wrap it in."""
    while isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        error = group.exceptions[0]
    if isinstance(error, McpUnavailable):
        return str(error.parameters["reason"])
    if isinstance(error, FileNotFoundError):
        return "the command was not found"
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    return str(error) or type(error).__name__
