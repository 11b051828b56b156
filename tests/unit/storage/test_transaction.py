"""Any mix of good and bad units leaves exactly the good ones, in order."""

import sqlite3
import tempfile
from pathlib import Path

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from modular_agent.events import Record, RecordType, SessionRef
from modular_agent.kit.clock import SystemClock
from modular_agent.storage.connections import open_writing
from modular_agent.storage.fresh_lines import FreshLines
from modular_agent.storage.migrations import upgrade
from modular_agent.storage.models import idempotency_keys
from modular_agent.storage.prepared_units import PreparedUnit
from modular_agent.storage.repositories.run_steps import create_run
from modular_agent.storage.repositories.runs import NewRun
from modular_agent.storage.repositories.sessions import NewSession, create_session
from modular_agent.storage.transaction import GroupTransaction
from modular_agent.storage.unit_of_work import Committed, Counters, Fence, UnitOfWork

SESSIONS = [SessionRef(1, "s-1"), SessionRef(2, "s-2")]
GOOD = ["plain", "with then", "with first"]
BAD = ["stale", "unknown session", "duplicate", "raises in then", "raises in first", "missing reference", "bad value"]

units = st.tuples(st.sampled_from(GOOD + BAD), st.integers(0, 1), st.integers(0, 3))
groups = st.lists(st.lists(units, min_size=1, max_size=8), min_size=1, max_size=4)


def fail(_: sqlite3.Connection) -> None:
    raise LookupError


def build(kind: str, which: int, count: int, number: int) -> UnitOfWork[object]:
    session = SESSIONS[which]
    unit: UnitOfWork[object] = UnitOfWork(fences=[Fence(f"run-{which + 1}", 9 if kind == "stale" else 1)])
    for n in range(count):
        unit.record(session, Record(record_type=RecordType.LOG, fields={"mark": [number, n]}))
    unit.count(session, Counters(messages=count))
    unit.insert(idempotency_keys, ("t", "used" if kind == "duplicate" else str(number), "f", kind, 1))
    if kind in ("with then", "with first"):
        setattr(unit, kind[5:], lambda connection: connection.execute("SELECT 1").fetchone())
    if kind.startswith("raises"):
        setattr(unit, kind[10:], fail)
    if kind == "unknown session":
        unit.record(SessionRef(77, "nobody"), Record(record_type=RecordType.LOG, fields={}))
    if kind == "missing reference":
        from modular_agent.storage.models import log_items

        unit.insert(log_items, (77, "segment", 0, b""))
    if kind == "bad value":
        unit.insert(idempotency_keys, ("t", f"bad {number}", "f", {}, 1))
    return unit


def prepared(unit: UnitOfWork[object]) -> PreparedUnit:
    return PreparedUnit(unit, [record.encode(session.session_id) for session, record in unit.records])


def fresh(path: Path, lines: FreshLines) -> tuple[sqlite3.Connection, GroupTransaction]:
    connection = open_writing(path)
    connection.execute("PRAGMA synchronous=OFF")
    upgrade(connection)
    connection.execute("PRAGMA foreign_keys=ON")
    for n, session in enumerate(SESSIONS, 1):
        create_session(
            NewSession(
                session_id=session.session_id,
                workflow_id="w",
                workflow_version="h",
                workflow_config_path="p",
                now_us=1,
            )
        )(connection)
        create_run(NewRun(run_id=f"run-{n}", session=session, now_us=1))(connection)
    connection.execute("INSERT INTO idempotency_keys VALUES ('t', 'used', 'f', 's', 1)")
    return connection, GroupTransaction(connection, clock=SystemClock(), fresh=lines)


@settings(max_examples=40, deadline=None)
@given(groups)
def test_any_mix_of_good_and_bad_units_keeps_exactly_the_good_ones_in_order(plan: list[list[tuple[str, int, int]]]):
    with tempfile.TemporaryDirectory() as folder:
        lines = FreshLines()
        connection, transaction = fresh(Path(folder) / "test.db", lines)
        expected: dict[int, list[list[int]]] = {0: [], 1: []}
        number = 0
        for group in plan:
            made = []
            for kind, which, count in group:
                made.append((kind, which, count, number, prepared(build(kind, which, count, number))))
                number += 1
            outcomes = transaction.commit([entry[-1] for entry in made])
            for (kind, which, count, own, _), outcome in zip(made, outcomes, strict=True):
                assert isinstance(outcome, Committed) is (kind in GOOD), (kind, outcome)
                if kind in GOOD:
                    before = len(expected[which])
                    expected[which] += [[own, n] for n in range(count)]
                    assert [r.seq for r in outcome.records] == list(range(before + 1, before + count + 1))
        files: dict[str, bytes] = {}
        pieces, last = lines.take(0)
        assert last == connection.execute("SELECT coalesce(max(id), 0) FROM records").fetchone()[0]
        for piece in pieces:
            assert piece.offset == len(files.get(piece.session_id, b""))
            files[piece.session_id] = files.get(piece.session_id, b"") + piece.data
        for which, session in enumerate(SESSIONS):
            rows = connection.execute(
                "SELECT seq, ts, offset, length, line FROM records WHERE session_n = ? ORDER BY id", (session.n,)
            ).fetchall()
            assert [orjson.loads(row[4])["mark"] for row in rows] == expected[which]
            assert files.get(session.session_id, b"") == b"".join(row[4] for row in rows)
            assert [row[0] for row in rows] == list(range(1, len(rows) + 1))
            end = 0
            for _, _, offset, length, line in rows:
                assert (offset, length) == (end, len(line))
                end += length
            totals = connection.execute(
                "SELECT last_seq, messages, coalesce((SELECT sum(length) FROM log_files WHERE session_n = n), 0)"
                " FROM sessions WHERE n = ?",
                (session.n,),
            ).fetchone()
            assert totals == (len(rows), len(rows), end)
        kept = connection.execute("SELECT count(*) FROM idempotency_keys").fetchone()[0]
        assert kept == 1 + sum(kind in GOOD for group in plan for kind, _, _ in group)
        connection.close()
