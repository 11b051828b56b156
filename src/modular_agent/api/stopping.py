"""The end of a server: from the signal that asks for it to the moment when nothing of it executes any more.

No new work, steps in progress finish, then those who follow are told. It begins with the signal and not when the web
server has closed its connections: that waits for the streams of clients who follow a run, and these wait for the run.
"""

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Generator
from types import FrameType
from typing import Final

import uvicorn
from fastapi import FastAPI

from modular_agent.api.middleware.drain import Gate
from modular_agent.kit.memory import has_started
from modular_agent.runtime import Runtime

__all__ = ["Server", "Stopping", "when_told_to_end"]

FLUSH: Final = 2.0  # seconds that clients have to read the end of what they are being sent


class Stopping:
    """The end of one server. `done` is set when its runs hold and all streams have been ended."""

    def __init__(self, runtime: Runtime, gate: Gate) -> None:
        self.done = asyncio.Event()
        self._runtime = runtime
        self._gate = gate
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Starts it; a second call does nothing."""
        if self._task is None:
            self._gate.close()
            self._task = asyncio.create_task(self._run(), name="stopping")

    async def wait(self) -> None:
        """Starts it unless that was done, and returns when it is over. Raises what went wrong."""
        self.begin()
        assert self._task is not None
        await self._task

    async def _run(self) -> None:
        try:
            await self._runtime.supervisor.drain()
            self._runtime.multitask.let_go()
            await self._runtime.hub.aclose()
        finally:
            self.done.set()


@contextlib.contextmanager
def when_told_to_end(call: Callable[[], None]) -> Generator[None]:
    """Has `call` called in the event loop at SIGINT and SIGTERM, beside the web server's own handlers."""
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(call)
        handler = former[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    caught = [number for number, handler in former.items() if callable(handler)]
    for number in caught:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in caught:
            signal.signal(number, former[number])


class Server(uvicorn.Server):
    """A web server that does not wait for clients who have stopped reading: once all is said they are cut off.

    To end because a signal asked for it is a success: uvicorn would raise the signal again.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI, *, on_ready: Callable[[], None] | None = None) -> None:
        super().__init__(config)
        self._app = app
        self._on_ready = on_ready

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        with super().capture_signals():
            yield
            self._captured_signals.clear()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.started:
            return
        has_started()
        if self._on_ready is not None:
            self._on_ready()
        self._app.state.serving.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        cutting = asyncio.create_task(self._cut_off(), name="cut off")
        try:
            await super().shutdown(sockets)
        finally:
            cutting.cancel()
            await asyncio.gather(cutting, return_exceptions=True)

    async def _cut_off(self) -> None:
        stopping: Stopping | None = getattr(self._app.state, "stopping", None)
        if stopping is None:  # it never started
            return
        await stopping.done.wait()
        await asyncio.sleep(FLUSH)
        for connection in list(self.server_state.connections):
            transport: asyncio.Transport | None = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()
