"""The HTTP server: the application with its lifespan, and what `serve` runs.

`uvicorn modular_agent.server:app` keeps to the same rules as `modular-agent serve`.
"""

import asyncio
import logging
import warnings
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import structlog
import uvicorn
from fastapi import FastAPI
from pydantic.warnings import UnsupportedFieldAttributeWarning
from starlette.types import ASGIApp

from modular_agent.api.errors import install_errors
from modular_agent.api.http_protocol import HttpProtocol
from modular_agent.api.log_counts import LogCounts
from modular_agent.api.middleware.drain import Gate
from modular_agent.api.middleware.rate_limit import Rates
from modular_agent.api.middleware.request_metrics import RequestFigures
from modular_agent.api.middleware.stack import EdgeOptions, middleware_stack
from modular_agent.api.openapi import install_openapi, operation_id
from modular_agent.api.pages import install_pages
from modular_agent.api.routers import ROUTERS
from modular_agent.api.stopping import Stopping, when_told_to_end
from modular_agent.api.websocket_protocol import WebSocketProtocol
from modular_agent.domain.analytics import LiveFigures
from modular_agent.domain.configuration import LiveValues
from modular_agent.domain.error_reports.server_errors import ServerErrors
from modular_agent.kit.logging import Logs
from modular_agent.kit.redaction import Redactor, secrets_of
from modular_agent.realtime.connections import Connections
from modular_agent.realtime.metrics import MetricsPublisher
from modular_agent.runtime import Runtime, open_runtime
from modular_agent.settings import Settings, check_bind, check_production, environment, load_settings

if TYPE_CHECKING:
    from modular_agent.api.metrics import Metrics

__all__ = ["create_app", "web_server"]

_log = structlog.get_logger(__name__)


def create_app(settings: Settings | None = None, *, insecure: bool = False) -> FastAPI:
    """The application. Raises `InvalidSettings` and `UnsafeBind` before anything is opened."""
    settings = settings or load_settings()
    check_production(settings)
    check_bind(settings.http.host, insecure=insecure)
    # FastAPI ignores it where it makes a validator; those of models that are built late are made when they are used.
    warnings.simplefilter("ignore", UnsupportedFieldAttributeWarning)
    gate = Gate()
    rates = Rates(settings.http.rate_limit_per_minute, settings.http.rate_limit_burst)
    app = FastAPI(
        title=settings.app.name,
        version=settings.app.version,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=operation_id,
        lifespan=_Lifespan(settings, gate, rates),
        # As they are: `include_router` reads each declaration anew, and matches each request once more.
        routes=[route for router in ROUTERS for route in router.routes],
    )
    handlers = install_errors(app, debug=settings.app.debug)
    requests = app.state.requests = RequestFigures()
    for middleware in reversed(
        middleware_stack(_edge(settings, rates), gate=gate, handlers=handlers, requests=requests)
    ):
        app.add_middleware(middleware.cls, *middleware.args, **middleware.kwargs)
    install_openapi(app)
    install_pages(app)
    return app


def _edge(settings: Settings, rates: Rates) -> EdgeOptions:
    http = settings.http
    return EdgeOptions(
        hosts=(http.host, *http.allowed_hosts),
        loopback_only=http.loopback_only,
        cors_origins=http.cors_origins,
        cors_credentials=http.cors_credentials,
        max_body_bytes=http.max_body_bytes,
        max_json_depth=http.max_json_depth,
        rates=rates,
    )


