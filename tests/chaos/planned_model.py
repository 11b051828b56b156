"""A model that does what the user message says, slowly, in OpenAI's format: the same plan gives the same run again.

A message `PLAN [["note:a", "note:b"], ["pay:c"], "All done."]` asks for two parallel calls, then one, then the text:
what a request is answered is the step after as many as the conversation has answers since the plan. To `ROAM` it calls,
as chance has it, one to three of the tools it is offered, with labels that are never used twice, `ROAM_CALLS` times at
most. Any other message is answered with a few words about it. Call ids are never used twice. Delays are random below
twice the given ones. While `hangs` is set, requests get no answer at all.
"""

import asyncio
import itertools
import json
import random
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from aiohttp import web

__all__ = ["PlannedModel", "plan"]

ROAM_CALLS = 3


def plan(*steps: list[str] | str) -> str:
    return "PLAN " + json.dumps(steps)


class PlannedModel:
    """The server; an async context manager. `delay` before the first piece and `token_delay` between, in seconds."""

    def __init__(self, *, delay: float = 0.05, token_delay: float = 0.01, seed: int = 0) -> None:
        self.delay = delay
        self.token_delay = token_delay
        self.calls = 0
        self.gate = asyncio.Event()  # closed, a text stops after its third word until it is opened
        self.gate.set()
        self.held = 0
        self.hangs = False
        self._random = random.Random(seed)
        self._ids = itertools.count(1)
        self._labels = itertools.count(1)
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/chat/completions", self._complete)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        self.gate.set()
        await self._runner.cleanup()

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        payload = await request.json()
        self.calls += 1
        while self.hangs:
            await asyncio.sleep(0.02)
        await self._pause(self.delay)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        with suppress(ConnectionResetError):  # the server was killed
            await self._answer(request, response, self._step(payload["messages"], _offered(payload)))
        return response

    async def _answer(self, request: web.Request, response: web.StreamResponse, step: list[str] | str) -> None:
        await response.prepare(request)
        finish = "stop" if isinstance(step, str) else "tool_calls"
        for index, delta in enumerate(self._deltas(step)):
            await self._pause(self.token_delay if index else 0)
            if index == 3 and isinstance(step, str):
                self.held += 1
                await self.gate.wait()
            await self._send(response, {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        await self._send(response, {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        await self._send(response, {"choices": [], "usage": usage})
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()

    async def _pause(self, mean: float) -> None:
        if mean:
            await asyncio.sleep(self._random.uniform(0, 2 * mean))

    async def _send(self, response: web.StreamResponse, chunk: dict[str, Any]) -> None:
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "planned"}
        await response.write(b"data: " + json.dumps({**head, **chunk}).encode() + b"\n\n")

    def _step(self, messages: list[dict[str, Any]], offered: list[str]) -> list[str] | str:
        answers = 0
        for message in reversed(messages):
            if message["role"] == "user":
                text = message["content"]
                if text.startswith("ROAM"):
                    return self._roam(answers, offered)
                if not text.startswith("PLAN "):
                    return f"These are some words about {text}"
                return json.loads(text[5:])[answers]
            answers += message["role"] == "assistant"
        return "There was nothing to say."

    def _roam(self, answers: int, offered: list[str]) -> list[str] | str:
        if not offered or answers >= ROAM_CALLS or self._random.random() < 0.2:
            return "This is enough of it all."
        count = self._random.randint(1, 3)
        return [f"{self._random.choice(offered)}:{next(self._labels)}" for _ in range(count)]

    def _deltas(self, step: list[str] | str) -> list[dict[str, Any]]:
        if isinstance(step, str):
            return [{"role": "assistant", "content": ""}, *({"content": f"{word} "} for word in step.split(" "))]
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None}]
        for index, call in enumerate(step):
            name, _, label = call.partition(":")
            function = {"name": name, "arguments": json.dumps({"label": label})}
            one = {"index": index, "id": f"call_{next(self._ids)}", "type": "function", "function": function}
            deltas.append({"tool_calls": [one]})
        return deltas


def _offered(payload: dict[str, Any]) -> list[str]:
    return [tool["function"]["name"] for tool in payload.get("tools") or ()]
