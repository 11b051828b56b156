"""The transaction of a group of units: what the writer's thread does.

Units keep their order. Neighbours that need no arbitrary SQL are merged: one INSERT per table for all of them, because
`sqlite3` gives up the GIL for every statement and has to win it back from a busy event loop each time. A unit with
`first` or `then` runs alone in a savepoint. When a merged statement breaks a constraint, the group is rolled back and
done again with a savepoint per unit, so that only the guilty one is refused.
"""

import contextlib
import itertools
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from operator import add
from typing import Any, Final, TypeAlias, cast

import orjson

from modular_agent.errors import AgentError
from modular_agent.events import CommittedRecord, Record, SessionRef, committed_record
from modular_agent.kit.clock import Clock
from modular_agent.storage.errors import (
    SessionUnknown,
    StaleEpoch,
    StorageBusy,
    StorageFailed,
    StorageFull,
    storage_error,
)
from modular_agent.storage.fresh_lines import FreshLines, Piece
from modular_agent.storage.log_cursors import LogCursor, LogCursors, month_of
from modular_agent.storage.models import log_files, metadata, records
from modular_agent.storage.models.table import Table
from modular_agent.storage.prepared_units import Fact, PreparedUnit, waves
from modular_agent.storage.rollups import FACT_SESSION, FACT_TIMES, Rollups
from modular_agent.storage.session_changes import SessionChanges
from modular_agent.storage.sql import InsertTexts
from modular_agent.storage.unit_of_work import UNNUMBERED, Committed, CommonStep, Conflict, UnitOfWork

__all__ = ["GroupTransaction", "Outcome"]

Outcome: TypeAlias = "Committed[Any] | Exception"  # the result of a unit's own `then`
Step: TypeAlias = Callable[[sqlite3.Connection], object]

_FATAL_CODES: Final = frozenset(
    {
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
    }
)
_EPOCHS: Final = "SELECT json_group_object(run_id, epoch) FROM runs WHERE run_id IN (SELECT value FROM json_each(?))"


class _FactRepeated(Exception):
    """A fact of a merged group is there already: done unit by unit, it is not counted twice."""