class _Lifespan:
    """Opens the runtime, takes up what a former process left behind, and drains at the end."""

    def __init__(self, settings: Settings, gate: Gate, rates: Rates) -> None:
        self._settings = settings
        self._gate = gate
        self._rates = rates

    @asynccontextmanager
    async def __call__(self, app: FastAPI) -> AsyncGenerator[None]:
        settings = self._settings
        environ = environment()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(_logs(settings, environ))
            runtime = await stack.enter_async_context(open_runtime(settings, environment=environ))
            await stack.enter_async_context(_server_errors(runtime, environ))
            runtime.configuration.live.subscribe(self._take)
            connections = Connections(clock=runtime.clock, max_connections=settings.websocket.max_connections)
            app.state.runtime = runtime
            app.state.connections = await stack.enter_async_context(connections)
            await stack.enter_async_context(_metrics(runtime, connections))
            counts = LogCounts()
            stack.callback(runtime.database.log.listen(counts.tell))
            app.state.metrics = cache(partial(_exposed, runtime, app.state.requests, counts, connections))
            stopping = app.state.stopping = Stopping(runtime, self._gate)
            stack.push_async_callback(stopping.wait)
            stack.enter_context(when_told_to_end(stopping.begin))
            # Before the first request, so that it finds what the files say.
            await stack.enter_async_context(runtime.workflows)
            serving = app.state.serving = asyncio.Event()  # set by the web server
            background = (
                asyncio.create_task(_take_up(runtime), name="take up"),
                asyncio.create_task(_prepare(runtime, serving), name="prepare"),
            )
            try:
                yield
            finally:
                await _ended(*background)

    def _take(self, values: LiveValues) -> None:
        """Has rates and log level that change while the server runs count at once."""
        self._rates.per_minute, self._rates.burst = values["rate_limit_per_minute"], values["rate_limit_burst"]
        logging.getLogger().setLevel(values["log_level"])


def _server_errors(runtime: Runtime, environ: dict[str, str]) -> ServerErrors:
    return ServerErrors(runtime.database, clock=runtime.clock, redactor=Redactor(secrets_of(environ)))


def _metrics(runtime: Runtime, connections: Connections) -> MetricsPublisher:
    figures = LiveFigures(
        runtime.database,
        supervisor=runtime.supervisor,
        hub=runtime.hub,
        clock=runtime.clock,
        connections=connections.__len__,
    )
    interval = runtime.settings.websocket.metrics_interval
    return MetricsPublisher(runtime.hub.live, figures, clock=runtime.clock, interval=interval)


def _exposed(runtime: Runtime, requests: RequestFigures, counts: LogCounts, connections: Connections) -> "Metrics":
    from modular_agent.api.metrics import Metrics  # and Prometheus's client

    return Metrics(runtime, requests=requests, counts=counts, connections=connections.__len__)


async def _take_up(runtime: Runtime) -> None:
    """Takes up runs and deletions that a process left behind; requests are served meanwhile."""
    resumed = await runtime.recovery.take_up()
    deleted = await runtime.sessions.finish_deletions()
    if resumed or deleted:
        _log.info("recovered", runs=resumed, deletions=deleted)


async def _prepare(runtime: Runtime, serving: asyncio.Event) -> None:
    """Makes ready what the first runs will need, once requests are answered."""
    await serving.wait()
    await runtime.catalog.prepare()


async def _ended(*tasks: "asyncio.Task[None]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _logs(settings: Settings, environ: dict[str, str]) -> Logs:
    log = settings.log
    return Logs(
        level=log.level,
        format=log.format,
        file=log.file,
        max_bytes=log.max_bytes,
        backups=log.backups,
        secrets=secrets_of(environ),
    )


def web_server(app: ASGIApp, settings: Settings) -> uvicorn.Config:
    """How the application is served, by whoever serves it."""
    return uvicorn.Config(
        app,
        lifespan="on",
        host=settings.http.host,
        port=settings.http.port,
        log_config=None,
        access_log=False,
        server_header=False,
        http=HttpProtocol,
        ws=WebSocketProtocol,
        ws_max_size=settings.websocket.max_message_bytes + 1024,
        ws_per_message_deflate=settings.websocket.compression,
        timeout_graceful_shutdown=int(settings.http.shutdown_grace) + 5,
    )


def __getattr__(name: str) -> Any:
    """`app`, made when somebody asks for it: importing this module reads no settings."""
    if name == "app":
        return create_app()
    raise AttributeError(name)
