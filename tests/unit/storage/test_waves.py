"""Units of one group change places only where nobody can tell: each session sees its own in their order."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from modular_agent.errors import AgentError, Kind
from modular_agent.events import Record, RecordType, SessionRef
from modular_agent.storage.database import Database
from modular_agent.storage.repositories.sessions import NewSession, create_session
from modular_agent.storage.unit_of_work import Committed, UnitOfWork


class Refused(AgentError):
    code = "refused_by_test"
    kind = Kind.CONFLICT


# A unit: its session, which part of it asks how many records the session has, whether `first` or `then` refuses, and
# whether it says that it is about that session alone.
UNITS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(["plain", "first", "then"]),
        st.sampled_from([False, False, False, True]),
        st.booleans(),
    ),
    min_size=1,
    max_size=12,
)


def unit_of(session: SessionRef, number: int, kind: str, *, refuses: bool, alone: bool) -> UnitOfWork[Any]:
    unit: UnitOfWork[Any] = UnitOfWork(alone=session.n if alone else None)
    unit.record(session, Record(record_type=RecordType.LOG, fields={"number": number}))

    def look(connection: Any) -> int:
        if refuses:
            raise Refused
        return connection.execute("SELECT last_seq FROM sessions WHERE n = ?", (session.n,)).fetchone()[0]

    if kind == "first":
        unit.first = look
    elif kind == "then":
        unit.then = look
    return unit


async def outcome_of(drawn: list[tuple[int, str, bool, bool]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with Database.open(Path(folder) / "data") as database:
            sessions: list[SessionRef] = []
            for n in range(3):
                new = NewSession(
                    session_id=f"s-{n}", workflow_id="w", workflow_version="v", workflow_config_path="w", now_us=1
                )
                sessions.append((await database.writer.commit(UnitOfWork(then=create_session(new)))).result)
            units = [
                unit_of(sessions[n], number, kind, refuses=refuses, alone=alone)
                for number, (n, kind, refuses, alone) in enumerate(drawn)
            ]
            groups = database.writer.groups
            done = await asyncio.gather(*map(database.writer.submit, units), return_exceptions=True)
            assert database.writer.groups == groups + 1
            seqs = [0, 0, 0]
            kept: list[list[int]] = [[], [], []]
            for number, ((n, kind, refuses, _), outcome) in enumerate(zip(drawn, done, strict=True)):
                if refuses and kind != "plain":
                    assert isinstance(outcome, Refused)
                    continue
                seqs[n] += 1
                kept[n].append(number)
                assert isinstance(outcome, Committed)
                assert [record.seq for record in outcome.records] == [seqs[n]]
                assert outcome.result == (seqs[n] if kind == "then" else None)
            for n, session in enumerate(sessions):
                lines = await database.records.after(session, seq=0, limit=100)
                assert [orjson.loads(record.line)["number"] for record in lines] == kept[n]


@settings(max_examples=40, deadline=None)
@given(UNITS)
def test_every_unit_fares_as_if_they_had_come_one_by_one(drawn: list[tuple[int, str, bool, bool]]) -> None:
    asyncio.run(outcome_of(drawn))
