"""Model calls as numbers, and their sums by run and by session."""

from typing import Any, Final

from modular_agent.events import SessionRef
from modular_agent.kit.dataclass import dataclass
from modular_agent.storage.models import llm_calls
from modular_agent.storage.readers import Readers
from modular_agent.storage.sql import column_list
from modular_agent.storage.unit_of_work import UnitOfWork

__all__ = ["LlmCallRepository", "LlmCallRow", "ModelUsage", "put_llm_call"]

_COLUMNS: Final = column_list(llm_calls)
_SUMS: Final = (
    "model, count(*), sum(error_kind IS NOT NULL), sum(prompt_tokens), sum(completion_tokens), sum(cached_tokens),"
    " sum(cache_write_tokens), sum(reasoning_tokens), coalesce(sum(cost_nano), 0),"
    " sum(CASE WHEN cost_nano IS NULL THEN prompt_tokens + completion_tokens ELSE 0 END), sum(duration_us)"
)


@dataclass(frozen=True, slots=True)
class LlmCallRow:
    """One model call, in the order of the table's columns.

    `call_id` is the record_id of its llm_response. Tokens are inclusive totals with subsets; `cost_nano` (1e-9 USD) is
    None when no price is known; `error_kind` is None when it succeeded; `served_by` names the service that prices go by
    (empty: the provider's own; None: not known). Times in µs.
    """

    call_id: str
    session_n: int
    run_id: str
    ts: int
    workflow_id: str
    node: str
    provider: str
    model: str
    duration_us: int
    first_token_us: int | None
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    cost_nano: int | None
    price_source: str | None
    error_kind: str | None
    served_by: str | None = None

    def values(self) -> tuple[Any, ...]:
        """The SQL values."""
        return (
            *(self.call_id, self.session_n, self.run_id, self.ts, self.workflow_id, self.node, self.provider),
            *(self.model, self.duration_us, self.first_token_us, self.prompt_tokens, self.completion_tokens),
            *(self.cached_tokens, self.cache_write_tokens, self.reasoning_tokens, self.cost_nano, self.price_source),
            *(self.error_kind, self.served_by),
        )


@dataclass(frozen=True, slots=True)
class ModelUsage:
    """What one model was used for. `unpriced_tokens` are those of calls without a known price."""

    model: str
    calls: int
    errors: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    cost_nano: int
    unpriced_tokens: int
    duration_us: int


def put_llm_call(unit: UnitOfWork[Any], row: LlmCallRow) -> None:
    """Adds a model call to the unit, and to the statistics. The session's totals are the unit's `count`."""
    unit.happened(llm_calls, row.values())


class LlmCallRepository:
    """Sums model calls."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def usage_of_session(self, session: SessionRef) -> list[ModelUsage]:
        """A session's usage by model, in the order of their names."""
        rows = await self._readers.query(
            f"SELECT {_SUMS} FROM llm_calls WHERE session_n = ? GROUP BY model ORDER BY model", (session.n,)
        )
        return [ModelUsage(*row) for row in rows]

    async def newest_of_tenant(self, tenant: str, *, since_us: int, limit: int) -> list[LlmCallRow]:
        """At most `limit` calls of a tenant's sessions since a time, newest first."""
        rows = await self._readers.query(
            f"SELECT {column_list(llm_calls, alias='c')} FROM llm_calls c JOIN sessions s ON s.n = c.session_n"
            " WHERE c.ts >= ? AND s.tenant = ? ORDER BY c.ts DESC LIMIT ?",
            (since_us, tenant, limit),
        )
        return [LlmCallRow(*row) for row in rows]

    async def calls_of_run(self, session: SessionRef, run_id: str) -> list[LlmCallRow]:
        """A run's calls, oldest first."""
        rows = await self._readers.query(
            f"SELECT {_COLUMNS} FROM llm_calls WHERE session_n = ? AND run_id = ? ORDER BY ts", (session.n, run_id)
        )
        return [LlmCallRow(*row) for row in rows]

    async def usage_of_run(self, session: SessionRef, run_id: str) -> list[ModelUsage]:
        """A run's usage by model, in the order of their names."""
        rows = await self._readers.query(
            f"SELECT {_SUMS} FROM llm_calls WHERE session_n = ? AND run_id = ? GROUP BY model ORDER BY model",
            (session.n, run_id),
        )
        return [ModelUsage(*row) for row in rows]
