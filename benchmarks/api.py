"""How long the API takes to answer on a large store, over HTTP: the median and the 95th percentile of each question.

`uv run python benchmarks/api.py DATA_PATH [TIMES] [NAME...]`, with the store of `benchmarks/store.py`: all questions,
or those whose names hold one of the given pieces. Most are asked with other parameters each time, so that no cache
helps. Search in histories has a script of its own, `benchmarks/search.py`.
"""

import asyncio
import random
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from asking import Query, Question, ask_all, known, running

TIMES = 200
LIST, MESSAGES, FIGURES, TREND = 15, 10, 25, 10  # ms


class Asker:
    """What a user asks, with other parameters each time."""

    def __init__(self, ids: list[str], long_session: str, rng: random.Random) -> None:
        self._ids = ids
        self._rng = rng
        self._messages = f"/history/sessions/{long_session}/messages"
        self._cursors: dict[str, str] = {}

    def listed(self, *, pages: int = 1, **more: Any) -> Query:
        """A page of 20 sessions, one of the first `pages`."""
        return "/sessions/", {"page_size": 20, "page": self._rng.randint(1, pages), **more}

    def by_id(self) -> Query:
        return f"/sessions/{self._rng.choice(self._ids)}", {}

    def messages(self, **more: Any) -> Query:
        return self._messages, {"limit": 50, "offset": self._rng.randrange(9_950), **more}

    def days(self, path: str, count: int = 30) -> Query:
        """The figures of so many days that begin at any second of a day."""
        start = datetime.now(UTC) - timedelta(days=count, seconds=self._rng.randrange(86_400))
        return path, {"start_time": start.isoformat()}

    def between(self, path: str) -> Query:
        """The figures of 30 days that begin and end at any second."""
        end = datetime.now(UTC) - timedelta(seconds=self._rng.randrange(86_400))
        return path, {"start_time": (end - timedelta(days=30)).isoformat(), "end_time": end.isoformat()}

    def pick(self, *values: str) -> str:
        return self._rng.choice(values)

    def piece_of_id(self) -> str:
        return self._rng.choice(self._ids)[-6:]


def questions(ids: list[str], long_session: str, rng: random.Random) -> dict[str, Question]:
    a = Asker(ids, long_session, rng)
    deep = max(1, len(ids) // 20 - 1)
    statuses = ("completed", "error", "stopped", "paused")
    customer = lambda: f"c-{rng.randrange(5_000)}"  # noqa: E731 - a value each time
    return {
        "sessions, first page": Question(LIST, a.listed),
        "sessions, any page": Question(LIST, lambda: a.listed(pages=deep)),
        "sessions by cost, any page": Question(LIST, lambda: a.listed(pages=deep, sort_by="cost")),
        "sessions by updated_at, any page": Question(LIST, lambda: a.listed(pages=deep, sort_by="updated_at")),
        "sessions by id, any page": Question(LIST, lambda: a.listed(pages=deep, sort_by="session_id")),
        "sessions of a status, any page": Question(
            LIST, lambda: a.listed(pages=deep // 30 + 1, status=a.pick(*statuses))
        ),
        "sessions, search for a piece of an id": Question(LIST, lambda: a.listed(search=a.piece_of_id())),
        "sessions, search for a customer": Question(LIST, lambda: a.listed(search=customer())),
        "sessions, search and status": Question(LIST, lambda: a.listed(search=customer(), status=a.pick(*statuses))),
        "sessions, search for what is nowhere": Question(LIST, lambda: a.listed(search=f"{rng.random()}")),
        "sessions, search for a frequent word": Question(
            LIST, lambda: a.listed(pages=20, search=a.pick("refund", "天气", "review", "order", "货", "workflow-3"))
        ),
        "sessions, frequent word and status": Question(
            LIST, lambda: a.listed(pages=20, search=a.pick("refund", "天气", "order"), status=a.pick(*statuses))
        ),
        "session by id": Question(3, a.by_id),
        "messages, anywhere in 10,000": Question(MESSAGES, a.messages),
        "messages, newest first": Question(MESSAGES, lambda: a.messages(order="desc")),
        "user messages, anywhere": Question(
            MESSAGES, lambda: (a.messages()[0], {"limit": 50, "offset": rng.randrange(4_950), "message_types": "user"})
        ),
        "messages of two types, anywhere": Question(MESSAGES, lambda: a.messages(message_types="user,assistant")),
        "performance, 30 days": Question(FIGURES, lambda: a.days("/analytics/performance")),
        "performance, 30 days up to then": Question(FIGURES, lambda: a.between("/analytics/performance")),
        "cost, 30 days": Question(FIGURES, lambda: a.days("/analytics/cost")),
        "cost, 30 days up to then": Question(FIGURES, lambda: a.between("/analytics/cost")),
        "tokens, 30 days": Question(FIGURES, lambda: a.days("/analytics/tokens")),
        "errors, 30 days": Question(FIGURES, lambda: a.days("/analytics/errors")),
        "errors, 30 days up to then": Question(FIGURES, lambda: a.between("/analytics/errors")),
        "trend of tokens, 7 days": Question(TREND, lambda: ("/analytics/trends", {"metric": "tokens"})),
        "trend of response time, 7 days": Question(TREND, lambda: ("/analytics/trends", {"metric": "response_time"})),
        "trend of errors, 7 days": Question(TREND, lambda: ("/analytics/trends", {"metric": "errors"})),
        "statistics of all sessions": Question(FIGURES, lambda: ("/sessions/statistics", {})),
    }


async def main() -> None:
    data_path = Path(sys.argv[1]).resolve()
    times = int(sys.argv[2]) if len(sys.argv) > 2 else TIMES
    ids, longest = known(data_path / "modular_agent.db")
    async with running(data_path) as clients:
        asked = questions(ids, longest, random.Random(7))
        missed = await ask_all(clients, asked, times=times, only=sys.argv[3:])
    print("all within their targets" if not missed else f"{missed} above their targets")


if __name__ == "__main__":
    asyncio.run(main())
