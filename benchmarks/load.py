"""A lean load client: POSTs over kept connections, reads each streamed answer to its end, prints the latencies as JSON.

It reads a JSON object from stdin: `port`, `paths` (one client each; a path's requests follow one another), `body`,
`turns` (in all), and `ending` (bytes that a complete answer holds). Prints `{"seconds", "latencies_ms", "bytes"}`.
"""

import asyncio
import sys
import time
from typing import Any

import orjson

LAST_CHUNK = b"0\r\n\r\n"


class Incomplete(Exception):
    """An answer that is an error or breaks off."""


async def one_turn(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes, ending: bytes) -> int:
    """Sends a request and reads its chunked answer to the last chunk; answers how many bytes came."""
    writer.write(request)
    got = bytearray()
    while not got.endswith(LAST_CHUNK):
        data = await asyncio.wait_for(reader.read(65536), 60)
        if not data:
            raise Incomplete(bytes(got[-500:]).decode(errors="replace"))
        got += data
        if b"content-length" in got[:600].lower():
            raise Incomplete(bytes(got[:1000]).decode(errors="replace"))
    if ending not in got:
        raise Incomplete(bytes(got[-500:]).decode(errors="replace"))
    return len(got)


async def client(job: dict[str, Any], path: str, turns: int, latencies: list[float], sizes: list[int]) -> None:
    """Runs `turns` turns one after the other on one connection."""
    body = orjson.dumps(job["body"])
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    request = head.encode() + b"\r\n\r\n" + body
    reader, writer = await asyncio.open_connection("127.0.0.1", job["port"])
    for _ in range(turns):
        began = time.perf_counter()
        sizes.append(await one_turn(reader, writer, request, job["ending"].encode()))
        latencies.append((time.perf_counter() - began) * 1000)
    writer.close()


async def run(job: dict[str, Any]) -> dict[str, Any]:
    """All turns of a job, spread over its paths."""
    latencies: list[float] = []
    sizes: list[int] = []
    paths = job["paths"]
    each, rest = divmod(job["turns"], len(paths))
    began = time.perf_counter()
    await asyncio.gather(
        *(client(job, path, each + (i < rest), latencies, sizes) for i, path in enumerate(paths) if each + (i < rest))
    )
    return {"seconds": time.perf_counter() - began, "latencies_ms": latencies, "bytes": sum(sizes)}


def main() -> None:
    import uvloop

    job = orjson.loads(sys.stdin.buffer.read())
    sys.stdout.buffer.write(orjson.dumps(uvloop.run(run(job))))


if __name__ == "__main__":
    main()
