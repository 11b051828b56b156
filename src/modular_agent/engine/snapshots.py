"""What stored checkpoints hold, without running anything: outlines to compare, and what a copy has to bring along."""

import hashlib
from collections.abc import Mapping
from typing import Any, cast

import orjson

from modular_agent.engine.checkpoints import Saver
from modular_agent.engine.state import PROMPTS
from modular_agent.engine.store import CheckpointStore, StoredCheckpoint
from modular_agent.engine.stored_values import log_segments
from modular_agent.events import SessionRef

__all__ = ["Snapshots"]


class Snapshots:
    """Looks into the checkpoints of sessions."""

    def __init__(self, store: CheckpointStore, saver: Saver) -> None:
        self._store = store
        self._saver = saver

    async def outline(self, session: SessionRef, checkpoint_id: str) -> dict[str, dict[str, Any]]:
        """For each key of the state at a root checkpoint a digest, and the length where it is a list."""
        found = await self._store.checkpoint(session, "", checkpoint_id)
        if found is None:
            return {}
        values = self._values(found)
        return {key: _outlined(value) for key, value in values.items() if _is_public(key)}

    async def segments(self, session: SessionRef, checkpoint_id: str) -> dict[str, int]:
        """The lengths of the segments that a root checkpoint and the sub-graphs under it refer to."""
        lengths: dict[str, int] = {}
        for found in await self._store.checkpoints(session, None, before=None, limit=None):
            if checkpoint_id in {found.row.checkpoint_id, found.row.root_id}:
                for value in self._values(found).values():
                    for name, length in log_segments(value) or ():
                        lengths[name] = max(length, lengths.get(name, 0))
        return lengths

    async def record_ids(self, session: SessionRef, checkpoint_id: str) -> frozenset[str]:
        """The ids of the records that the state refers to: its messages, and the system prompts that were sent."""
        values, unapplied = await self._saver.standing(session, checkpoint_id)
        messages: list[Mapping[str, Any]] = list(values.get("messages") or ())
        for key, value in unapplied:
            if key == "messages" and isinstance(value, list):
                messages += cast("list[dict[str, Any]]", value)
        prompts: Mapping[str, Any] = values.get(PROMPTS) or {}
        ids = {str(message.get("id")) for message in messages}
        return frozenset(ids | {str(record_id) for _, record_id in prompts.values()})

    def _values(self, found: StoredCheckpoint) -> dict[str, Any]:
        checkpoint: Any = self._saver.serde.loads_typed((found.row.type, found.row.checkpoint))
        return checkpoint["channel_values"]


def _is_public(key: str) -> bool:
    """Whether a channel is a key of the state, and not LangGraph's or the engine's own."""
    return not key.startswith(("__", "branch:", "join:"))


def _outlined(value: Any) -> dict[str, Any]:
    segments = log_segments(value)
    if segments is not None:
        return {"digest": repr(segments), "length": sum(length for _, length in segments)}
    text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS, default=repr)
    return {"digest": hashlib.sha256(text).hexdigest()}
