"""What is done for many units together comes out as if they had come one by one."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from modular_agent.events import Record, RecordType, SessionRef
from modular_agent.lifecycle import RunStatus
from modular_agent.storage.database import Database
from modular_agent.storage.repositories.checkpoints import settled_checkpoint
from modular_agent.storage.repositories.run_steps import create_run, transition_run
from modular_agent.storage.repositories.runs import NewRun, RunChange, add_to_inbox, inbox_waits
from modular_agent.storage.repositories.sessions import NewSession, create_session
from modular_agent.storage.unit_of_work import Committed, UnitOfWork

HOUR = 3_600_000_000
TABLES = ("runs", "sessions", "run_hour", "histogram_day", "log_files")


class Still:
    """A clock that stands."""

    def now_us(self) -> int:
        return 100 * HOUR

    def monotonic(self) -> float:
        return 0.0


# Session (the last one does not exist), what is to happen to its run, the epoch that is expected, and when.
UNITS = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.sampled_from(["create", "create", *RunStatus]),
        st.sampled_from([1, 1, 1, 2, None]),
        st.integers(1, 3),
    ),
    min_size=1,
    max_size=24,
)


def unit_of(number: int, session: SessionRef, what: str, epoch: int | None, at: int) -> UnitOfWork[Any]:
    unit: UnitOfWork[Any] = UnitOfWork(alone=session.n)
    run_id = f"{session.session_id}-run"
    if what == "create":
        status = RunStatus.RUNNING if number % 2 else RunStatus.QUEUED
        unit.first = create_run(NewRun(run_id=f"{run_id}-{number}", session=session, now_us=at * HOUR, status=status))
        unit.then = settled_checkpoint(session)
    else:
        change = RunChange(active_us=at * 1_000, result={"number": number}, current_node="n")
        unit.first = transition_run(
            f"{run_id}-0", RunStatus(what), now_us=at * HOUR, expected_epoch=epoch, raise_epoch=at == 2, change=change
        )
        unit.then = inbox_waits(session)
    unit.record(session, Record(record_type=RecordType.LOG, fields={"number": number}, record_id=f"rec_{number}"))
    return unit


async def stored(drawn: list[tuple[int, str, int | None, int]], *, together: bool) -> tuple[list[Any], list[Any]]:
    """What the units were answered, and what stands in the tables."""
    with tempfile.TemporaryDirectory() as folder:
        async with Database.open(Path(folder) / "data", clock=Still()) as database:
            sessions: list[SessionRef] = []
            for n in range(4):
                new = NewSession(
                    session_id=f"s{n}",
                    workflow_id=f"w{n % 2}",
                    workflow_version="v",
                    workflow_config_path="w",
                    now_us=1,
                )
                sessions.append((await database.writer.commit(UnitOfWork(then=create_session(new)))).result)
                first = create_run(NewRun(run_id=f"s{n}-run-0", session=sessions[n], now_us=HOUR))
                await database.writer.commit(UnitOfWork(then=first))
            message = add_to_inbox(sessions[1], "hello", run_id=None, now_us=1)
            await database.writer.commit(UnitOfWork(then=message))
            sessions.append(SessionRef(99, "none"))
            units = [unit_of(number, sessions[n], *rest) for number, (n, *rest) in enumerate(drawn, 1)]
            if together:
                groups = database.writer.groups
                done = await asyncio.gather(*map(database.writer.submit, units), return_exceptions=True)
                assert database.writer.groups == groups + 1
            else:
                done = [
                    (await asyncio.gather(database.writer.submit(unit), return_exceptions=True))[0] for unit in units
                ]
            answers = [
                (each.result, [record.seq for record in each.records]) if isinstance(each, Committed) else repr(each)
                for each in done
            ]
            tables = [sorted(await database.readers.query(f"SELECT * FROM {name}"), key=repr) for name in TABLES]
            return answers, tables


@settings(max_examples=25, deadline=None)
@given(UNITS)
def test_runs_that_start_and_end_together_fare_as_if_they_had_come_one_by_one(
    drawn: list[tuple[int, str, int | None, int]],
) -> None:
    async def both() -> None:
        assert await stored(drawn, together=True) == await stored(drawn, together=False)

    asyncio.run(both())
