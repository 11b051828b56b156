"""Runs as the API shows them."""

from collections.abc import Mapping, Sequence
from typing import Any

from modular_agent.domain.runs.store import DatabaseRunStore
from modular_agent.engine.progress import Progress
from modular_agent.engine.store import RunKey
from modular_agent.engine.supervisor import Supervisor
from modular_agent.kit.clock import MICROSECONDS, rfc3339
from modular_agent.lifecycle import RunHold, RunStatus
from modular_agent.storage.database import Database
from modular_agent.storage.repositories.interrupts import InterruptRepository, InterruptRow, WaitingRow
from modular_agent.storage.repositories.llm_calls import LlmCallRepository, ModelUsage
from modular_agent.storage.repositories.runs import RunRow
from modular_agent.storage.repositories.sessions import SessionRow

__all__ = ["RunViews", "interrupt_view", "usage_view", "waiting_view"]

NANO = 1_000_000_000


class RunViews:
    """Builds the views of runs; what a run in progress knows is newer than what is stored."""

    def __init__(self, database: Database, *, store: DatabaseRunStore, supervisor: Supervisor) -> None:
        self._calls = LlmCallRepository(database.readers)
        self._interrupts = InterruptRepository(database.readers)
        self._store = store
        self._supervisor = supervisor

    def brief(self, session: SessionRow, run: RunRow) -> dict[str, Any]:
        """What a list says of a run."""
        return {
            "run_id": run.run_id,
            "session_id": session.session_id,
            "workflow_id": session.workflow_id,
            "status": run.status,
            "held": run.status is RunStatus.PAUSED and run.hold is RunHold.PAUSE,
            "created_at": rfc3339(run.created_at),
            "started_at": None if run.started_at is None else rfc3339(run.started_at),
            "ended_at": None if run.ended_at is None else rfc3339(run.ended_at),
            "current_node": run.current_node,
            "execution_time": self._execution_time(run),
            "result": run.result,
            "error": run.error,
        }

    async def full(self, session: SessionRow, run: RunRow) -> dict[str, Any]:
        """Everything about a run."""
        progress = await self.progress(session, run)
        usage = await self._calls.usage_of_run(session.ref, run.run_id)
        asked = await self._interrupts.of_run(run.run_id, session.ref)
        return {
            **self.brief(session, run),
            "current_node": progress.current_node,
            "execution_path": progress.path,
            "node_states": progress.node_states,
            "steps": progress.steps,
            "performance_metrics": _performance(usage),
            "usage": usage_view(usage),
            "interrupts": [interrupt_view(row) for row in asked if row.status == "open"],
        }

    def waiting(self, session: SessionRow, queued: Mapping[str, Any]) -> dict[str, Any]:
        """A run that waits in its session's queue: it has an id, and nothing else yet."""
        nothing = dict.fromkeys(("started_at", "ended_at", "current_node", "result", "error"))
        return {
            "run_id": queued["run_id"],
            "session_id": session.session_id,
            "workflow_id": session.workflow_id,
            "status": RunStatus.QUEUED,
            "held": False,
            "created_at": queued["created_at"],
            **nothing,
            "execution_time": 0.0,
            "execution_path": [],
            "node_states": {},
            "steps": 0,
            "performance_metrics": _performance([]),
            "usage": usage_view([]),
            "interrupts": [],
        }

    async def progress(self, session: SessionRow, run: RunRow) -> Progress:
        """How far a run has come."""
        active = self._supervisor.active_run(run.run_id)
        if active is not None and active.context.progress.steps:
            return active.context.progress
        return Progress.replay(await self._store.steps(RunKey(session.ref, run.run_id, run.epoch)))

    def _execution_time(self, run: RunRow) -> float:
        active = self._supervisor.active_run(run.run_id)
        return round(active.active_seconds() if active else run.active_us / MICROSECONDS, 6)


def usage_view(usage: Sequence[ModelUsage]) -> dict[str, Any]:
    """Tokens and money, in all and by model; what has no known price is counted beside."""
    names = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens", "unpriced_tokens")
    total: dict[str, Any] = {name: sum(getattr(each, name) for each in usage) for name in names}
    total["total_tokens"] = total["prompt_tokens"] + total["completion_tokens"]
    total["cost_usd"] = sum(each.cost_nano for each in usage) / NANO
    by_model = {
        each.model: {
            **{name: getattr(each, name) for name in names},
            "total_tokens": each.prompt_tokens + each.completion_tokens,
            "cost_usd": each.cost_nano / NANO,
            "calls": each.calls,
        }
        for each in usage
    }
    return {**total, "by_model": by_model}


def _performance(usage: Sequence[ModelUsage]) -> dict[str, Any]:
    calls = sum(each.calls for each in usage)
    spent = sum(each.duration_us for each in usage) / MICROSECONDS
    return {
        "llm_calls": calls,
        "llm_errors": sum(each.errors for each in usage),
        "llm_time": round(spent, 6),
        "avg_response_time": round(spent / calls, 6) if calls else None,
    }


def waiting_view(row: WaitingRow) -> dict[str, Any]:
    """An open question in the list over all sessions."""
    place = {"session_id": row.session_id, "workflow_id": row.workflow_id, "session_title": row.title}
    return {**interrupt_view(row.interrupt), **place}


def interrupt_view(row: InterruptRow) -> dict[str, Any]:
    """A question as the API shows it."""
    question: Mapping[str, Any] = row.question
    return {
        "interrupt_id": row.interrupt_id,
        "run_id": row.run_id,
        "node": row.node,
        "kind": row.kind,
        "question": question,
        "form": row.form,
        "status": row.status,
        "answer": row.answer,
        "answered_by": row.answered_by,
        "created_at": rfc3339(row.created_at),
        "answered_at": None if row.answered_at is None else rfc3339(row.answered_at),
        "due_at": None if row.due_at is None else rfc3339(row.due_at),
    }
