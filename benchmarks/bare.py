"""What a turn costs at least: a FastAPI endpoint that makes the two model calls with aiohttp and streams their text.

It stores nothing, checks nothing and resumes nothing. `python benchmarks/bare.py --port 8001 --model-url http://...`.
"""

import argparse
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
import uvicorn
from fastapi import FastAPI, Request
from starlette.responses import StreamingResponse

CALCULATOR = {
    "type": "function",
    "function": {
        "name": "calculator",
        "description": "Calculates.",
        "parameters": {"type": "object", "properties": {"expression": {"type": "string"}}},
    },
}


def make_app(model_url: str) -> FastAPI:
    """The application; `model_url` is the base URL of an OpenAI-format server."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            app.state.session = session
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/turn")
    async def turn(request: Request) -> StreamingResponse:
        body = orjson.loads(await request.body())
        messages = [
            {"role": "system", "content": "You answer with the help of tools."},
            {"role": "user", "content": body["message"]},
        ]
        return StreamingResponse(two_calls(request.app.state.session, messages), media_type="text/event-stream")

    async def two_calls(session: aiohttp.ClientSession, messages: list[dict[str, Any]]) -> AsyncGenerator[bytes]:
        calls: list[dict[str, Any]] = []
        async for delta in model_call(session, messages):
            for part in delta.get("tool_calls") or ():
                if "id" in part:
                    calls.append(part)
                else:
                    calls[-1]["function"]["arguments"] += part["function"]["arguments"]
        messages.append({"role": "assistant", "content": None, "tool_calls": calls})
        for call in calls:
            yield b"event: tool_call\ndata: " + orjson.dumps(call) + b"\n\n"
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": "391"})
        async for delta in model_call(session, messages):
            if delta.get("content"):
                yield b"event: message_delta\ndata: " + orjson.dumps({"text": delta["content"]}) + b"\n\n"
        yield b"event: end\ndata: {}\n\n"

    async def model_call(
        session: aiohttp.ClientSession, messages: list[dict[str, Any]]
    ) -> AsyncGenerator[dict[str, Any]]:
        payload = {
            "model": "gpt-4.1-mini",
            "messages": messages,
            "tools": [CALCULATOR],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        headers = {"Content-Type": "application/json", "Authorization": "Bearer benchmark"}
        url = f"{model_url}/chat/completions"
        async with session.post(url, data=orjson.dumps(payload), headers=headers) as response:
            async for line in response.content:
                if not line.startswith(b"data: {"):
                    continue
                for choice in orjson.loads(line[6:])["choices"]:
                    yield choice["delta"]

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description="A bare endpoint to compare with.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model-url", required=True)
    arguments = parser.parse_args()
    uvicorn.run(make_app(arguments.model_url), port=arguments.port, access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
