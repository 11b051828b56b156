"""A store whose facts come as the engine brings them, and the same figures from a scan of its log."""

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from modular_agent.domain.analytics.service import AnalyticsService
from modular_agent.domain.runs.store import DatabaseRunStore
from modular_agent.engine.store import Facts, ModelCall, RunChange, RunKey
from modular_agent.events import Record, RecordType, SessionRef
from modular_agent.kit.ids import new_id
from modular_agent.lifecycle import RunStatus
from modular_agent.storage.database import Database
from modular_agent.storage.repositories.run_steps import create_run, transition_run
from modular_agent.storage.repositories.runs import NewRun
from modular_agent.storage.repositories.sessions import NewSession, create_session
from modular_agent.storage.rollup_rebuild import TABLES, rebuild
from modular_agent.storage.unit_of_work import UnitOfWork

START = 1_792_000_000_000_000  # 2026-10-14T...Z
ENDED = ("completed", "failed", "stopped")


class MovableClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = START

    def now_us(self) -> int:
        return self.now

    def monotonic(self) -> float:
        return self.now / 1e6


@dataclasses.dataclass
class Store:
    """An open database with what writes to it and what reads from it."""

    database: Database
    clock: MovableClock
    sessions: list[SessionRef] = dataclasses.field(default_factory=list)
    workflows: dict[int, str] = dataclasses.field(default_factory=dict)
    runs: dict[int, RunKey | None] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self.runs_store = DatabaseRunStore(self.database, self.clock)
        self.analytics = AnalyticsService(self.database, clock=self.clock)

    async def session(self, workflow: str, *, tenant: str = "default") -> SessionRef:
        new = NewSession(
            session_id=f"{workflow}-{len(self.workflows)}",
            workflow_id=workflow,
            workflow_version="hash",
            workflow_config_path="p",
            now_us=self.clock.now,
            tenant=tenant,
        )
        ref = (await self.database.writer.commit(UnitOfWork(then=create_session(new)))).result
        assert ref is not None
        self.sessions.append(ref)
        self.workflows[ref.n] = workflow
        self.runs[ref.n] = None
        return ref

    async def run(self, session: SessionRef) -> RunKey:
        """The session's active run, made if there is none."""
        known = self.runs[session.n]
        if known is not None:
            return known
        run_id = new_id("run")
        new = NewRun(run_id=run_id, session=session, now_us=self.clock.now, status=RunStatus.RUNNING)
        unit: UnitOfWork[Any] = UnitOfWork(first=create_run(new))
        unit.record(session, _run_record(run_id, "running"))
        await self.database.writer.commit(unit)
        self.runs[session.n] = key = RunKey(run_id=run_id, session=session, epoch=1)
        return key

    async def end(self, session: SessionRef, status: str, *, active_us: int, retry: bool = False) -> None:
        """Ends the session's run; with `retry` it fails first, and goes on after a while."""
        key = await self.run(session)
        if retry:
            await self._end(key, "failed", 1_000)
            self.clock.now += 7_200_000_000
            again = transition_run(key.run_id, RunStatus.RUNNING, now_us=self.clock.now)
            unit: UnitOfWork[Any] = UnitOfWork(first=again)
            unit.record(session, _run_record(key.run_id, "running"))
            await self.database.writer.commit(unit)
        if status == "stopped":
            step = transition_run(key.run_id, RunStatus.STOPPING, now_us=self.clock.now)
            await self.database.writer.commit(UnitOfWork(then=step))
        await self._end(key, status, active_us)
        self.runs[session.n] = None

    async def _end(self, key: RunKey, status: str, active_us: int) -> None:
        change = RunChange(status=RunStatus(status), active_us=active_us)
        await self.runs_store.change(key, change, Facts(records=[_run_record(key.run_id, status, active_us=active_us)]))

    async def delete(self, session: SessionRef) -> None:
        if self.runs[session.n] is not None:
            await self.end(session, "failed", active_us=5)
        await self.database.removal.delete(session)
        self.sessions.remove(session)

    async def records(self) -> list[dict[str, Any]]:
        """Every record of every session, as its log has it."""
        return [orjson.loads(line) for (line,) in await self.database.readers.query("SELECT line FROM records")]

    def scan_files(self, data_path: Path) -> list[dict[str, Any]]:
        files = sorted(data_path.glob("history/*/*.jsonl"))
        return [orjson.loads(line) for file in files for line in file.read_bytes().splitlines()]

    async def sums(self) -> dict[str, list[tuple[Any, ...]]]:
        return {table: sorted(await self.database.readers.query(f"SELECT * FROM {table}")) for table in TABLES}

    async def rebuilt(self) -> dict[str, list[tuple[Any, ...]]]:
        """The sums as they are when made anew from the rows."""

        def again(connection: Any) -> None:
            connection.execute("BEGIN IMMEDIATE")
            rebuild(connection)
            connection.execute("COMMIT")

        await self.database.writer.exclusive(again)
        return await self.sums()


def _run_record(run_id: str, status: str, **fields: Any) -> Record:
    return Record(record_type=RecordType.RUN, run_id=run_id, fields={"status": status, **fields})