class GroupTransaction:
    """Commits groups of units on the only writing connection. Belongs to the writer's thread."""

    def __init__(self, connection: sqlite3.Connection, *, clock: Clock, fresh: FreshLines | None = None) -> None:
        self._connection = connection
        self._clock = clock
        self._fresh = fresh
        self._cursors = LogCursors()
        self._inserts = InsertTexts()
        self._order = {table: index for index, table in enumerate(metadata.sorted_tables)}
        self._now = self._month = 0
        self._pieces: list[Piece] = []  # of the logs, as they are being written
        self._last_id = 0  # of their records
        self._changes = SessionChanges()
        self._files: dict[tuple[int, int], int] = {}
        self._created: set[int] = set()
        self._rollups = Rollups()
        self._numbered = UNNUMBERED  # the new session of the unit in progress
        self.bytes_since_checkpoint = 0
        self.groups_since_checkpoint = 0
        self.fault: AgentError | None = None  # of the database: what refused the whole of the last group

    @property
    def hours(self) -> set[int]:
        """The hours (since the epoch) whose model calls the last group has changed, or may have changed in vain."""
        return self._rollups.hours()

    def commit(self, group: Sequence[PreparedUnit]) -> list[Outcome]:
        """Commits the group and says what became of each unit; never raises for what SQLite refuses."""
        try:
            try:
                outcomes = self._attempt(group, isolated=False)
            except Exception as error:
                if _takes_all(error):
                    raise
                self._abandon(group)
                outcomes = self._attempt(group, isolated=True)
        except Exception as error:  # noqa: BLE001 - every caller in the group is told, and the writer lives on
            self._abandon(group)
            answer = _as_answer(error)
            self.fault = answer if isinstance(answer, AgentError) else None
            return [answer] * len(group)
        self.fault = None
        if self._fresh is not None and self._pieces:
            self._fresh.give(self._last_id, self._pieces)
        self._cursors.drop(itertools.chain.from_iterable(entry.unit.forgets for entry in group))
        self._cursors.shrink()
        self.groups_since_checkpoint += 1
        return outcomes

    def _attempt(self, group: Sequence[PreparedUnit], *, isolated: bool) -> list[Outcome]:
        self._connection.execute("BEGIN IMMEDIATE")
        self._created.clear()
        self._rollups.clear()
        self._pieces = []
        self._now = self._clock.now_us()
        self._month = month_of(self._now)
        outcomes: dict[int, Outcome] = {}
        for wave in [[each] for each in enumerate(group)] if isolated else waves(group):
            units = [entry for _, entry in wave]
            if isolated:
                made = [self._run_alone(units[0])]
            else:
                made = self._run_special(units) if units[0].special else self._run_merged(units)
            outcomes.update(zip((index for index, _ in wave), made, strict=True))
        self._flush_sessions()
        for table, sums in self._rollups.rows():
            self._execute(table, Conflict.ADD, sums)
        self._connection.execute("COMMIT")
        return [outcomes[index] for index in range(len(group))]

    def _abandon(self, group: Sequence[PreparedUnit]) -> None:
        if self._connection.in_transaction:  # a full disk or an I/O error has rolled back already
            with contextlib.suppress(sqlite3.Error):  # what led here is what the callers are told
                self._connection.execute("ROLLBACK")
        self._changes.clear()
        self._files.clear()
        self._cursors.drop(self._created)
        for entry in group:
            self._cursors.drop(entry.sessions())

    def _run_merged(self, units: list[PreparedUnit]) -> list[Outcome]:
        refused = self._refusals(units)
        kept = [entry for index, entry in enumerate(units) if index not in refused]
        committed = self._place_records(kept)
        self._insert_rows(kept)
        if self._insert_facts(kept) != sum(len(entry.unit.facts) for entry in kept):
            raise _FactRepeated
        for entry in kept:
            self._add_counters(entry.unit)
            self._count_facts(entry)
        results = iter(committed)
        return [refused[i] if i in refused else Committed(next(results), None) for i in range(len(units))]

    def _run_special(self, units: list[PreparedUnit]) -> list[Outcome]:
        """Several special units, each about another session: their `first`s, what they write, their `then`s."""
        if units[0].unit.alone is None:
            return [self._run_alone(units[0])]
        self._flush_for(entry.unit.first for entry in units)
        firsts = self._run_steps([entry.unit.first for entry in units], self._guarded)
        kept = [entry for entry, answer in zip(units, firsts, strict=True) if not isinstance(answer, Exception)]
        written = self._run_merged(kept)
        self._flush_for(entry.unit.then for entry in kept)
        results = self._run_steps([entry.unit.then for entry in kept], lambda step: step(self._connection))
        done: list[Outcome] = []
        for entry, outcome, result in zip(kept, written, results, strict=True):
            if not isinstance(outcome, Committed):
                raise outcome  # after its `first`: unit by unit, that is undone too
            if isinstance(result, Exception):
                raise result
            self._cursors.drop(entry.unit.forgets)
            done.append(Committed(outcome.records, _result(entry.unit.then, result)))
        rest = iter(done)
        return [answer if isinstance(answer, Exception) else next(rest) for answer in firsts]

    def _run_steps(self, steps: Sequence[Step | None], run: Callable[[Step], object]) -> list[object]:
        """What the steps answer, or are refused with: common ones together, others by `run`."""
        answers: list[object] = [None] * len(steps)
        common: dict[Callable[..., list[Any]], dict[int, CommonStep[Any, Any]]] = {}  # by what is done for all of them
        for i, step in enumerate(steps):
            if isinstance(step, CommonStep):
                shared = cast("CommonStep[Any, Any]", step)
                common.setdefault(shared.for_all, {})[i] = shared
            elif step is not None:
                answers[i] = run(step)
        for for_all, alike in common.items():
            given = for_all(self._connection, [step.subject for step in alike.values()])
            for (i, step), answer in zip(alike.items(), given, strict=True):
                answers[i] = answer
                if step.standing is not None and not isinstance(answer, Exception):
                    self._changes.stand(step.standing(step.subject, answer))
        return answers

    def _guarded(self, step: Step) -> Exception | None:
        """Runs a `first`; the error that it was refused with and undone."""
        self._connection.execute("SAVEPOINT first")
        try:
            step(self._connection)
        except Exception as error:  # whatever a unit's own code raises is that unit's answer
            if not self._connection.in_transaction:
                raise
            self._connection.execute("ROLLBACK TO first")
            self._connection.execute("RELEASE first")
            return _as_answer(error)
        self._connection.execute("RELEASE first")
        return None

    def _run_alone(self, entry: PreparedUnit) -> Outcome:
        self._flush_sessions()
        connection, unit = self._connection, entry.unit
        before, written = self._cursors.snapshot(entry.sessions()), (len(self._pieces), self._last_id)
        connection.execute("SAVEPOINT unit")
        try:
            result = self._steps(entry)
        except Exception as error:  # whatever a unit's own code raises is that unit's answer
            if not connection.in_transaction:
                raise
            connection.execute("ROLLBACK TO unit")
            connection.execute("RELEASE unit")
            self._changes.clear()
            self._files.clear()
            del self._pieces[written[0] :]
            self._last_id = written[1]
            self._cursors.restore(before)
            self._cursors.drop(self._created)  # their numbers may be given to other sessions
            if isinstance(error, sqlite3.IntegrityError):
                self._cursors.drop(entry.sessions())  # the session itself may be what is missing
            return _as_answer(error)
        connection.execute("RELEASE unit")
        self._count_facts(entry)
        self._cursors.drop(unit.forgets)
        return result

    def _steps(self, entry: PreparedUnit) -> Committed[Any]:
        unit = entry.unit
        self._numbered = UNNUMBERED
        self._raise_refusal([entry], stage_sessions=False)
        if unit.first is not None:
            unit.first(self._connection)
        self._raise_refusal([entry], stage_sessions=True)
        placed = self._place_records([entry])[0]
        self._insert_rows([entry])
        self._insert_facts([entry])
        self._add_counters(unit)
        self._flush_sessions()
        return Committed(placed, None if unit.then is None else unit.then(self._connection))

    def _raise_refusal(self, units: list[PreparedUnit], *, stage_sessions: bool) -> None:
        refused = self._unknown_sessions(units) if stage_sessions else self._stale(units)
        for error in refused.values():
            raise error

    def _refusals(self, units: list[PreparedUnit]) -> dict[int, Exception]:
        refused = self._stale(units)
        return {**self._unknown_sessions(units), **refused}

    def _stale(self, units: list[PreparedUnit]) -> dict[int, Exception]:
        runs = list({fence.run_id for entry in units for fence in entry.unit.fences})
        if not runs:
            return {}
        (found,) = self._connection.execute(_EPOCHS, (orjson.dumps(runs).decode(),)).fetchone()
        epochs: dict[str, int] = orjson.loads(found)
        refused: dict[int, Exception] = {}
        for index, entry in enumerate(units):
            for fence in entry.unit.fences:
                if epochs.get(fence.run_id) != fence.epoch:
                    refused[index] = StaleEpoch(run_id=fence.run_id, epoch=fence.epoch)
        return refused

    def _unknown_sessions(self, units: list[PreparedUnit]) -> dict[int, Exception]:
        owners = set[int]().union(*[entry.logged for entry in units])
        self._cursors.load(self._connection, owners)
        if all(self._cursors.get(n) is not None for n in owners):
            return {}
        refused: dict[int, Exception] = {}
        for index, entry in enumerate(units):
            for session, _ in entry.unit.records:
                if session.n != UNNUMBERED and self._cursors.get(session.n) is None:
                    refused[index] = SessionUnknown(session_id=session.session_id)
            for _, row in entry.unit.facts:
                if row[FACT_SESSION] is not None and self._cursors.get(row[FACT_SESSION]) is None:
                    refused[index] = SessionUnknown(session_id=str(row[FACT_SESSION]))
        return refused

    def _place_records(self, units: list[PreparedUnit]) -> list[tuple[CommittedRecord, ...]]:
        """Gives every record its `seq`, time and place, and inserts all of them."""
        rows: list[tuple[Any, ...]] = []  # SQL values
        placed = [self._place(entry, rows) for entry in units]
        if rows:
            for text, parameters in self._inserts.statements(records, Conflict.FAIL, rows, numbered=True):
                self._last_id = self._connection.execute(text, parameters).lastrowid or 0
        return placed

    def _place(self, entry: PreparedUnit, rows: list[tuple[Any, ...]]) -> tuple[CommittedRecord, ...]:
        """The records of a unit in the log: one run of lines for each that are of one session."""
        made: list[CommittedRecord] = []
        recorded, bodies, start = entry.unit.records, entry.bodies, 0
        while start < len(recorded):
            named, end = recorded[start].session, start + 1
            while end < len(recorded) and recorded[end].session is named:
                end += 1
            session = self._number(named) if named.n == UNNUMBERED else named
            of_session = [record for _, record in recorded[start:end]]
            made += self._append(session, of_session, bodies[start:end], rows)
            start = end
        return tuple(made)

    def _append(
        self, session: SessionRef, added: Sequence[Record], bodies: Sequence[bytes], rows: list[tuple[Any, ...]]
    ) -> list[CommittedRecord]:
        """Puts records at the end of a session's log, and notes where that is then."""
        cursor = self._end_of(session)
        n, seq, ts, month, begin = session.n, cursor.seq, cursor.ts, cursor.month, cursor.length
        offset = begin
        lines: list[bytes] = []
        made: list[CommittedRecord] = []
        for record, body in zip(added, bodies, strict=True):
            seq += 1
            line = CommittedRecord.make_line(seq, ts, body)
            size = len(line)
            kind, record_id, run_id, node = str(record.record_type), record.record_id, record.run_id, record.node
            rows.append((n, seq, ts, kind, record_id, run_id, node, month, offset, size, line))
            made.append(committed_record((session, seq, ts, kind, record_id, run_id, node, line, record.fields)))
            lines.append(line)
            offset += size
        cursor.seq, cursor.length = seq, offset
        self.bytes_since_checkpoint += offset - begin
        self._pieces.append(Piece(cursor.session_id, month, begin, len(lines), b"".join(lines)))
        self._changes.reached(n, seq=seq, ts=ts, at=self._now)
        self._files[n, month] = offset
        return made

    def _end_of(self, session: SessionRef) -> LogCursor:
        """Where the session's log goes on, in the month and at the time of what comes next."""
        cursor = self._cursors.get(session.n)
        if cursor is None:
            raise SessionUnknown(session_id=session.session_id)
        cursor.ts = max(cursor.ts, self._now)  # where the clock went back, time stands still
        month = self._month if cursor.ts == self._now else month_of(cursor.ts)
        if cursor.month != month:
            cursor.month, cursor.length = month, 0
        return cursor

    def _number(self, session: SessionRef) -> SessionRef:
        row = self._connection.execute(
            "SELECT n FROM sessions WHERE session_id = ? AND deleted_at IS NULL", (session.session_id,)
        ).fetchone()
        if row is None:
            raise SessionUnknown(session_id=session.session_id)
        self._created.add(row[0])
        self._numbered = row[0]
        self._cursors.load(self._connection, (row[0],))
        return SessionRef(row[0], session.session_id)

    def _insert_rows(self, units: list[PreparedUnit]) -> None:
        merged: dict[tuple[Table, Conflict], list[tuple[Any, ...]]] = {}
        for entry in units:
            for key, rows in entry.unit.rows.items():
                merged.setdefault(key, []).extend(rows)
        for table, conflict in sorted(merged, key=lambda key: self._order[key[0]]):  # what is referred to comes first
            rows = merged[table, conflict]
            self._execute(table, conflict, _summed(table, rows) if conflict is Conflict.ADD else rows)

    def _insert_facts(self, units: list[PreparedUnit]) -> int:
        """Inserts the facts that are not there yet; how many that were.

        Of several units they go in together, and those there already cannot be told from the new ones.
        """
        merged: dict[Table, list[tuple[Any, ...]]] = {}
        for entry in units:
            if entry.unit.facts:
                entry.facts = [*self._stamped(entry.unit)]
                for table, _, row in entry.facts:
                    merged.setdefault(table, []).append(row)
        if len(units) != 1:
            return sum(self._execute(table, Conflict.IGNORE, rows) for table, rows in merged.items())
        kept = [fact for fact in units[0].facts if self._execute(fact.table, Conflict.IGNORE, [fact.row])]
        units[0].facts = kept
        return len(units[0].unit.facts)

    def _stamped(self, unit: UnitOfWork[Any]) -> Iterable[Fact]:
        """The unit's facts with their tenant and with the time that its records have in the log."""
        logged = {entry.session.n for entry in unit.records}
        for table, row in unit.facts:
            cursor = None if row[FACT_SESSION] is None else self._cursors.get(row[FACT_SESSION])
            if cursor is None:
                yield Fact(table, "", row)
            elif row[FACT_SESSION] in logged:
                place = FACT_TIMES[table]
                yield Fact(table, cursor.tenant, (*row[:place], cursor.ts, *row[place + 1 :]))
            else:
                yield Fact(table, cursor.tenant, row)

    def _count_facts(self, entry: PreparedUnit) -> None:
        for table, tenant, row in entry.facts:
            self._rollups.count(table, tenant, row)

    def _execute(
        self, table: Table, conflict: Conflict, rows: Sequence[tuple[Any, ...]], *, numbered: bool = False
    ) -> int:
        """Inserts the rows; how many were inserted or changed."""
        return sum(
            self._connection.execute(text, parameters).rowcount
            for text, parameters in self._inserts.statements(table, conflict, rows, numbered=numbered)
        )

    def _add_counters(self, unit: UnitOfWork[Any]) -> None:
        for n, counters in unit.counters.items():
            self._changes.count(n or self._numbered, counters, at=self._now)

    def _flush_for(self, steps: Iterable[Step | None]) -> None:
        """A step sees every earlier unit, the totals included."""
        if not all(step is None or (isinstance(step, CommonStep) and step.apart) for step in steps):
            self._flush_sessions()

    def _flush_sessions(self) -> None:
        if self._files:
            rows = [(n, month, length) for (n, month), length in self._files.items()]
            self._execute(log_files, Conflict.REPLACE, rows)
            self._files.clear()
        self._changes.store(self._connection)


