"""What the engine needs made durable, and the port through which it says so.

The engine knows no tables: whoever implements `RunStore` turns these values into units of work. Every method that is
not a coroutine function enqueues before it returns, so the order of calls is the order of commits.
"""

from collections.abc import Awaitable, Collection, Mapping, Sequence
from dataclasses import field
from enum import StrEnum
from typing import Any, Literal, NamedTuple, Protocol

from modular_agent.engine.channels import Segment
from modular_agent.events import Record, SessionRef
from modular_agent.kit.dataclass import dataclass
from modular_agent.lifecycle import RunStatus

__all__ = [
    "Charge",
    "CheckpointRow",
    "CheckpointStore",
    "EffectIntent",
    "EffectResult",
    "EffectState",
    "Facts",
    "InboxMessage",
    "LogItem",
    "ModelCall",
    "NewCheckpoint",
    "Question",
    "RunChange",
    "RunKey",
    "RunStore",
    "Scope",
    "ScopeKind",
    "Spent",
    "StoredCheckpoint",
    "TaskWrite",
    "WriteRow",
]


class RunKey(NamedTuple):
    """A run at one of its epochs: every write of it names the epoch, and a stale one is refused."""

    session: SessionRef
    run_id: str
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCall:
    """A model call as numbers. Durations in µs; `cost_nano` in nano-dollars, None where no price is known.

    `served_by` is `Completion.served_by`, by which a price is looked up again later; None: not known.
    """

    call_id: str
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
    error_kind: str | None = None
    served_by: str | None = None


class ScopeKind(StrEnum):
    """Whose use is counted together."""

    RUN = "run"
    SESSION = "session"
    WORKFLOW = "workflow"
    KEY = "key"
    INSTALLATION = "installation"


class Scope(NamedTuple):
    """What is counted together: `subject` is the id of the session, workflow or key, empty for the installation."""

    kind: ScopeKind
    subject: str


@dataclass(slots=True)
class Spent:
    """What was used: model calls that answered, tokens (those without a price also apart), money, steps, time in µs."""

    calls: int = 0
    tokens: int = 0
    unpriced_tokens: int = 0
    cost_nano: int = 0
    steps: int = 0
    active_us: int = 0

    def add(self, other: "Spent") -> None:
        self.calls += other.calls
        self.tokens += other.tokens
        self.unpriced_tokens += other.unpriced_tokens
        self.cost_nano += other.cost_nano
        self.steps += other.steps
        self.active_us += other.active_us

    def numbers(self) -> tuple[int, ...]:
        """The values, in the order of the fields."""
        return (self.calls, self.tokens, self.unpriced_tokens, self.cost_nano, self.steps, self.active_us)

    @classmethod
    def of(cls, call: ModelCall) -> "Spent":
        """What a call used; one that failed counts as none."""
        tokens = call.prompt_tokens + call.completion_tokens
        return cls(
            calls=int(call.error_kind is None),
            tokens=tokens,
            unpriced_tokens=tokens if call.cost_nano is None else 0,
            cost_nano=call.cost_nano or 0,
        )


@dataclass(frozen=True, slots=True)
class Charge:
    """What a run used since its last charge, to be added to each scope on a day (days since the epoch, UTC)."""

    scopes: Sequence[Scope]
    day: int
    spent: Spent


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectIntent:
    """A tool call that is about to run."""

    tool_call_id: str
    node: str
    tool_name: str
    effect: str
    idempotency_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectResult:
    """How a tool call ended; `result` is the outcome as JSON text, `began_at` in µs."""

    intent: EffectIntent
    began_at: int
    status: Literal["done", "failed", "not_done"]
    result: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectState:
    """What the ledger knows of a call: `status` is `intent` when it may or may not have happened."""

    status: str
    attempts: int
    result: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question to a person. `graph_id` is LangGraph's id of the interrupt; `due_at` in µs."""

    interrupt_id: str
    graph_id: str
    node: str
    kind: str
    question: Mapping[str, Any]  # JSON
    form: Mapping[str, Any] | None  # JSON Schema
    due_at: int | None = None


@dataclass(frozen=True, slots=True)
class InboxMessage:
    """A message a person put into a running run."""

    inbox_id: str
    message: Mapping[str, Any]  # a Message as JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRow:
    """A checkpoint as stored. `root_id` names the root checkpoint that a sub-graph's belongs to."""

    ns: str
    checkpoint_id: str
    parent_id: str | None
    root_id: str | None
    run_id: str | None
    step: int
    source: str
    type: str
    checkpoint: bytes
    metadata: bytes


class WriteRow(NamedTuple):
    """One value that a task wrote to one channel."""

    task_id: str
    idx: int
    task_path: str
    channel: str
    type: str
    value: bytes


class LogItem(NamedTuple):
    """One item of an append log."""

    segment: str
    position: int
    value: bytes


class TaskWrite(NamedTuple):
    """What a task wrote after the checkpoint (`ns`, `checkpoint_id`); rows that exist are kept unless `replace`."""

    ns: str
    checkpoint_id: str
    row: WriteRow
    replace: bool


class NewCheckpoint(NamedTuple):
    """A checkpoint and the new items of its append logs."""

    row: CheckpointRow
    items: Sequence[LogItem]


