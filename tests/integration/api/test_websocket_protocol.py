"""How the web server sends the messages of a WebSocket: together or not, compressed or not."""

from pathlib import Path
from typing import Any

import pytest
from websockets.extensions.permessage_deflate import PerMessageDeflate

from modular_agent.api.websocket_protocol import WebSocketProtocol
from servers.live_server import LiveServer, Socket

ECHO = """
models: {main: {provider: scripted, script: scripts/test.yaml}}
nodes: {answer: {type: llm, model: main}}
edges: [{from: START, to: answer}, {from: answer, to: END}]
"""


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each write to a client's socket had."""
    sizes: list[int] = []
    made = WebSocketProtocol.connection_made

    class Counting:
        def __init__(self, transport: Any) -> None:
            self._transport = transport

        def __getattr__(self, name: str) -> Any:
            return getattr(self._transport, name)

        def write(self, data: bytes) -> None:
            sizes.append(len(data))
            self._transport.write(data)

    def counted(self: WebSocketProtocol, transport: Any) -> None:
        made(self, Counting(transport))

    monkeypatch.setattr(WebSocketProtocol, "connection_made", counted)
    return sizes


async def replayed(server: LiveServer) -> tuple[Socket, list[dict[str, Any]], list[dict[str, Any]]]:
    """A client to whom a whole log was sent, the log, and what it got of it."""
    server.workflow(ECHO, otherwise={"reply": "You said: {{ input }} 多少"})
    session_id = await server.session()
    await server.run(session_id, "one")
    records = await server.records(session_id)
    async with server.socket() as client:
        await client.ask("subscribe", session_id=session_id, data={"after_seq": 0})
        return client, records, [(await client.receive())["data"] for _ in records]


async def test_what_is_read_together_is_sent_in_one_write(tmp_path: Path, writes: list[int]) -> None:
    async with LiveServer(tmp_path) as server:
        client, records, got = await replayed(server)
    assert got == records
    assert len(records) > 8
    assert len(writes) <= 5  # the handshake, the answer, the records, the close and what answers it
    assert client.connection.protocol.extensions == []


async def test_large_messages_are_sent_in_parts(tmp_path: Path, writes: list[int]) -> None:
    """A slow client is given time for each part, not for all there is."""
    async with LiveServer(tmp_path) as server:
        server.workflow(ECHO, otherwise={"reply": "x" * 20_000})
        session_id = await server.session()
        for _ in range(3):
            await server.run(session_id, "one")
        writes.clear()
        async with server.socket() as client:
            await client.ask("subscribe", session_id=session_id, data={"after_seq": 0, "types": ["message"]})
            for _ in range(6):
                await client.receive()
    assert max(writes) < 64 * 1024
    assert sum(writes) > 60_000


async def test_messages_are_compressed_if_the_setting_says_so(tmp_path: Path) -> None:
    async with LiveServer(tmp_path, WS_COMPRESSION="true") as server:
        client, records, got = await replayed(server)
    assert got == records
    assert [type(each) for each in client.connection.protocol.extensions] == [PerMessageDeflate]


async def test_a_web_server_that_cannot_send_together_sends_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `uvicorn modular_agent.server:app` does, with uvicorn's own protocol."""
    for name in ("handle_connect", "send"):
        monkeypatch.delattr(WebSocketProtocol, name)
    async with LiveServer(tmp_path) as server:
        _, records, got = await replayed(server)
    assert got == records
