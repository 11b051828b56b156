"""The whole product in this event loop, behind a real uvicorn socket."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from modular_agent.runtime import Runtime
from modular_agent.server import create_app
from modular_agent.settings import load_settings

__all__ = ["REST", "TALK", "Product", "serving_product", "write_files"]

REST = """\
schema: modular-agent/v1
name: rest
description: Rests, then asks.
version: "2.1"
nodes:
  rest: {type: wait, duration: 10ms}
  ask: {type: human, question: "Go on?"}
edges:
  - {from: START, to: rest}
  - {from: rest, to: ask}
  - {from: ask, to: END}
"""
TALK = """\
schema: modular-agent/v1
name: talk
models: {main: {provider: scripted, script: scripts/talk.yaml}}
nodes:
  answer: {type: llm, model: main, prompt: prompts/talk.md}
edges:
  - {from: START, to: answer}
"""
FILES = {
    "workflows/rest.yaml": REST,
    "workflows/nested/talk.yml": TALK,
    "scripts/talk.yaml": "otherwise: {reply: '你好, friend.'}\n",
    "prompts/talk.md": "Be brief.\n",
}


@dataclass(frozen=True)
class Product:
    """A client of the server, its configs root, and what is behind it."""

    client: httpx.AsyncClient
    root: Path
    runtime: Runtime

    async def json(self, method: str, path: str, *, status: int = 200, **request: Any) -> Any:
        """The parsed body of an answer with that status."""
        answer = await self.client.request(method, path, **request)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def problem(self, method: str, path: str, *, status: int, code: str, **request: Any) -> Any:
        """The problem document of an answer with that status and code."""
        answer = await self.client.request(method, path, **request)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
        assert answer.json()["code"] == code
        return answer.json()

    async def run(self, workflow_id: str, message: str | None = None) -> str:
        """A session whose first run has ended, or waits; answers its id."""
        session = await self.json("POST", "/sessions/", status=201, json={"workflow_id": workflow_id})
        body = {"mode": "wait", **({"message": message} if message else {})}
        await self.json("POST", f"/sessions/{session['session_id']}/runs", json=body)
        return session["session_id"]


def write_files(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


@asynccontextmanager
async def serving_product(place: Path, **variables: str) -> AsyncGenerator[Product]:
    """The server on the data and the configs root below `place`."""
    given = {"DATA_PATH": str(place / "data"), "CONFIG_PATH": str(place / "configs"), "LOG_FILE": "none", **variables}
    app = create_app(load_settings(given, env_file=None))
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    async with app.router.lifespan_context(app):  # here, so that a failed start raises what it met
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            task = asyncio.create_task(server._serve([listening]))  # `serve` would take the test runner's signals
            while not server.started:
                assert not task.done(), task.result()
                await asyncio.sleep(0.005)
            base = f"http://127.0.0.1:{listening.getsockname()[1]}"
            try:
                async with httpx.AsyncClient(base_url=base, trust_env=False) as client:
                    yield Product(client, place / "configs", app.state.runtime)
            finally:
                server.should_exit = True
                await task