@dataclass(slots=True)
class Facts:
    """What became known, to be committed together. Made several times a step: `list[X]()` costs five times `[]`."""

    records: list[Record] = field(default_factory=list)
    calls: list[ModelCall] = field(default_factory=list)
    intents: list[EffectIntent] = field(default_factory=list)
    effects: list[EffectResult] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    inbox_taken: list[str] = field(default_factory=list)
    writes: list[TaskWrite] = field(default_factory=list)
    checkpoints: list[NewCheckpoint] = field(default_factory=list)
    charges: list[Charge] = field(default_factory=list)
    clears_pending: bool = False

    def __bool__(self) -> bool:
        return bool(
            self.records
            or self.writes
            or self.checkpoints
            or self.calls
            or self.intents
            or self.effects
            or self.questions
            or self.inbox_taken
            or self.charges
            or self.clears_pending
        )

    @property
    def needs_statement(self) -> bool:
        """Whether there are facts among them that are more than rows to insert."""
        return bool(self.inbox_taken) or self.clears_pending

    def extend(self, other: "Facts") -> None:
        self.records += other.records
        self.calls += other.calls
        self.intents += other.intents
        self.effects += other.effects
        self.questions += other.questions
        self.inbox_taken += other.inbox_taken
        self.writes += other.writes
        self.checkpoints += other.checkpoints
        self.charges += other.charges
        self.clears_pending = self.clears_pending or other.clears_pending


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A checkpoint with what its tasks wrote, ordered by (task_path, task_id, idx)."""

    row: CheckpointRow
    writes: Sequence[WriteRow]


class CheckpointStore(Protocol):
    """Where checkpoints live."""

    async def session(self, thread_id: str) -> SessionRef | None:
        """The session that LangGraph calls thread `thread_id`."""
        ...

    def put(self, session: SessionRef, facts: Facts) -> Awaitable[object]:
        """Stores checkpoints and writes that no run made. A checkpoint replaces one with the same id."""
        ...

    async def checkpoint(self, session: SessionRef, ns: str, checkpoint_id: str | None) -> StoredCheckpoint | None:
        """The checkpoint with that id, or the newest of the namespace."""
        ...

    async def checkpoints(
        self, session: SessionRef, ns: str | None, *, before: str | None, limit: int | None
    ) -> Sequence[StoredCheckpoint]:
        """Newest first; `before` excludes that id and newer ones; `ns` None means every namespace."""
        ...

    async def log_items(
        self, session: SessionRef, segments: Sequence[Segment]
    ) -> Sequence[tuple[Sequence[bytes], bool]]:
        """For each segment its items below the length, and whether the segment has more."""
        ...

    async def delete_checkpoints(self, session: SessionRef) -> None: ...

    async def delete_run_checkpoints(self, run_ids: Sequence[str]) -> None:
        """Deletes these runs' checkpoints with their writes and namespaces."""
        ...

    async def copy_checkpoints(self, source: SessionRef, target: SessionRef) -> None: ...

    async def prune_checkpoints(
        self, session: SessionRef, *, keep: int, protect: Collection[tuple[str, str]] = ()
    ) -> None:
        """Keeps the newest `keep` of each namespace (0: none at all) and those in `protect`: (namespace, id)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RunChange:
    """A change of a run's status with what goes with it; None leaves a value as it is. `active_us` is added.

    With `holds` only a person's word has the run go on from then on, also when its questions are answered.
    """

    status: RunStatus
    holds: bool = False
    raise_epoch: bool = False
    current_node: str | None = None
    active_us: int = 0
    result: Any = None  # JSON
    error: Mapping[str, Any] | None = None


class RunStore(CheckpointStore, Protocol):
    """Where runs and what they make known live."""

    def commit(self, run: RunKey, facts: Facts) -> Awaitable[object]:
        """Makes facts durable. Raises a conflict error when the epoch is stale."""
        ...

    def change(self, run: RunKey, change: RunChange, facts: Facts) -> Awaitable[bool]:
        """Changes the run's and its session's status; answers whether messages or inputs wait for the session.

        Raises `IllegalTransition`.
        """
        ...

    async def intend(self, run: RunKey, intent: EffectIntent, record: Record) -> EffectState | None:
        """Enters an intent; answers what the ledger held of this call before, and then enters nothing new."""
        ...

    async def repeat(self, run: RunKey, intent: EffectIntent, record: Record) -> None:
        """Notes one attempt more of a call in the ledger, before it runs again."""
        ...

    async def inbox(self, run: RunKey) -> Sequence[InboxMessage]:
        """The messages that wait for this run, oldest first."""
        ...

    async def spent(self, run: RunKey) -> Sequence[ModelCall]:
        """The run's model calls so far, for its budget."""
        ...

    async def usage(self, scopes: Sequence[Scope], *, day: int) -> Sequence[tuple[Spent, Spent]]:
        """What each scope has used in all, and on that day."""
        ...

    async def steps(self, run: RunKey) -> Sequence[Mapping[str, Any]]:
        """The run's `step` records so far, oldest first (JSON objects)."""
        ...

    async def tool_calls(self, run: RunKey) -> Sequence[Mapping[str, Any]]:
        """The run's `tool_call` records so far, oldest first (JSON objects)."""
        ...
