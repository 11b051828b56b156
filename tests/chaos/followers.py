"""Clients that follow a session over SSE or a WebSocket and come back with their last id whenever they are cut off."""

import asyncio
import json
import random
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import httpx
from websockets.exceptions import WebSocketException

from servers.server_process import ServerProcess, eventually

__all__ = ["Follower", "SseFollower", "WebSocketFollower"]


class Follower(ABC):
    """Collects every event. `cut_after` events (random, up to that many) it cuts the connection by itself.

    `records` are the data of the events with a `seq`, in the order of their coming. `texts` is what the deltas of each
    message made, by message id.
    """

    def __init__(self, server: ServerProcess, session_id: str, *, cut_after: int | None = None, seed: int = 0) -> None:
        self.server = server
        self.session_id = session_id
        self.records: list[dict[str, Any]] = []
        self.texts: dict[str, str] = {}
        self.first_deltas: list[dict[str, Any]] = []
        self.connections = 0
        self._cut_after = cut_after
        self._random = random.Random(seed)
        self._task: asyncio.Task[None] | None = None

    @property
    def last_seq(self) -> int:
        return self.records[-1]["seq"] if self.records else 0

    async def __aenter__(self) -> "Follower":
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def reached(self, seq: int, *, within: float = 20.0) -> None:
        """Returns when the event with this `seq` has come; fails when following has failed."""

        async def there() -> bool:
            if self._task is not None and self._task.done():
                self._task.result()
            return self.last_seq >= seq

        await eventually(f"event {seq} (the last is {self.last_seq})", there, within=within)

    @abstractmethod
    def _events(self) -> AsyncGenerator[dict[str, Any]]:
        """The envelopes of one connection that begins behind the last record."""

    async def _follow(self) -> None:
        while True:
            left = None if self._cut_after is None else self._random.randint(1, self._cut_after)
            try:
                await self._connection(left)
            except (httpx.TransportError, OSError, WebSocketException, TimeoutError):
                await asyncio.sleep(0.05)  # the server is away
            except httpx.HTTPStatusError as error:
                if error.response.status_code != 503:  # it is about to go
                    raise
                await asyncio.sleep(0.05)

    async def _connection(self, left: int | None) -> None:
        begun: set[str] = set()  # messages of which this connection has had a delta
        async with aclosing(self._events()) as events:
            self.connections += 1
            async for envelope in events:
                if envelope["type"] == "message_delta":
                    self._take_delta(envelope["data"], begun)
                elif envelope["seq"] is not None:
                    self.records.append(envelope["data"])
                if left is not None:
                    left -= 1
                    if left == 0:
                        return

    def _take_delta(self, delta: dict[str, Any], begun: set[str]) -> None:
        message_id = delta["message_id"]
        if delta.get("abandoned"):
            self.texts.pop(message_id, None)
            begun.discard(message_id)
            return
        if message_id not in begun:
            begun.add(message_id)
            self.first_deltas.append(delta)
            assert delta["offset"] == 0, "a connection gets a message's text from its beginning"
            self.texts[message_id] = ""
        text = self.texts[message_id]
        assert delta["offset"] == len(text), "the deltas follow each other"
        self.texts[message_id] = text + delta["text"]


class SseFollower(Follower):
    """`GET /sessions/{id}/events` with `Last-Event-ID`, as a browser's EventSource sends it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._last_id: str | None = None

    async def _events(self) -> AsyncGenerator[dict[str, Any]]:
        cursor: dict[str, Any] = {"after_seq": 0} if self._last_id is None else {"last_event_id": self._last_id}
        async with aclosing(self.server.events(self.session_id, **cursor)) as events:
            async for event in events:
                assert event.event == event.data["type"]
                if event.id:
                    assert event.id == str(event.data["seq"])
                    self._last_id = event.id
                yield event.data


class WebSocketFollower(Follower):
    """`subscribe` with `after_seq`."""

    async def _events(self) -> AsyncGenerator[dict[str, Any]]:
        async with self.server.websocket(f"follower-{id(self)}-{self.connections}") as socket:
            subscribe = {"type": "subscribe", "session_id": self.session_id, "data": {"after_seq": self.last_seq}}
            await socket.send(json.dumps(subscribe))
            async for text in socket:
                envelope = json.loads(text)
                assert envelope["type"] != "error", envelope
                if envelope["type"] == "ping":
                    await socket.send(json.dumps({"type": "pong"}))
                elif envelope["type"] != "subscribed":
                    yield envelope
