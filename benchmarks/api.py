"""How long the API takes to answer on a large store, over HTTP: the median and the 95th percentile of each question.

`uv run python benchmarks/api.py DATA_PATH [TIMES]`, with the store of `benchmarks/store.py`. The server is a process of
its own; questions are asked one after the other, most with other parameters each time, so that no cache helps.
"""

import asyncio
import random
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from servers.server_process import ServerProcess

TIMES = 100
TARGETS = {
    "session list": 15,
    "session list, deep page": 15,
    "session list by cost": 15,
    "session list by status": 15,
    "session list by search, rare": 15,
    "session list by search, common": 15,
    "session by id": 3,
    "messages, anywhere in 10,000": 10,
    "performance, 30 days": 25,
    "cost, 30 days": 25,
    "tokens, 30 days": 25,
    "errors, 30 days": 25,
    "trend of tokens, 7 days": 10,
    "trend of response time, 7 days": 10,
    "statistics of all sessions": 25,
}
Question = tuple[str, dict[str, Any]]


def questions(ids: list[str], long_session: str, rng: random.Random) -> dict[str, Callable[[], Question]]:
    def days() -> dict[str, Any]:
        start = datetime.now(UTC) - timedelta(days=30, seconds=rng.randrange(86_400))
        return {"start_time": start.isoformat()}

    def listed(**more: Any) -> Question:
        return "/sessions/", {"page_size": 20, **more}

    pages = max(1, len(ids) // 20 - 1)
    messages = f"/history/sessions/{long_session}/messages"
    status = ("completed", "error", "stopped", "paused")
    return {
        "session list": lambda: listed(page=1),
        "session list, deep page": lambda: listed(page=rng.randint(1, pages)),
        "session list by cost": lambda: listed(page=rng.randint(1, pages), sort_by="cost"),
        "session list by status": lambda: listed(page=rng.randint(1, pages // 30 + 1), status=rng.choice(status)),
        "session list by search, rare": lambda: listed(search=rng.choice(ids)[-6:]),
        "session list by search, common": lambda: listed(search=rng.choice(("refund", "天气", "review", "order"))),
        "session by id": lambda: (f"/sessions/{rng.choice(ids)}", {}),
        "messages, anywhere in 10,000": lambda: (messages, {"limit": 50, "offset": rng.randrange(9_950)}),
        "performance, 30 days": lambda: ("/analytics/performance", days()),
        "cost, 30 days": lambda: ("/analytics/cost", days()),
        "tokens, 30 days": lambda: ("/analytics/tokens", days()),
        "errors, 30 days": lambda: ("/analytics/errors", days()),
        "trend of tokens, 7 days": lambda: ("/analytics/trends", {"metric": "tokens"}),
        "trend of response time, 7 days": lambda: ("/analytics/trends", {"metric": "response_time"}),
        "statistics of all sessions": lambda: ("/sessions/statistics", {}),
    }


async def timed(client: httpx.AsyncClient, ask: Callable[[], Question], times: int) -> tuple[float, float, float]:
    """Milliseconds: the median and the 95th percentile; and what the server itself says of the median's kind."""
    took: list[float] = []
    inside: list[float] = []
    for number in range(times + 5):
        path, params = ask()
        began = time.perf_counter()
        answer = await client.get(path, params=params)
        seconds = time.perf_counter() - began
        if answer.status_code != 200:
            raise SystemExit(f"{path}: {answer.status_code} {answer.text[:500]}")
        if number >= 5:
            took.append(seconds * 1000)
            said = answer.headers.get("server-timing", "").partition("dur=")[2].split(",")[0]
            inside.append(float(said or 0))
    return statistics.median(took), statistics.quantiles(took, n=20)[-1], statistics.median(inside)


def known(database: Path) -> tuple[list[str], str]:
    """The ids of all sessions, and of the one with most messages."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        ids = [row[0] for row in connection.execute("SELECT session_id FROM sessions")]
        (longest,) = connection.execute("SELECT session_id FROM sessions ORDER BY messages DESC LIMIT 1").fetchone()
    return ids, longest


async def main() -> None:
    data_path = Path(sys.argv[1]).resolve()
    times = int(sys.argv[2]) if len(sys.argv) > 2 else TIMES
    ids, longest = known(data_path / "modular_agent.db")
    environment = {"DATA_PATH": str(data_path), "RATE_LIMIT_PER_MINUTE": "1000000", "LOG_LEVEL": "WARNING"}
    (data_path / "configs").mkdir(exist_ok=True)
    server = ServerProcess(data_path, configs=data_path / "configs", environment=environment)
    async with server:
        missed = 0
        for name, ask in questions(ids, longest, random.Random(7)).items():
            median, p95, inside = await timed(server.client, ask, times)
            missed += p95 > TARGETS[name]
            mark = "ok" if p95 <= TARGETS[name] else "MISSED"
            print(
                f"{name:34} {median:7.1f} {p95:7.1f} ms  server {inside:6.1f}  target {TARGETS[name]:3}  {mark}",
                flush=True,
            )
    print("all within their targets" if not missed else f"{missed} above their targets")


if __name__ == "__main__":
    asyncio.run(main())
