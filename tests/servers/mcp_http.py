"""A small MCP server on streamable HTTP; writes its port to the file that is named first."""

import contextlib
import os
import socket
import sys
from pathlib import Path

import uvicorn
from mcp.server.mcpserver import Context, MCPServer

server = MCPServer("small-http")


@server.tool()
def add(a: int, b: int) -> str:
    """Adds two numbers."""
    return str(a + b)


@server.tool()
def process() -> str:
    """The process id."""
    return str(os.getpid())


@server.tool()
async def header(name: str, context: Context) -> str:
    """A header of the request."""
    request = context.request_context.request
    return str(request.headers.get(name)) if request is not None else ""


def main() -> None:
    with contextlib.closing(socket.socket()) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", int(sys.argv[2]) if len(sys.argv) > 2 else 0))
        listener.listen()
        port = listener.getsockname()[1]
        app = server.streamable_http_app()
        config = uvicorn.Config(app, log_level="warning", lifespan="on")
        Path(sys.argv[1]).write_text(str(port))
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
