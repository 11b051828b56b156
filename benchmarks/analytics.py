"""What counting costs the writer: model calls with their sums and histograms, against the bare rows, CPU per call.

`uv run python benchmarks/analytics.py [CALLS]`
"""

import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from modular_agent.kit.clock import SystemClock
from modular_agent.storage.connections import open_writing
from modular_agent.storage.migrations import upgrade
from modular_agent.storage.models import llm_calls
from modular_agent.storage.prepared_units import PreparedUnit
from modular_agent.storage.repositories.llm_calls import LlmCallRow, put_llm_call
from modular_agent.storage.repositories.sessions import NewSession, create_session
from modular_agent.storage.transaction import GroupTransaction
from modular_agent.storage.unit_of_work import UnitOfWork

CALLS = 20_000
SESSIONS = 200


def unit(rng: random.Random, number: int, *, counted: bool) -> PreparedUnit:
    made: UnitOfWork[Any] = UnitOfWork()
    us = int(rng.lognormvariate(14, 0.7))
    row = LlmCallRow(
        *(f"call-{number:012}-{counted}", 1 + rng.randrange(SESSIONS), "run", time.time_ns() // 1_000),
        *(f"workflow-{rng.randrange(10)}", f"node-{rng.randrange(4)}", "openai", f"model-{rng.randrange(8)}"),
        *(us, us // 4, 1_000, 100, 0, 0, 0, 500, "override x", None, ""),
    )
    if counted:
        put_llm_call(made, row)
    else:
        made.insert(llm_calls, row.values())
    return PreparedUnit(made, [])


def measure(transaction: GroupTransaction, calls: int, *, group: int, counted: bool) -> float:
    """Microseconds of CPU for a call."""
    rng = random.Random(1)
    units = [unit(rng, number + group * 1_000_000, counted=counted) for number in range(calls)]
    began = time.process_time()
    for start in range(0, calls, group):
        transaction.commit(units[start : start + group])
    return (time.process_time() - began) / calls * 1e6


def main() -> None:
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else CALLS
    with tempfile.TemporaryDirectory() as folder:
        connection = open_writing(Path(folder) / "bench.db")
        upgrade(connection)
        for n in range(SESSIONS):
            new = NewSession(
                session_id=f"s-{n}", workflow_id="w", workflow_version="h", workflow_config_path="p", now_us=1
            )
            create_session(new)(connection)
        transaction = GroupTransaction(connection, clock=SystemClock())
        for group in (1, 10, 50):
            bare = measure(transaction, calls // (1 if group > 1 else 10), group=group, counted=False)
            counted = measure(transaction, calls // (1 if group > 1 else 10), group=group, counted=True)
            print(
                f"group of {group:3}: rows alone {bare:6.1f} us, counted {counted:6.1f} us: {counted - bare:5.1f} more"
            )
        connection.close()


if __name__ == "__main__":
    main()
