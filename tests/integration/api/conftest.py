"""A real uvicorn server on a real socket, in this event loop."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
import structlog
import uvicorn
from fastapi import FastAPI

from modular_agent.api.errors import install_errors
from modular_agent.api.middleware.drain import Gate
from modular_agent.api.middleware.stack import EdgeOptions, middleware_stack


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Keeps logged traces off the test's output: drawing one for a terminal takes seconds."""
    with structlog.testing.capture_logs():
        yield


Serving = Callable[..., AbstractAsyncContextManager[int]]


@pytest.fixture
def serving() -> Serving:
    """`async with serving(routes, options, gate=...) as port`: `routes` gets the application to add its own to."""

    @asynccontextmanager
    async def serve(
        routes: Callable[[FastAPI], None],
        options: EdgeOptions | None = None,
        *,
        gate: Gate | None = None,
        **config: Any,
    ) -> AsyncIterator[int]:
        app = FastAPI()
        handlers = install_errors(app, debug=False)
        for middleware in reversed(middleware_stack(options or EdgeOptions(), gate=gate or Gate(), handlers=handlers)):
            app.add_middleware(middleware.cls, *middleware.args, **middleware.kwargs)
        routes(app)
        server = uvicorn.Server(
            uvicorn.Config(
                app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1, **config
            )
        )
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            task = asyncio.create_task(server._serve([listening]))  # `serve` would take the test runner's signals
            while not server.started:
                assert not task.done(), task.result()
                await asyncio.sleep(0.005)
            try:
                yield listening.getsockname()[1]
            finally:
                server.should_exit = True
                await task

    return serve
