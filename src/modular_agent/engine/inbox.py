"""What a person put into a run in progress: each message is taken by one model call, or put back by it."""

from collections.abc import Iterable, Sequence
from dataclasses import field

from modular_agent.engine.binding import Binding
from modular_agent.engine.store import InboxMessage, RunKey, RunStore
from modular_agent.kit.dataclass import dataclass

__all__ = ["Inbox"]


@dataclass(slots=True)
class Inbox:
    """The messages that wait for a run. `is_waiting` says that there may be some.

    A message leaves the database with what the call's task writes. Until then this execution knows that it is taken:
    other branches do not take it too, and a call that fails, or asks a person first, gives it back to the next one.
    """

    key: RunKey
    store: RunStore
    binding: Binding
    is_waiting: bool = False
    _held: set[str] = field(default_factory=set[str])

    async def take(self) -> Sequence[InboxMessage]:
        """The messages that wait, oldest first, for a model call that is about to be made."""
        if not self.is_waiting:
            return ()
        self.is_waiting = False
        await self.binding.durable()  # what an earlier call took must be gone before we look
        waiting = [each for each in await self.store.inbox(self.key) if each.inbox_id not in self._held]
        self._held.update(each.inbox_id for each in waiting)
        return waiting

    def put_back(self, inbox_ids: Iterable[str]) -> None:
        """The next model call takes them, because this one came to nothing."""
        for inbox_id in inbox_ids:
            self._held.discard(inbox_id)
            self.is_waiting = True
