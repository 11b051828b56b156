"""A lean load client: POSTs over kept connections, reads each streamed answer to its end, prints the latencies as JSON.

It reads a JSON object from stdin: `port`, `paths` (for each client those that it asks, one after the other), `body`,
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


def spread(turns: int, over: int) -> list[int]:
    """So many turns for each of `over`, as evenly as can be."""
    each, rest = divmod(turns, over)
    return [each + (i < rest) for i in range(over)]


async def client(job: dict[str, Any], paths: list[str], turns: int, latencies: list[float], sizes: list[int]) -> None:
    """Runs turns one after the other on one connection, spread over its paths."""
    body, ending = orjson.dumps(job["body"]), job["ending"].encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", job["port"])
    for path, count in zip(paths, spread(turns, len(paths)), strict=True):
        head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        )
        request = head.encode() + b"\r\n\r\n" + body
        for _ in range(count):
            began = time.perf_counter()
            sizes.append(await one_turn(reader, writer, request, ending))
            latencies.append((time.perf_counter() - began) * 1000)
    writer.close()


async def run(job: dict[str, Any]) -> dict[str, Any]:
    """All turns of a job, spread over its clients."""
    latencies: list[float] = []
    sizes: list[int] = []
    counts = spread(job["turns"], len(job["paths"]))
    began = time.perf_counter()
    await asyncio.gather(
        *(
            client(job, paths, count, latencies, sizes)
            for paths, count in zip(job["paths"], counts, strict=True)
            if count
        )
    )
    return {"seconds": time.perf_counter() - began, "latencies_ms": latencies, "bytes": sum(sizes)}


def main() -> None:
    import uvloop

    job = orjson.loads(sys.stdin.buffer.read())
    sys.stdout.buffer.write(orjson.dumps(uvloop.run(run(job))))


if __name__ == "__main__":
    main()
