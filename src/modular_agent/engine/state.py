"""A workflow's state: its channels, the keys that everybody can read, and the shape in which the API shows it."""

import operator
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, TypedDict

from modular_agent.engine.channels import AppendLog, Reduced
from modular_agent.engine.spec.loader import LoadedWorkflow
from modular_agent.engine.spec.state_keys import StateKeys

__all__ = ["EXTRA", "PROMPTS", "StateShape", "opened"]

PROMPTS: Final = "__prompts"  # state key: node to [digest, record_id] of the system prompt logged last
EXTRA: Final = "__extra"  # state key: the undeclared keys of a workflow whose state is open


def _replace(_: Any, new: Any) -> Any:
    return new


def _merge(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    return {**old, **new}


_REDUCERS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "replace": _replace,
    "merge": _merge,
    "add": operator.add,
    "max": max,
    "min": min,
}
_LOGS: Final = frozenset({"messages", "append"})


class StateShape:
    """The channels of one workflow's state.

    `keys` are those that nodes may write; where the state is `open`, any other key is kept beside them.
    """

    def __init__(self, workflow: LoadedWorkflow, *, hidden: Mapping[str, str]) -> None:
        spec = workflow.spec
        known = StateKeys.of(spec, whole=True)
        reducers: dict[str, str] = {"messages": "messages", PROMPTS: "merge", EXTRA: "merge", **hidden}
        written = {node.writes for node in spec.nodes.values() if node.writes}
        public = (known.declared | written | set(hidden)) - {"messages"}
        reducers |= {key: spec.state.reducers.get(key, hidden.get(key, "replace")) for key in public}
        reducers |= spec.state.reducers
        self.open = known.open
        self.keys = frozenset(reducers)
        self._reducers = reducers

    def schema(self) -> Any:
        """The state as the type that LangGraph builds its channels from."""
        fields = {key: Annotated[Any, self.channel(key)] for key in self._reducers}
        return TypedDict("State", fields, total=False)  # type: ignore[operator]  # pyright: ignore[reportArgumentType]

    def channel(self, key: str) -> AppendLog | Reduced:
        """A new, empty channel for `key`."""
        reducer = self._reducers[key]
        return AppendLog() if reducer in _LOGS else Reduced(_REDUCERS[reducer])

    def is_log(self, key: str) -> bool:
        """Whether what is written to `key` is added to a list."""
        return self._reducers.get(key) in _LOGS

    def writable(self, updates: Mapping[str, Any]) -> dict[str, Any] | str:
        """The updates by channel; the first key that the state does not know, where it is closed."""
        known = {key: value for key, value in updates.items() if key in self.keys}
        if len(known) == len(updates):
            return known
        unknown = {key: value for key, value in updates.items() if key not in self.keys}
        if not self.open:
            return next(iter(unknown))
        return {**known, EXTRA: unknown}


def opened(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """The state with its undeclared keys beside the others."""
    extra: Mapping[str, Any] | None = state.get(EXTRA)
    return {**extra, **state} if extra else state
