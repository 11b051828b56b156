"""How a checkpoint's values are stored: append logs as references to segments of items, the rest as LangGraph does."""

from collections.abc import Mapping
from typing import Any, Final, cast

import orjson
import ormsgpack
from langgraph._internal._constants import TASKS  # the channel of what was sent to nodes
from langgraph.checkpoint.base import Checkpoint
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import EXT_CONSTRUCTOR_POS_ARGS
from langgraph.types import Send

from modular_agent.engine.channels import LogRef, Segment
from modular_agent.engine.store import LogItem

__all__ = ["log_segments", "plain_values", "stored_form"]

_LOG: Final = "__log__"
_BOOKKEEPING: Final = ("branch:", "join:")


def stored_form(
    checkpoint: Checkpoint, serializer: SerializerProtocol
) -> tuple[dict[str, Any], list[LogItem], dict[tuple[Segment, ...], LogRef]]:
    """The checkpoint with references in place of lists, the items to store, and the lists for the cache."""
    values: dict[str, Any] = {}
    items: list[LogItem] = []
    logs: dict[tuple[Segment, ...], LogRef] = {}
    for channel, value in checkpoint["channel_values"].items():
        if not isinstance(value, LogRef):
            values[channel] = value
            continue
        values[channel] = {_LOG: [list(segment) for segment in value.segments]}
        logs[value.segments] = LogRef(value.segments, value.items, (), value.frozen)
        if value.new:
            name, length = value.segments[-1]
            first = length - len(value.new)
            items += [LogItem(name, first + i, orjson.dumps(item)) for i, item in enumerate(value.new)]
    if sent := values.get(TASKS):
        values[TASKS] = [_packed(each, serializer) for each in sent]
    return {**checkpoint, "channel_values": values}, items, logs


def _packed(value: Any, serializer: SerializerProtocol) -> Any:
    """A `Send` as the serializer packs it, without the dozen questions by which that finds out what it is."""
    if type(value) is not Send or value.timeout is not None:
        return value
    kind = (Send.__module__, Send.__name__, (value.node, value.arg))
    return ormsgpack.Ext(EXT_CONSTRUCTOR_POS_ARGS, serializer.dumps_typed(kind)[1])


def log_segments(value: Any) -> tuple[Segment, ...] | None:
    """The segments that a stored value refers to, if it stands for an append log."""
    if not (isinstance(value, dict) and _LOG in value):
        return None
    return tuple((str(name), int(length)) for name, length in cast("dict[str, Any]", value)[_LOG])


def plain_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint's channels as a state: lists in place of references, without LangGraph's own book-keeping."""
    return {
        key: value.items if isinstance(value, LogRef) else value
        for key, value in values.items()
        if not key.startswith(_BOOKKEEPING)
    }
