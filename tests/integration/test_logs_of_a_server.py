"""What a real server process writes, with uvicorn's own lines among it."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import aiohttp

SERVER = """
import asyncio, logging, socket, sys, threading
from pathlib import Path
import uvicorn
from fastapi import FastAPI, WebSocket
from modular_agent.api.errors import install_errors
from modular_agent.api.middleware.drain import Gate
from modular_agent.api.middleware.stack import EdgeOptions, middleware_stack
from modular_agent.kit.logging import Logs

app = FastAPI()
handlers = install_errors(app, debug=False)
for layer in reversed(middleware_stack(EdgeOptions(), gate=Gate(), handlers=handlers)):
    app.add_middleware(layer.cls, *layer.args, **layer.kwargs)

@app.get("/work")
async def work() -> dict[str, bool]:
    logging.getLogger("a.library").warning("half way, key %s", "sk-abcdefghijklmnop")
    await asyncio.to_thread(logging.getLogger("a.library").warning, "in a thread")
    return {"ok": True}

@app.websocket("/ws/{client_id}")
async def ws(websocket: WebSocket, client_id: str) -> None:
    await websocket.accept()
    await websocket.close()

listening = socket.socket()
listening.bind(("127.0.0.1", 0))
listening.listen()
print(listening.getsockname()[1], flush=True)
config = uvicorn.Config(app)  # with uvicorn's own logging, as `uvicorn module:app` has it
with Logs(level="INFO", file=Path(sys.argv[1])):
    uvicorn.Server(config).run([listening])
"""


async def test_every_line_is_json_with_its_request_and_no_secret(tmp_path: Path) -> None:
    file = tmp_path / "logs" / "api.log"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        SERVER,
        str(file),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        port = int(await asyncio.wait_for(process.stdout.readline(), 30))
        url = f"http://127.0.0.1:{port}"
        async with aiohttp.ClientSession() as http:
            async with http.get(f"{url}/work?token=geheim", headers={"X-Request-ID": "mine"}) as answer:
                assert answer.status == 200
            async with http.ws_connect(f"{url}/ws/me?token=geheim") as socket:
                await socket.receive()
        process.send_signal(signal.SIGTERM)
        _, stderr = await asyncio.wait_for(process.communicate(), 30)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert file.read_bytes() == stderr
    lines = [json.loads(line) for line in stderr.splitlines()]
    assert b"geheim" not in stderr
    assert b"sk-abc" not in stderr
    of_the_request = [line["event"] for line in lines if line.get("request_id") == "mine"]
    assert of_the_request == ["half way, key ***", "in a thread", "request"]
    assert any(line["logger"] == "uvicorn.error" for line in lines)
    assert not any(line["logger"] == "uvicorn.access" for line in lines)