def call_facts(workflow: str, run_id: str, numbers: Mapping[str, Any]) -> Facts:
    """A model call with its records, as the engine logs it."""
    call = ModelCall(call_id=new_id("rec"), workflow_id=workflow, provider="openai", price_source="override", **numbers)

    def record(kind: RecordType, **fields: Any) -> Record:
        return Record(record_type=kind, run_id=run_id, node=call.node, fields={"model": call.model, **fields})

    response = record(
        RecordType.LLM_RESPONSE,
        provider="openai",
        response_time=call.duration_us / 1e6,
        time_to_first_token=None if call.first_token_us is None else call.first_token_us / 1e6,
        error=None if call.error_kind is None else {"type": call.error_kind},
        message_id=call.call_id,
        workflow_id=workflow,
    )
    names = ("prompt_tokens", "completion_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens")
    usage = record(RecordType.TOKEN_USAGE, message_id=call.call_id, **{name: getattr(call, name) for name in names})
    cost = record(
        RecordType.COST,
        message_id=call.call_id,
        amount=None if call.cost_nano is None else call.cost_nano / 1e9,
        unpriced=call.cost_nano is None,
    )
    return Facts(records=[response, usage, cost], calls=[call])


def error_facts(run_id: str, error_type: str, severity: str) -> Facts:
    fields = {
        "error_id": new_id("err"),
        "error_type": error_type,
        "error_message": "m",
        "stack_trace": "",
        "severity": severity,
        "fingerprint": "f",
    }
    return Facts(records=[Record(record_type=RecordType.ERROR, run_id=run_id, fields=fields)])


# -- the scan --------------------------------------------------------------------------------------------------


def microseconds(timestamp: str) -> int:
    return round(datetime.fromisoformat(timestamp).timestamp() * 1_000_000)


@dataclasses.dataclass
class Scan:
    """The figures of some records, counted one by one."""

    records: list[dict[str, Any]]
    start: int
    end: int
    session_id: str | None = None

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [
            record
            for record in self.records
            if record["record_type"] == kind
            and self.start <= microseconds(record["timestamp"]) < self.end
            and self.session_id in (None, record["session_id"])
        ]

    def calls(self) -> list[dict[str, Any]]:
        """Each model call with its tokens and cost."""
        found: dict[str, dict[str, Any]] = defaultdict(dict)
        for kind in ("token_usage", "cost", "llm_response"):
            for record in self.of(kind):
                found[record["message_id"]].update(record)
        return list(found.values())

    def usage(self, calls: Iterable[dict[str, Any]]) -> dict[str, Any]:
        calls = list(calls)
        total = {
            name: sum(call[name] for call in calls)
            for name in (
                "prompt_tokens",
                "completion_tokens",
                "cached_tokens",
                "cache_write_tokens",
                "reasoning_tokens",
            )
        }
        return {
            **total,
            "total_tokens": total["prompt_tokens"] + total["completion_tokens"],
            "unpriced_tokens": sum(
                call["prompt_tokens"] + call["completion_tokens"] for call in calls if call["unpriced"]
            ),
            "request_count": len(calls),
        }

    def cost(self, calls: Iterable[dict[str, Any]]) -> float | None:
        calls = list(calls)
        usage = self.usage(calls)
        paid = sum(round(call["amount"] * 1e9) for call in calls if not call["unpriced"]) / 1e9
        if not paid and usage["unpriced_tokens"] and usage["unpriced_tokens"] == usage["total_tokens"]:
            return None
        return paid

    def by(self, key: Callable[[dict[str, Any]], str]) -> dict[str, list[dict[str, Any]]]:
        groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for call in self.calls():
            groups[key(call)].append(call)
        return groups

    def run_ends(self) -> list[dict[str, Any]]:
        """How each run stands now, of those that ended within the range."""
        last: dict[str, dict[str, Any]] = {}
        for record in self.records:
            if record["record_type"] == "run" and self.session_id in (None, record["session_id"]):
                last[record["run_id"]] = record
        ended = [record for record in last.values() if record["status"] in ENDED]
        return [record for record in ended if self.start <= microseconds(record["timestamp"]) < self.end]

    def run_starts(self) -> list[int]:
        """When each run was made."""
        first: dict[str, int] = {}
        for record in self.records:
            if record["record_type"] == "run" and self.session_id in (None, record["session_id"]):
                first.setdefault(record["run_id"], microseconds(record["timestamp"]))
        return [at for at in first.values() if self.start <= at < self.end]


def nearest_rank(values: Iterable[float], share: float) -> float | None:
    ordered = sorted(values)
    return ordered[max(1, math.ceil(share * len(ordered))) - 1] if ordered else None


def close(found: float | None, wanted: float | None) -> bool:
    """Within 1 %, and a millionth for what is rounded."""
    if found is None or wanted is None:
        return found is wanted
    return abs(found - wanted) <= 0.01 * wanted + 1e-6


__all__ = ["Counter", "MovableClock", "Scan", "Store", "call_facts", "close", "error_facts", "nearest_rank"]
