"""`serve`: the server."""

from typing import TYPE_CHECKING, Annotated

import typer

from modular_agent.cli.options import Configs, DataPath, Invocation, read_settings

if TYPE_CHECKING:
    from socket import socket

    from modular_agent.cli.terminal import Terminal
    from modular_agent.settings import Settings

__all__ = ["serve"]


def serve(
    context: typer.Context,
    host: Annotated[
        str | None, typer.Option("--host", metavar="ADDRESS", help="The address to listen on (HOST; 127.0.0.1).")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, help="The port; 0 takes a free one (PORT; 8000).")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen where other machines reach it, without access control.")
    ] = False,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes: 1, as long as the data is SQLite.")] = 1,
    data_path: DataPath = None,
    configs: Configs = None,
) -> None:
    """Start the server: HTTP API, WebSocket and workers in one process, until Ctrl-C or SIGTERM."""
    from modular_agent.cli.errors import WorkersUnsupported
    from modular_agent.settings import check_bind, check_production

    terminal = Invocation.of(context).terminal
    if workers > 1:
        raise WorkersUnsupported(workers=workers)
    more = {"HOST": host, "PORT": None if port is None else str(port)}
    if terminal.debug:
        more["LOG_LEVEL"] = "DEBUG"
    settings = read_settings(data_path=data_path, configs=configs, **more)
    check_production(settings)
    check_bind(settings.http.host, insecure=insecure)
    _serve(terminal, settings, insecure=insecure)


def _serve(terminal: "Terminal", settings: "Settings", *, insecure: bool) -> None:
    from modular_agent.cli import serving

    if insecure and not settings.http.loopback_only:
        terminal.say(
            terminal.text(
                "WARNING: --insecure: whoever reaches {host} controls this server and sees all its data.",
                "警告：--insecure：任何能访问 {host} 的人都可控制本服务器并查看全部数据。",
                host=settings.http.host,
            ),
            style="bold yellow",
        )
    with serving.bind(settings.http.host, settings.http.port) as listening:
        serving.serve(settings, listening, insecure=insecure, on_ready=lambda: _announce(terminal, settings, listening))


def _announce(terminal: "Terminal", settings: "Settings", listening: "socket") -> None:
    from modular_agent import __version__

    host, port = listening.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    storage = settings.storage
    rows = [
        (terminal.text("listening", "监听地址"), url),
        (terminal.text("docs", "接口文档"), f"{url}/docs"),
        (terminal.text("data", "数据目录"), str(storage.data_path.absolute())),
        (terminal.text("configs", "配置目录"), str(storage.config_path.absolute())),
    ]
    terminal.show(f"{settings.app.name} {__version__}", style="bold")
    for label, value in rows:
        terminal.show(f"  {label}: {value}")
