"""A log in memory, behind the same ports as the real one, whose answers can be made slow, stuck or late."""

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson

from modular_agent.errors import AgentError, Kind
from modular_agent.events import CommittedRecord, Delta, Record, RecordType, SessionRef
from modular_agent.realtime.ports import Head

START_US = 1_760_000_000_000_000


class NoSuchSession(AgentError):
    code = "session_not_found"
    kind = Kind.NOT_FOUND
    english = "There is no session {session_id}."
    chinese = "没有会话 {session_id}。"


class MemoryLog:
    """`LogReader` and `Tenants` over lists. Appending commits; publishing is left to the test."""

    def __init__(self) -> None:
        self.records: dict[int, list[CommittedRecord]] = {}
        self.generations: dict[int, int] = {}
        self.tenants: dict[int, str] = {}
        self.delay = 0.0
        self.gate = asyncio.Event()
        self.gate.set()
        self.reads = 0

    def session(self, n: int = 1, *, tenant: str = "acme") -> SessionRef:
        self.records.setdefault(n, [])
        self.tenants[n] = tenant
        return SessionRef(n, f"react-261120-100000-{n:06x}")

    def append(
        self,
        session: SessionRef,
        record_type: RecordType = RecordType.LOG,
        *,
        run_id: str | None = None,
        record_id: str | None = None,
        **fields: Any,
    ) -> CommittedRecord:
        record = Record(record_type=record_type, fields=fields, run_id=run_id)
        if record_id is not None:
            record.record_id = record_id
        log = self.records[session.n]
        seq, ts = len(log) + 1, START_US + len(log)
        committed = CommittedRecord(
            session,
            seq,
            ts,
            record_type,
            record.record_id,
            run_id,
            None,
            CommittedRecord.make_line(seq, ts, record.encode(session.session_id)),
        )
        log.append(committed)
        return committed

    def append_many(self, session: SessionRef, count: int, **fields: Any) -> list[CommittedRecord]:
        return [self.append(session, level="info", message=f"entry {index}", **fields) for index in range(count)]

    async def read_after(self, session: SessionRef, seq: int, limit: int) -> Sequence[CommittedRecord]:
        self.reads += 1
        found = self.records.get(session.n, [])[seq : seq + limit]  # what a snapshot shows that was taken at the start
        await asyncio.sleep(self.delay)
        await self.gate.wait()
        return found

    async def head(self, session: SessionRef) -> Head:
        if session.n not in self.records:
            raise NoSuchSession(session_id=session.session_id)
        await asyncio.sleep(self.delay)
        return Head(len(self.records[session.n]), self.generations.get(session.n, 0))

    async def tenant_of(self, session: SessionRef) -> str | None:
        await asyncio.sleep(self.delay)
        await self.gate.wait()
        return self.tenants.get(session.n)


def delta(session: SessionRef, text: str, offset: int, **changes: Any) -> Delta:
    fields: dict[str, Any] = {"run_id": "run_1", "node": "think", "message_id": "rec_m1", **changes}
    return Delta(session=session, text=text, offset=offset, **fields)


def data(event: Any) -> dict[str, Any]:
    return orjson.loads(event.envelope)["data"]


def envelope_of(record: CommittedRecord, kind: str) -> dict[str, Any]:
    """What the event of a record is to say."""
    line = orjson.loads(record.line)
    session_id = record.session.session_id
    return {"type": kind, "session_id": session_id, "seq": record.seq, "timestamp": line["timestamp"], "data": line}
