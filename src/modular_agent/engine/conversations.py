"""What a process knows of the conversations it leads, so that a call costs what is new of them."""

from collections.abc import Sequence
from dataclasses import field
from typing import Final, NamedTuple

from modular_agent.engine.pairing import WHOLE, Pairing, pairing
from modular_agent.engine.providers.folded import Folded
from modular_agent.engine.providers.port import Message, ToolSchema
from modular_agent.engine.providers.remembered import Remembered
from modular_agent.engine.providers.tokens import estimate_messages, estimate_tools
from modular_agent.kit.dataclass import dataclass

__all__ = ["Conversations", "Reading"]


class Reading(NamedTuple):
    """A conversation, gone over: its tokens, estimated, and whether calls and results stand together."""

    tokens: int
    pairing: Pairing


NOTHING: Final = Reading(0, WHOLE)


def _read(before: Reading, messages: Sequence[Message]) -> Reading:
    return Reading(before.tokens + estimate_messages(messages), pairing(before.pairing, messages))


def _readings() -> Folded[Reading]:
    return Folded(_read, NOTHING)


def _tools() -> Remembered[Sequence[ToolSchema], int]:
    return Remembered(estimate_tools)


@dataclass(slots=True)
class Conversations:
    """`readings` are of conversations without their system prompt, `tools` the tokens of a node's tools."""

    readings: Folded[Reading] = field(default_factory=_readings)
    tools: Remembered[Sequence[ToolSchema], int] = field(default_factory=_tools)
