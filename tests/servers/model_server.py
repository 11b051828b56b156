"""A model server for tests, benchmarks and the demo: OpenAI chat completions and Anthropic messages, on real sockets.

`python tests/servers/model_server.py --port 9000` or, in a test:

    async with ModelServer() as server:
        server.openai_url, server.anthropic_url, server.requests, server.enqueue(Canned(...)), server.behaviour = ...

By default it plays a small assistant: arithmetic goes to a tool named `calculator` if there is one, a tool's result is
told, an answer by JSON Schema fits the schema, anything else is echoed. What it does otherwise is a `Behaviour`: given
to the constructor, put by `POST /control` (JSON of its fields), or by the request header `x-model-server` (the same,
for that one request). `Canned` answers, raw bytes, come first. It is an `asyncio.Protocol` with cached answers, so that
benchmarks measure the client.
"""

import argparse
import asyncio
import contextlib
import itertools
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import orjson

if not __package__:  # run as a program: `tests` is not on the path
    sys.path.insert(0, str(Path(__file__).parents[1]))

from servers.model_answers import (
    Behaviour,
    anthropic_events,
    anthropic_whole,
    decide,
    openai_events,
    openai_whole,
)

__all__ = ["Behaviour", "Canned", "ModelServer", "SeenRequest"]


@dataclass(frozen=True, kw_only=True)
class Canned:
    """A raw answer. `parts` are written one by one, `pause` seconds between; `end`: eof, reset, hang or normal.

    Without `length` the body is chunked, each part a chunk; with `end="eof"` it breaks off inside.
    """

    parts: Sequence[bytes] = ()
    status: int = 200
    content_type: str = "text/event-stream"
    headers: dict[str, str] = field(default_factory=dict)
    pause: float = 0.0
    end: str = "normal"


@dataclass(frozen=True)
class SeenRequest:
    """A request as it came in; `body` is its parsed JSON, header names are in lower case."""

    path: str
    headers: dict[str, str]
    body: Any


class ModelServer:
    """The server; an async context manager. `port` 0 takes a free one."""

    def __init__(
        self, behaviour: Behaviour | None = None, *, host: str = "127.0.0.1", port: int = 0, remember: int = 1000
    ) -> None:
        self.behaviour = behaviour or Behaviour()
        self.requests: deque[SeenRequest] = deque(maxlen=remember)
        self.connections_made = 0
        self.connections_lost = 0
        self.calls = 0
        self.failures = 0
        self._host = host
        self._port = port
        self._canned: deque[Canned] = deque()
        self._server: asyncio.Server | None = None
        self.open: set[_Connection] = set()

    async def __aenter__(self) -> "ModelServer":
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), self._host, self._port, backlog=1024)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for connection in list(self.open):
            connection.shut()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self._port}"

    @property
    def openai_url(self) -> str:
        return self.url + "/v1"

    @property
    def anthropic_url(self) -> str:
        return self.url

    def enqueue(self, *canned: Canned) -> None:
        """Answers the next requests with these."""
        self._canned.extend(canned)

    def next_canned(self) -> Canned | None:
        return self._canned.popleft() if self._canned else None


