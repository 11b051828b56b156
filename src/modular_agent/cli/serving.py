"""The server as `serve` runs it: bound before anything is opened, announced when it answers, ended in order."""

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from modular_agent.api.stopping import Server
from modular_agent.cli.errors import AddressUnavailable

if TYPE_CHECKING:
    from modular_agent.settings import Settings

__all__ = ["bind", "serve"]

BACKLOG: Final = 2048

Scope = Any  # ASGI's: https://asgi.readthedocs.io/en/latest/specs/main.html
Receive = Any
Send = Any


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `AddressUnavailable`."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise AddressUnavailable(host=host, port=port, reason=error.strerror or error) from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise AddressUnavailable(host=host, port=port, reason=error.strerror or error) from error
    return listening


def serve(settings: "Settings", listening: socket.socket, *, insecure: bool, on_ready: Callable[[], None]) -> None:
    """Serves until SIGINT or SIGTERM, then drains: no new work, steps in progress finish, clients are told.

    Raises what keeps the application from starting, such as `DataPathInUse`.
    """
    from modular_agent.server import create_app, web_server

    app = create_app(settings, insecure=insecure)
    startup = _Startup(app)
    try:
        Server(web_server(startup, settings), app, on_ready=on_ready).run(sockets=[listening])
    except SystemExit:  # uvicorn's answer to an application that does not start
        if startup.error is None:
            raise
    if startup.error is not None:
        raise startup.error


class _Startup:
    """The application, with what keeps it from starting kept for the command line instead of a stack trace."""

    def __init__(self, app: Any) -> None:  # an ASGI application
        self.error: Exception | None = None
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return

        async def quiet(message: dict[str, Any]) -> None:
            failed = message["type"] == "lifespan.startup.failed"
            await send({"type": message["type"], "message": ""} if failed else message)

        try:
            await self._app(scope, receive, quiet)
        except Exception as error:
            self.error = error
            raise
