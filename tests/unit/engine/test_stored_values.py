"""What is stored of a checkpoint is what LangGraph's serializer makes of it."""

from typing import Any

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.pregel._checkpoint import empty_checkpoint
from langgraph.types import Overwrite, Send

import modular_agent.engine  # noqa: F401  # sets what the serializer reads when it is imported
from modular_agent.engine.channels import LogRef
from modular_agent.engine.stored_values import log_segments, plain_values, stored_form


def checkpoint(**values: Any) -> Any:
    return {**empty_checkpoint(), "channel_values": values}


def test_what_was_sent_is_packed_as_by_the_serializer() -> None:
    serializer = JsonPlusSerializer()
    sent = [
        Send("act", {"__sent__": {"call": {"id": "a", "function": {"name": "x"}}, "index": 0}}),
        Send("act", [Overwrite(1), None]),
        Send("act", "late", timeout=3.0),
    ]
    whole = checkpoint(__pregel_tasks=sent, n=1)
    stored, items, logs = stored_form(whole, serializer)
    kind, packed = serializer.dumps_typed(stored)
    assert (kind, packed) == serializer.dumps_typed(whole)
    assert serializer.loads_typed((kind, packed))["channel_values"]["__pregel_tasks"][0] == sent[0]
    assert (items, logs) == ([], {})


def test_a_log_is_stored_as_its_segments_and_its_new_items() -> None:
    whole = LogRef((("old", 2), ("new", 3)), ["a", "b", "c", "d", "e"], ["d", "e"])
    stored, items, logs = stored_form(checkpoint(messages=whole), JsonPlusSerializer())
    assert log_segments(stored["channel_values"]["messages"]) == whole.segments
    assert items == [("new", 1, b'"d"'), ("new", 2, b'"e"')]
    assert logs == {whole.segments: LogRef(whole.segments, whole.items)}
    assert plain_values({"messages": whole, "branch:to:act": None}) == {"messages": whole.items}