class _Connection(asyncio.Protocol):
    """One keep-alive connection; requests are answered in turn."""

    def __init__(self, server: ModelServer) -> None:
        self._server = server
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not derive from it
        self._server.open.add(self)
        self._server.connections_made += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.open.discard(self)
        self._server.connections_lost += 1
        if self._task is not None:
            self._task.cancel()

    def shut(self) -> None:
        assert self._transport is not None
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        while self._task is None and self._take():
            pass

    def _take(self) -> bool:
        """Answers one request if a whole one is there."""
        head_end = self._buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return False
        first, *lines = self._buffer[:head_end].decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        end = head_end + 4 + length
        if len(self._buffer) < end:
            return False
        body, self._buffer = self._buffer[head_end + 4 : end], self._buffer[end:]
        method, path, _ = first.split(" ")
        self._route(method, path.partition("?")[0], headers, body)
        return True

    def _route(self, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        server = self._server
        if path == "/control" and method == "POST":
            server.behaviour = Behaviour(**orjson.loads(body or b"{}"))
            self._json(200, {"ok": True})
            return
        if path == "/requests":
            self._json(200, {"calls": server.calls, "requests": [vars(seen) for seen in server.requests]})
            return
        if method != "POST":
            self._json(404, {"error": {"message": f"no such path {path}"}})
            return
        payload = orjson.loads(body)
        server.calls += 1
        server.requests.append(SeenRequest(path, headers, payload))
        behaviour = server.behaviour
        if "x-model-server" in headers:
            behaviour = replace(behaviour, **orjson.loads(headers["x-model-server"]))
        canned = server.next_canned()
        if canned is not None:
            self._run(self._play(canned))
        elif behaviour.reset:
            self.shut()
        elif behaviour.fail_status and (not behaviour.fail_times or server.failures < behaviour.fail_times):
            server.failures += 1
            extra = {"Retry-After": behaviour.retry_after} if behaviour.retry_after else {}
            self._json(behaviour.fail_status, _error_body(path, behaviour.fail_status), extra)
        elif path.endswith("/chat/completions"):
            self._answer(payload, behaviour, openai=True)
        elif path.endswith("/messages"):
            self._answer(payload, behaviour, openai=False)
        else:
            self._json(404, {"error": {"message": f"no such path {path}"}})

    def _answer(self, payload: dict[str, Any], behaviour: Behaviour, *, openai: bool) -> None:
        answer = decide(payload, behaviour)
        prompt_tokens = max(1, len(orjson.dumps(payload["messages"])) // 4)
        model = payload.get("model", "test-model")
        make = openai_events if openai else anthropic_events
        usage = behaviour.usage and (not openai or bool(payload.get("stream_options", {}).get("include_usage")))
        # The number of the call makes ids unique; only tool calls have one, so texts stay cacheable.
        number = next(_numbers) if answer.tool else 0
        if not payload.get("stream"):
            whole = openai_whole if openai else anthropic_whole
            self._json(200, whole(answer, model, prompt_tokens, behaviour.cached_tokens, number))
            return
        events = make(answer, model, prompt_tokens, behaviour.cached_tokens, usage, number)
        plain = not (behaviour.delay or behaviour.token_delay or behaviour.error_event or behaviour.hang)
        if plain and behaviour.cut_after is None:
            self._write(_whole_stream(events))
            return
        self._run(self._stream(events, behaviour))

    async def _stream(self, events: tuple[bytes, ...], behaviour: Behaviour) -> None:
        if behaviour.delay:
            await asyncio.sleep(behaviour.delay)
        self._write(_STREAM_HEAD)
        if behaviour.hang:
            await asyncio.Event().wait()
        for index, event in enumerate(events):
            if behaviour.cut_after == index:
                self._write(b"0\r\n\r\n")
                return
            if behaviour.error_event and index == 2:
                self._write(_chunk(b"data: " + orjson.dumps({"error": {"message": behaviour.error_event}}) + b"\n\n"))
            if index and behaviour.token_delay:
                await asyncio.sleep(behaviour.token_delay)
            self._write(_chunk(event))
        self._write(b"0\r\n\r\n")

    async def _play(self, canned: Canned) -> None:
        headers = {"Content-Type": canned.content_type, "Transfer-Encoding": "chunked", **canned.headers}
        head = f"HTTP/1.1 {canned.status} X\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._write(head.encode() + b"\r\n")
        for part in canned.parts:
            self._write(_chunk(part))
            await asyncio.sleep(canned.pause)
        assert self._transport is not None
        if canned.end == "normal":
            self._write(b"0\r\n\r\n")
        elif canned.end == "eof":
            self._transport.close()
        elif canned.end == "reset":
            self._transport.abort()
        else:
            await asyncio.Event().wait()

    def _run(self, work: Any) -> None:
        self._task = asyncio.get_running_loop().create_task(work)
        self._task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled():
            task.result()
            while self._task is None and self._take():
                pass

    def _write(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(data)

    def _json(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        body = orjson.dumps(value)
        lines = "".join(f"{name}: {text}\r\n" for name, text in (headers or {}).items())
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{lines}\r\n"
        self._write(head.encode() + body)


_numbers = itertools.count(1)
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@lru_cache(maxsize=1024)
def _whole_stream(events: tuple[bytes, ...]) -> bytes:
    """All of a stream at once, each event still a chunk of its own, as a fast provider sends them."""
    return _STREAM_HEAD + b"".join(map(_chunk, events)) + b"0\r\n\r\n"


def _error_body(path: str, status: int) -> dict[str, Any]:
    kinds = {401: "authentication_error", 429: "rate_limit_error", 529: "overloaded_error"}
    kind = kinds.get(status, "api_error" if status >= 500 else "invalid_request_error")
    error = {"message": f"the test asked for status {status}", "type": kind}
    return {"type": "error", "error": error} if path.endswith("/messages") else {"error": error}


async def serve(arguments: argparse.Namespace) -> None:
    behaviour = Behaviour(tokens=arguments.tokens, delay=arguments.delay, token_delay=arguments.token_delay)
    async with ModelServer(behaviour, host=arguments.host, port=arguments.port, remember=arguments.remember) as server:
        print(
            f"model server on {server.url} (OpenAI: {server.openai_url}, Anthropic: {server.anthropic_url})", flush=True
        )
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="A model server that speaks OpenAI's and Anthropic's formats.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tokens", type=int, help="answer with so many words")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before the first word")
    parser.add_argument("--token-delay", type=float, default=0.0, help="seconds between words")
    parser.add_argument("--remember", type=int, default=100, help="requests kept for GET /requests")
    arguments = parser.parse_args()
    try:
        import uvloop
    except ImportError:
        run = asyncio.run
    else:
        run = uvloop.run
    with contextlib.suppress(KeyboardInterrupt):
        run(serve(arguments))


if __name__ == "__main__":
    main()
