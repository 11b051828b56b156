"""Makes a large store, equal to what the product writes: 100,000 sessions, 1,000,000 records, 400,000 model calls.

`uv run python benchmarks/store.py DATA_PATH [SESSIONS]`: of 100,000 sessions it takes about a minute. One session has
10,000 messages. The rows go in by plain SQL, a session's totals with them; the sums that statistics are read from are
made anew from the rows at the end. No files are written: the mirror's watermark is that of the newest record, as after
the months were archived; a server started on the store leaves them alone.
"""

import random
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from modular_agent.events import CommittedRecord, Record, RecordType
from modular_agent.storage.connections import open_writing
from modular_agent.storage.location import Location
from modular_agent.storage.log_cursors import month_of
from modular_agent.storage.migrations import upgrade
from modular_agent.storage.models import errors, log_files, records, runs, sessions
from modular_agent.storage.models import llm_calls as llm_calls_table
from modular_agent.storage.rollup_rebuild import rebuild
from modular_agent.storage.session_grams import rebuild_grams
from modular_agent.storage.sql import marks

SESSIONS = 100_000
CALLS_EACH = 4
LONG = 10_000  # messages of the one long session
DAYS = 30
DAY = 86_400_000_000
WORDS = ("order", "refund", "weather", "invoice", "shipping", "天气", "退款", "订单", "arithmetic", "library", "review")
MODELS = [("openai", f"model-{n}", price) for n, price in enumerate((150, 400, 1_000, None, 60, 2_500, 90, 300))]
WORKFLOWS = [f"workflow-{n}" for n in range(10)]
NODES = ("think", "answer", "check", "plan")
STATUSES = ("completed",) * 16 + ("error", "stopped", "stopped", "paused")
RUN_STATUS = {"completed": "completed", "error": "failed", "stopped": "stopped", "paused": "paused"}
MONTH, LENGTH = 8, 10  # in a row of records


