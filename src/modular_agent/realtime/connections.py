"""All WebSocket connections of the process: takeover by client id, the clock that tends them, an orderly end."""

import asyncio
from types import TracebackType
from typing import Final, Self

from modular_agent.kit.clock import Clock
from modular_agent.realtime.websocket import GOING_AWAY, TAKEN_OVER, TOO_SLOW, Connection

__all__ = ["Connections"]

CLOSING: Final = 10.0  # seconds for connections to end after they were told to


class Connections:
    """An async context manager; at its end every connection is flushed (`flush_timeout` seconds) and closed with 1001.

    Close it before the hub. `tick` is the seconds between looks at each connection.
    """

    def __init__(
        self, *, clock: Clock, max_connections: int = 10_000, tick: float = 1.0, flush_timeout: float = 5.0
    ) -> None:
        self._clock = clock
        self._max_connections = max_connections
        self._tick = tick
        self._flush_timeout = flush_timeout
        self._all: set[Connection] = set()
        self._by_client: dict[tuple[str, str], Connection] = {}
        self._ended = asyncio.Event()
        self._closing = False
        self._ticker: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._all)

    async def __aenter__(self) -> Self:
        self._ticker = asyncio.get_running_loop().create_task(self._tend())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        for connection in list(self._all):
            connection.drain()
        await self._wait_until_empty(self._flush_timeout)
        for connection in list(self._all):
            connection.close(GOING_AWAY, "The server is shutting down.")
        await self._wait_until_empty(CLOSING)
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.gather(self._ticker, return_exceptions=True)

    async def run(self, connection: Connection) -> None:
        """Serves a connection to its end. An older one of the same owner and client id is closed with 4001."""
        key = (connection.owner, connection.client_id)
        older = self._by_client.get(key)
        if self._closing:
            connection.close(GOING_AWAY, "The server is shutting down.")
        elif older is not None:
            older.close(TAKEN_OVER, "Another connection with this client_id has taken over.")
        elif len(self._all) >= self._max_connections:
            connection.close(TOO_SLOW, "The server has too many connections; try again later.")
        self._by_client[key] = connection
        self._all.add(connection)
        try:
            await connection.run()
        finally:
            self._all.discard(connection)
            if self._by_client.get(key) is connection:  # it may have been taken over
                del self._by_client[key]
            self._ended.set()

    def close_owner(self, owner: str, code: int, reason: str) -> None:
        """Closes all connections of an owner, whose key was revoked, say."""
        for connection in list(self._all):
            if connection.owner == owner:
                connection.close(code, reason)

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(self._tick)
            now = self._clock.monotonic()
            for connection in list(self._all):
                connection.tick(now)

    async def _wait_until_empty(self, timeout: float) -> None:  # noqa: ASYNC109
        try:
            async with asyncio.timeout(timeout):
                while self._all:
                    self._ended.clear()
                    await self._ended.wait()
        except TimeoutError:
            return
