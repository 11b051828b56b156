"""How long searches take on a large store, over HTTP: the median and the 95th percentile of each kind of query.

`uv run python benchmarks/search.py DATA_PATH [TIMES] [NAME...]`, with the store of `benchmarks/store.py`: all of its
questions, or those whose names hold one of the given pieces. A few messages with rare words are added, and the index is
made, when they are not there yet. Questions have other parameters each time where that is possible.
"""

import asyncio
import random
import sys
import time
from pathlib import Path
from typing import Any

from asking import Question, ask_all, known, running

from modular_agent.events import Record, RecordType, SessionRef
from modular_agent.storage.database import Database
from modular_agent.storage.unit_of_work import UnitOfWork

TIMES = 200
RARE = ("xylophone in the attic", "鹭岛的海鸥", "the zeppelin landed", "蜻蜓点水")


def questions(long_session: str, rng: random.Random) -> dict[str, Question]:
    everywhere = "/history/search"
    inside = f"/history/sessions/{long_session}/search"

    def pick(*queries: str) -> dict[str, Any]:
        return {"query": rng.choice(queries), "limit": rng.randint(18, 22)}

    return {
        "rare word": Question(20, lambda: (everywhere, pick("xylophone", "zeppelin", "attic"))),
        "rare Chinese word": Question(20, lambda: (everywhere, pick("鹭岛", "海鸥", "蜻蜓", "鹭", "蜓"))),
        "no such word": Question(20, lambda: (everywhere, pick("quetzal", "麒麟", "qwertz"))),
        "common word": Question(50, lambda: (everywhere, pick("refund", "weather", "invoice"))),
        "common Chinese word": Question(50, lambda: (everywhere, pick("天气", "订单", "款"))),
        "two common words in a row": Question(50, lambda: (everywhere, pick("refund invoice", "天气 退款"))),
        "one letter, two letters": Question(50, lambda: (everywhere, pick("r", "in", "sh"))),
        "common grams, no such phrase": Question(
            None, lambda: (everywhere, pick("refund refund refund refund refund xq"))
        ),
        "common word, one day": Question(
            50, lambda: (everywhere, {**pick("refund"), "start_time": day(rng), "limit": 20})
        ),
        "common word, one workflow": Question(
            50, lambda: (everywhere, {**pick("refund"), "workflow_id": "workflow-9"})
        ),
        "rare number in a session of 10,000": Question(None, lambda: (inside, pick(f"{rng.randrange(1_000, 9_999)}:"))),
        "common word in a session of 10,000": Question(None, lambda: (inside, pick("refund", "天气"))),
    }


def day(rng: random.Random) -> str:
    """The start of one of the last ten days."""
    return time.strftime("%Y-%m-%dT00:00:00Z", time.gmtime(time.time() - 86_400 * rng.randrange(1, 10)))


async def prepare(data_path: Path, long_session: str) -> None:
    """Adds the rare words and brings the index up to date; says how long that took."""
    async with Database.open(data_path) as database:
        rows = await database.readers.query("SELECT n, session_id FROM sessions WHERE session_id != ?", (long_session,))
        if not await database.readers.query("SELECT 1 FROM records WHERE record_id = 'rec_rare_0'"):
            for number, text in enumerate(RARE):
                session = SessionRef(*rows[(number + 1) * len(rows) // 5])
                fields = {"message_type": "user", "content": f"Tell me about {text}, please."}
                unit: UnitOfWork[None] = UnitOfWork()
                unit.record(
                    session, Record(record_type=RecordType.MESSAGE, fields=fields, record_id=f"rec_rare_{number}")
                )
                await database.log.append(unit)
        if database.search.state.indexed_id == 0:
            began = time.perf_counter()
            done = await database.search.rebuild()
            seconds = time.perf_counter() - began
            print(f"index of {done} records: {seconds:.0f} s, {done / seconds:.0f} records/s")
        await database.search.wait_until_indexed()
    size = sum(path.stat().st_size for path in (data_path / "index").iterdir())
    print(f"index: {size / 1e6:.0f} MB, database: {(data_path / 'modular_agent.db').stat().st_size / 1e6:.0f} MB")


async def main() -> None:
    data_path = Path(sys.argv[1]).resolve()
    times = int(sys.argv[2]) if len(sys.argv) > 2 else TIMES
    _, longest = known(data_path / "modular_agent.db")
    await prepare(data_path, longest)
    async with running(data_path) as clients:
        missed = await ask_all(clients, questions(longest, random.Random(7)), times=times, only=sys.argv[3:])
    print("all within their targets" if not missed else f"{missed} above their targets")


if __name__ == "__main__":
    asyncio.run(main())
