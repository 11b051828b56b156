"""Within which limits a run is executed, and where each of them comes from.

| budget | from, the later winning |
| --- | --- |
| `run` | the workflow (`default_limits` where it says nothing), the session's `agent_config`, the request, answers |
| `session`, `session.day` | the workflow's `limits.session`, the session's `agent_config.limits.session` |
| `workflow`, `workflow.day` | the workflow's `limits.workflow`, the configured `workflow_limits` |
| `key.run`, `key`, `key.day` | the API key's own |
| `installation`, `installation.day` | the configured `installation_limits` |

What is configured counts from the next look on, also for runs in progress. Answers raise no shared limit, but what the
one run may use beyond it.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from modular_agent.domain.configuration.values import LiveValues
from modular_agent.engine.budgets import Bound, Limits, Period, Terms
from modular_agent.engine.limits import SessionLimits, checked_limits
from modular_agent.engine.spec.model import LimitsSpec
from modular_agent.engine.store import Scope, ScopeKind
from modular_agent.storage.repositories.api_keys import ApiKeyRow
from modular_agent.storage.repositories.sessions import SessionRow

__all__ = ["ALLOWED", "INSTALLATION", "RunTerms", "pair"]

ALLOWED: Final = "allowed"  # in a run's limits: what persons allowed it beyond the bounds of others
INSTALLATION: Final = Scope(ScopeKind.INSTALLATION, "")
_NONE: Final[Limits] = {}
Shared = Mapping[str, Any]  # limits, and those `per_day`


class RunTerms:
    """Puts together what bounds a run."""

    def __init__(self, live: LiveValues) -> None:
        self._live = live

    def of(
        self,
        session: SessionRow,
        spec: LimitsSpec,
        *,
        run_id: str,
        limits: Mapping[str, Any],
        key: ApiKeyRow | None,
    ) -> Terms:
        """The terms of a run whose own `limits` are those of the request, and of the answers since."""
        file = self._of_file(spec)
        in_config = session.agent_config.get("limits")
        given = checked_limits(in_config, SessionLimits) if in_config else _NONE
        asked = {name: value for name, value in limits.items() if name != ALLOWED}
        own = {**file, **given, **asked}
        scopes = [Scope(ScopeKind.SESSION, session.session_id), Scope(ScopeKind.WORKFLOW, session.workflow_id)]
        bounds = [Bound(name="run", scope=Scope(ScopeKind.RUN, run_id), period="run", limits=lambda: own)]
        if key is not None:
            per_run: Limits = key.limits.get("per_run") or _NONE
            scopes.append(Scope(ScopeKind.KEY, key.key_id))
            bounds.append(Bound(name="key.run", scope=bounds[0].scope, period="run", limits=lambda: per_run))
        in_session = _over(file.get("session"), given.get("session"))
        if in_session:
            bounds += pair(scopes[0], lambda: in_session)
        bounds += pair(scopes[1], partial(self.of_workflow, session.workflow_id, file.get("workflow")))
        if key is not None:
            of_key: Shared = key.limits
            bounds += pair(scopes[-1], lambda: of_key)
        bounds += pair(INSTALLATION, self.of_installation)
        return Terms(
            scopes=(*scopes, INSTALLATION),
            bounds=bounds,
            allowed=limits.get(ALLOWED) or {},
            unpriced=self.unpriced,
        )

    def _of_file(self, spec: LimitsSpec) -> dict[str, Any]:
        """The workflow's limits, with the default ones where it says nothing."""
        said = spec.said
        defaults = {name: value for name, value in self._live.default_limits.items() if name not in said}
        return {"on_exceed": spec.on_exceed, **defaults, **said}

    def of_workflow(self, workflow_id: str, file: Shared | None) -> Shared:
        """The limits of all sessions of a workflow: those of its file, and over them those configured."""
        configured: Mapping[str, Shared] = self._live["workflow_limits"] or {}
        return _over(file, configured.get(workflow_id))

    def of_installation(self) -> Shared:
        """The limits of all runs together."""
        return self._live["installation_limits"] or _NONE

    def unpriced(self) -> float:
        """At how many nano-dollars limits count a token without a known price."""
        return (self._live["unpriced_usd_per_mtok"] or 0.0) * 1_000

    def file_limits(self, spec: LimitsSpec) -> Shared | None:
        """What a workflow's file, or the default, says of all its sessions together."""
        return self._of_file(spec).get("workflow")


def _over(below: Shared | None, above: Shared | None) -> Shared:
    """Limits with others over them, one by one; null takes one away."""
    if not below or not above:
        return above or below or _NONE
    per_day: Limits = {**(below.get("per_day") or {}), **(above.get("per_day") or {})}
    return {**below, **above, "per_day": per_day}


def pair(scope: Scope, limits: Callable[[], Shared]) -> tuple[Bound, Bound]:
    """The bounds of a scope: in all, and on one day."""

    def on_day() -> Limits:
        return limits().get("per_day") or _NONE

    name = scope.kind.value
    total: Period = "total"
    day: Period = "day"
    return (
        Bound(name=name, scope=scope, period=total, limits=limits),
        Bound(name=f"{name}.day", scope=scope, period=day, limits=on_day),
    )