class Builder:
    """The rows of one session after the other, in the order of their times."""

    def __init__(self, count: int, *, now_us: int, seed: int = 1) -> None:
        self._random = random.Random(seed)
        self._count = count
        self._start = now_us - DAYS * DAY
        self._now = now_us

    def sessions(self) -> Iterator[dict[str, list[tuple[Any, ...]]]]:
        for n in range(1, self._count + 1):
            yield self._session(n, messages=LONG if n == self._count // 2 else 0)

    def _session(self, n: int, *, messages: int) -> dict[str, list[tuple[Any, ...]]]:
        rng = self._random
        created = self._start + (self._now - self._start - 600_000_000) * n // (self._count + 1)
        workflow = WORKFLOWS[min(int(rng.expovariate(0.4)), len(WORKFLOWS) - 1)]
        self._id, self._run_id = f"{workflow}-{n:09}-{rng.randrange(16**6):06x}", f"run_{n:020}"
        status = rng.choice(STATUSES)
        self._n, self._seq, self._ts, self._offset = n, 0, created, 0
        self._lines: list[tuple[Any, ...]] = []
        self._errors: list[tuple[Any, ...]] = []
        totals = dict.fromkeys(("messages", "prompt", "completion", "cached", "unpriced", "cost"), 0)
        calls = [self._call(workflow, totals) for _ in range(CALLS_EACH)]
        for number in range(messages or rng.choice((4, 5, 6))):
            self._message(number)
            totals["messages"] += 1
        self._record(RecordType.RUN, {"status": RUN_STATUS[status]}, None)
        text = f"{rng.choice(WORDS)} {rng.choice(WORDS)} {n}"
        meta = orjson.dumps({"customer": f"c-{rng.randrange(5_000)}", "topic": rng.choice(WORDS)}).decode()
        ended = status != "paused"
        session = (
            *(n, self._id, "default", workflow, "0" * 64, f"workflows/{workflow}.yaml", status, text, "[]", "{}", meta),
            *("{}", created, self._ts, None if ended else self._run_id, 1, self._seq, self._ts),
            *(totals["messages"], 0, len(self._errors), totals["prompt"], totals["completion"], totals["cached"], 0),
            *(totals["unpriced"], totals["cost"], None),
        )
        run = (
            *(self._run_id, n, RUN_STATUS[status], 1, "{}", "{}", "{}", None, created, created),
            *(self._ts if ended else None, self._ts - created, 0, None, CALLS_EACH, None, None),
        )
        files: dict[int, int] = {}
        for line in self._lines:
            files[line[MONTH]] = files.get(line[MONTH], 0) + line[LENGTH]
        return {
            "sessions": [session],
            "runs": [run],
            "llm_calls": calls,
            "errors": self._errors,
            "records": self._lines,
            "log_files": [(n, month, length) for month, length in files.items()],
        }

    def _call(self, workflow: str, totals: dict[str, int]) -> tuple[Any, ...]:
        rng = self._random
        place = WORKFLOWS.index(workflow)
        provider, model, price = MODELS[(place + (rng.random() < 0.25)) % len(MODELS)]
        node = rng.choice(NODES)
        us, prompt, completion = int(rng.lognormvariate(14, 0.7)), rng.randrange(100, 4_000), rng.randrange(20, 800)
        cached = rng.choice((0, 0, prompt // 2))
        cost = None if price is None else (prompt + 4 * completion) * price
        self._ts += us
        usage = {"model": model, "prompt_tokens": prompt, "completion_tokens": completion, "cached_tokens": cached}
        call_id = self._record(
            RecordType.LLM_RESPONSE, {**usage, "provider": provider, "response_time": us / 1e6}, node
        )
        totals["prompt"] += prompt
        totals["completion"] += completion
        totals["cached"] += cached
        totals["unpriced"] += 0 if cost is not None else prompt + completion
        totals["cost"] += cost or 0
        source = None if cost is None else "override bench"
        failed = "timeout" if rng.random() < 0.01 else None
        if failed:
            about: dict[str, str] = {
                "error_type": rng.choice(("ProviderTimeout", "ToolFailed")),
                "error_message": "it took too long",
            }
            error = {"error_id": f"err_{call_id}", **about, "severity": "error", "fingerprint": about["error_type"]}
            self._record(RecordType.ERROR, {**error, "stack_trace": ""}, node)
            row = (error["error_id"], self._n, self._run_id, node, self._ts, *about.values(), "error")
            self._errors.append((*row, error["fingerprint"]))
        return (
            *(
                call_id,
                self._n,
                self._run_id,
                self._ts,
                workflow,
                node,
                provider,
                model,
                us,
                us // 4,
                prompt,
                completion,
            ),
            *(cached, 0, 0, cost, source, failed, ""),
        )

    def _message(self, number: int) -> None:
        rng = self._random
        words = " ".join(rng.choices(WORDS, k=24))
        kind = "assistant" if number % 2 else "user"
        self._ts += 1_000
        self._record(RecordType.MESSAGE, {"message_type": kind, "content": f"{number}: {words}"}, NODES[0])

    def _record(self, kind: RecordType, fields: dict[str, Any], node: str | None) -> str:
        self._seq += 1
        record_id = f"rec_{self._n:08}{self._seq:08}"
        record = Record(record_type=kind, run_id=self._run_id, node=node, fields=fields, record_id=record_id)
        line = CommittedRecord.make_line(self._seq, self._ts, record.encode(self._id))
        month = month_of(self._ts)
        if self._lines and self._lines[-1][MONTH] != month:
            self._offset = 0
        place = (month, self._offset, len(line), line)
        self._lines.append((None, self._n, self._seq, self._ts, kind.value, record_id, self._run_id, node, *place))
        self._offset += len(line)
        return record_id


def build(data_path: Path, count: int, *, now_us: int) -> None:
    """Makes the store in `data_path`, which must not hold one."""
    location = Location.of(data_path)
    location.database.parent.mkdir(parents=True, exist_ok=True)
    connection = open_writing(location.database)
    upgrade(connection)
    connection.execute("PRAGMA synchronous=OFF")
    tables = {table.name: table for table in (sessions, runs, llm_calls_table, errors, records, log_files)}
    texts = {name: f"INSERT INTO {name} VALUES ({marks(len(table.columns))})" for name, table in tables.items()}
    connection.execute("BEGIN IMMEDIATE")
    for number, made in enumerate(Builder(count, now_us=now_us).sessions()):
        for name, rows in made.items():
            connection.executemany(texts[name], rows)
        if number % 5_000 == 4_999:
            connection.execute("COMMIT")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            connection.execute("BEGIN IMMEDIATE")
    rebuild(connection)
    rebuild_grams(connection)
    connection.execute("INSERT INTO mirror SELECT 1, max(id) FROM records")
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()


def main() -> None:
    data_path = Path(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else SESSIONS
    began = time.perf_counter()
    build(data_path, count, now_us=time.time_ns() // 1_000)
    with sqlite3.connect(Location.of(data_path).database) as connection:
        counts = {
            table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("sessions", "records", "llm_calls", "usage_hour", "usage_day", "histogram_day")
        }
    print(f"{time.perf_counter() - began:.0f} s", counts)


if __name__ == "__main__":
    main()