def _result(step: Step | None, answer: object) -> object:
    """What a `then` gives, of what it was answered."""
    return cast("CommonStep[Any, Any]", step).read(answer) if isinstance(step, CommonStep) else answer


def _summed(table: Table, rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Rows to be added, one for each key: what many units count goes into the same few rows."""
    width = len(table.primary_key)
    sums: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for row in rows:
        key, numbers = row[:width], row[width:]
        found = sums.get(key)
        sums[key] = numbers if found is None else tuple(map(add, found, numbers))
    return [(*key, *numbers) for key, numbers in sums.items()]


def _takes_all(error: Exception) -> bool:
    """Whether the fault is the database's, so that doing the group again unit by unit would not help."""
    if not isinstance(error, sqlite3.Error):
        return False
    return isinstance(storage_error(error), (StorageFull, StorageBusy)) or (
        getattr(error, "sqlite_errorcode", 0) & 0xFF in _FATAL_CODES
    )


def _as_answer(error: Exception) -> Exception:
    if isinstance(error, AgentError):
        return error
    if isinstance(error, sqlite3.Error):
        answer = storage_error(error)
        answer.__cause__ = error
        return answer
    if isinstance(error, (OverflowError, MemoryError)):
        answer = StorageFailed(reason=type(error).__name__)
        answer.__cause__ = error
        return answer
    return error
