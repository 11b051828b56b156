"""Budgets as they are shown: what may be used, what was, and what is left, of each scope and period."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from modular_agent.domain.auth import ApiKeys
from modular_agent.domain.runs.store import DatabaseRunStore
from modular_agent.domain.runs.terms import INSTALLATION, RunTerms, pair
from modular_agent.domain.workflows.catalog import WorkflowCatalog
from modular_agent.engine.accounts import DAY, Account, Ledger
from modular_agent.engine.budgets import LIMIT_NAMES, NANO, Bound, Limits, amounts
from modular_agent.engine.store import RunKey, Scope, ScopeKind, Spent
from modular_agent.engine.supervisor import Supervisor
from modular_agent.kit.clock import MICROSECONDS, rfc3339, utc_datetime
from modular_agent.kit.pagination import Page, PageRequest
from modular_agent.storage.repositories.runs import RunRepository, RunRow
from modular_agent.storage.repositories.sessions import SessionRow

__all__ = ["BudgetViews"]

MAX_WORKFLOWS: Final = 10_000
_NO_LIMITS: Final[Limits] = {}


class BudgetViews:
    """Looks at budgets: those that many runs share, and all that bound a session."""

    def __init__(
        self,
        *,
        terms: RunTerms,
        keys: ApiKeys,
        ledger: Ledger,
        catalog: WorkflowCatalog,
        store: DatabaseRunStore,
        runs: RunRepository,
        supervisor: Supervisor,
    ) -> None:
        self._terms = terms
        self._keys = keys
        self._ledger = ledger
        self._catalog = catalog
        self._store = store
        self._runs = runs
        self._supervisor = supervisor

    async def shared(self, wanted: PageRequest) -> Page[dict[str, Any]]:
        """The budgets of the installation, of each loaded workflow, and of each key that was not revoked."""
        page = await self._catalog.rows.page(limit=MAX_WORKFLOWS)
        versions = {row.workflow_id: row.content_hash for row in page.workflows}
        scopes = [
            INSTALLATION,
            *(Scope(ScopeKind.WORKFLOW, workflow_id) for workflow_id in versions),
            *(Scope(ScopeKind.KEY, key.key_id) for key in self._keys.all() if key.revoked_at is None),
        ]
        places = [(scope, number) for scope in scopes for number in (0, 1)]
        chosen = places[wanted.offset : wanted.offset + wanted.page_size + 1]
        bounds = [pair(scope, await self._limits(scope, versions))[number] for scope, number in chosen]
        return Page[dict[str, Any]].cut(await self._shown(bounds, {}), wanted, total=len(places))

    async def _limits(self, scope: Scope, versions: Mapping[str, str]) -> Callable[[], Limits]:
        """The limits of what many runs share; of a workflow those of its current version."""
        if scope.kind is ScopeKind.WORKFLOW:
            spec = (await self._catalog.loaded(versions[scope.subject])).spec.limits
            return partial(self._terms.of_workflow, scope.subject, self._terms.file_limits(spec))
        if scope.kind is ScopeKind.KEY:
            limits: Limits = self._keys.get(scope.subject).limits
            return lambda: limits
        return self._terms.of_installation

    async def of_session(self, session: SessionRow) -> list[dict[str, Any]]:
        """Everything that bounds the session's active run, or its last one, or without one its next."""
        page = await self._runs.page(session.ref, limit=1)
        run = page.runs[0] if page.runs else None
        workflow = await self._catalog.workflow(session.workflow_version, session.agent_config)
        key = await self._keys.charged(session.ref, run.run_id if run else None)
        limits: Mapping[str, Any] = run.limits if run else {}
        run_id = run.run_id if run else ""
        terms = self._terms.of(session, workflow.spec.limits, run_id=run_id, limits=limits, key=key)
        bounds = [*terms.bounds]
        if not any(bound.scope.kind is ScopeKind.SESSION for bound in bounds):
            of_runs = sum(bound.period == "run" for bound in bounds)
            bounds[of_runs:of_runs] = pair(terms.scopes[0], lambda: _NO_LIMITS)
        own = await self._of_run(session, run) if run else Account()
        return await self._shown(bounds, terms.allowed, own)

    async def _of_run(self, session: SessionRow, run: RunRow) -> Account:
        active = self._supervisor.active_run(run.run_id)
        if active is not None and active.is_under_way:
            return active.context.budget.run
        spent = Spent(active_us=run.active_us)
        for call in await self._store.spent(RunKey(session.ref, run.run_id, run.epoch)):
            spent.add(Spent.of(call))
        steps = await self._store.steps(RunKey(session.ref, run.run_id, run.epoch))
        spent.steps = max((int(step["step"]) for step in steps), default=0)
        return Account(spent)

    async def _shown(
        self, bounds: Sequence[Bound], allowed: Mapping[str, Limits], own: Account | None = None
    ) -> list[dict[str, Any]]:
        day = self._ledger.day
        accounts = await self._accounts({bound.scope for bound in bounds if bound.period != "run"}, day)
        shown: list[dict[str, Any]] = []
        for bound in bounds:
            in_all, on_day = accounts.get(bound.scope, (own or Account(), Account()))
            account = on_day if bound.period == "day" else in_all
            shown.append(self._view(bound, account, allowed.get(bound.name) or _NO_LIMITS, day))
        return shown

    async def _accounts(self, scopes: Iterable[Scope], day: int) -> dict[Scope, tuple[Account, Account]]:
        """In all, and today: from memory where runs are charged to them, else as it is stored."""
        found: dict[Scope, tuple[Account, Account]] = {}
        absent: list[Scope] = []
        for scope in scopes:
            pot = self._ledger.pot(scope)
            if pot is None:
                absent.append(scope)
            else:
                found[scope] = (pot.in_all, pot.on_day)
        if absent:
            for scope, (in_all, on_day) in zip(absent, await self._store.usage(absent, day=day), strict=True):
                found[scope] = (Account(in_all), Account(on_day))
        return found

    def _view(self, bound: Bound, account: Account, allowed: Limits, day: int) -> dict[str, Any]:
        limits = {**bound.limits(), **allowed}
        given = {name: limits[name] for name in LIMIT_NAMES if limits.get(name) is not None}
        assumed = account.spent.unpriced_tokens * self._terms.unpriced() / NANO
        used = {
            "max_iterations": account.spent.calls,
            "max_tokens": account.spent.tokens,
            "max_cost_usd": account.spent.cost_nano / NANO + assumed,
            "max_seconds": account.spent.active_us / MICROSECONDS,
            "max_steps": account.spent.steps,
        }
        return {
            "budget": bound.name,
            "scope": bound.scope.kind.value,
            "subject": bound.scope.subject,
            "name": self._keys.get(bound.scope.subject).name if bound.scope.kind is ScopeKind.KEY else None,
            "period": bound.period,
            "limits": given,
            "on_exceed": limits.get("on_exceed") or "pause",
            "spent": {**amounts(account.spent), "assumed_cost_usd": assumed},
            "held": {"iterations": account.calls, "tokens": account.tokens, "cost_usd": account.cost_nano / NANO},
            "remaining": {name: max(0, maximum - used[name]) for name, maximum in given.items()},
            "day": f"{utc_datetime(day * DAY):%Y-%m-%d}" if bound.period == "day" else None,
            "resets_at": rfc3339((day + 1) * DAY) if bound.period == "day" else None,
        }
