"""What every node of a run is handed: the run itself, and the collaborators it may use."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.runtime import RunControl

from modular_agent.engine.binding import Binding
from modular_agent.engine.budgets import Budget
from modular_agent.engine.checkpoints import Saver
from modular_agent.engine.conversations import Conversations
from modular_agent.engine.inbox import Inbox
from modular_agent.engine.live import LiveNodes
from modular_agent.engine.progress import Progress
from modular_agent.engine.providers.pricing import PriceBook
from modular_agent.engine.store import Charge, EffectIntent, ModelCall, RunKey, RunStore
from modular_agent.events import Delta, Record, RecordType
from modular_agent.kit.clock import Clock
from modular_agent.kit.dataclass import dataclass

__all__ = ["RunContext"]


@dataclass(slots=True, kw_only=True)
class RunContext:
    """One execution of a run, from a start or resume to its end.

    `overrides` are the session's `agent_config`. `step_mode` makes the run drain after one step.
    """

    key: RunKey
    workflow_id: str
    binding: Binding
    control: RunControl
    store: RunStore
    saver: Saver
    clock: Clock
    budget: Budget
    progress: Progress
    publish_delta: Callable[[Delta], None]
    prices: PriceBook
    conversations: Conversations
    inbox: Inbox
    overrides: Mapping[str, Any]  # JSON
    files: Path
    step_mode: bool = False
    live: LiveNodes = field(default_factory=LiveNodes)
    prompts: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])  # node to digest, record id

    notes: set[str] = field(default_factory=set[str])  # warnings that were logged
    started_at: int = 0  # µs since the epoch
    slots: dict[str, asyncio.Semaphore] = field(default_factory=dict[str, asyncio.Semaphore])
    _states: dict[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])

    def slot(self, node: str, count: int) -> asyncio.Semaphore:
        """What bounds the parallel tasks of a node in this run."""
        if node not in self.slots:
            self.slots[node] = asyncio.Semaphore(count)
        return self.slots[node]

    async def state_at(self, config: RunnableConfig, checkpoint_id: str) -> Mapping[str, Any]:
        """The state that the tasks after a checkpoint read, for one that was sent something else instead."""
        if checkpoint_id not in self._states:
            state = await self.saver.values(config, checkpoint_id)
            self._states.clear()  # one step at a time
            self._states[checkpoint_id] = state
        return self._states[checkpoint_id]

    def emit(
        self,
        *records: Record,
        calls: Sequence[ModelCall] = (),
        intents: Sequence[EffectIntent] = (),
        charges: Sequence[Charge] = (),
    ) -> None:
        """Logs facts soon, without waiting: they happened, whatever becomes of the step."""
        facts = self.binding.gathering()
        facts.records += records
        facts.calls += calls
        facts.intents += intents
        facts.charges += charges

    def tell(self, delta: Delta) -> None:
        """Publishes a piece of a message, after the records that were given before it: clients see things in order."""
        self.binding.afterwards(lambda: self.publish_delta(delta))

    def record(self, record_type: RecordType, node: str | None, /, **fields: Any) -> Record:
        """A record of this run; the fields are JSON."""
        return Record.of(record_type, self.key.run_id, node, fields)
