"""A small MCP server on standard input and output, with the official SDK."""

import asyncio
import base64
import os
import sys
from pathlib import Path
from typing import Any

from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.types import ToolAnnotations

server = MCPServer("small")


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def add(a: int, b: int) -> str:
    """Adds two numbers."""
    print(f"adding {a} and {b}", file=sys.stderr, flush=True)
    return str(a + b)


@server.tool(annotations=ToolAnnotations(idempotent_hint=True))
def info() -> dict[str, Any]:
    """Where and what the server is."""
    return {
        "pid": os.getpid(),
        "cwd": Path.cwd().name,
        "token": os.environ.get("TICKET_TOKEN", ""),
        "other": os.environ.get("OTHER"),
    }


@server.tool()
def fail(reason: str) -> str:
    """Fails."""
    raise ValueError(reason)


@server.tool()
def die(code: int) -> str:
    """Ends the server."""
    os._exit(code)


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def die_once(marker: str) -> str:
    """Ends the server the first time."""
    if not Path(marker).exists():
        Path(marker).touch()
        os._exit(1)
    return "second life"


@server.tool()
async def wait(marker: str) -> str:
    """Waits for a minute; writes down when it is told to stop."""
    Path(marker).write_text("started")
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        Path(marker).write_text("cancelled")
        raise
    return "waited"


@server.tool()
def picture() -> Image:
    """A picture."""
    return Image(data=base64.b64decode("iVBORw0KGgo="), format="png")


@server.tool()
async def key(context: Context) -> str:
    """The idempotency key of the call."""
    meta = context.request_context.meta or {}
    return str(dict(meta).get("modular-agent/idempotency-key"))


if __name__ == "__main__":
    server.run("stdio")
