"""One execution of a node, as its body sees it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from langchain_core.runnables import RunnableConfig
from langgraph.types import Overwrite

from modular_agent.engine.context import RunContext
from modular_agent.engine.store import Facts

__all__ = ["PREFIX", "SENT", "Body", "Updates", "Visit", "replace"]

PREFIX: Final = "__modular_agent_prefix"  # in `config["configurable"]`: the path of the sub-workflow, with a slash
SENT: Final = "__sent__"  # the key under which a task that was sent to a node finds what it was sent

Updates = dict[str, Any]  # state key to value


@dataclass(slots=True, kw_only=True)
class Visit:
    """A node's execution: the state it reads, what it was sent, and where its facts go.

    `node` is the name in the log (a sub-workflow's nodes have its name in front). `state` must not be changed.
    `facts` are committed together with what the node writes.
    """

    node: str
    context: RunContext
    state: Mapping[str, Any]
    sent: Any = None  # whatever a routing function put into its Send
    task_id: str
    step_id: str
    config: RunnableConfig
    attempt: int = 1

    @property
    def is_outer(self) -> bool:
        """Whether the node belongs to the session's own workflow, not to one inside it."""
        return "/" not in self.node

    @property
    def facts(self) -> Facts:
        return self.context.binding.facts(self.task_id)


Body = Callable[[Visit], Awaitable[Updates]]


def replace(value: Any) -> Overwrite:
    """A write that replaces what the key holds, whatever its reducer."""
    return Overwrite(value)
