"""What a process knows of the conversations it leads, so that a call costs what is new of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from modular_agent.engine.pairing import WHOLE, Pairing, pairing
from modular_agent.engine.providers.folded import Folded
from modular_agent.engine.providers.port import ToolSchema
from modular_agent.engine.providers.remembered import Remembered
from modular_agent.engine.providers.tokens import estimate_messages, estimate_tools

__all__ = ["Conversations"]


def _tokens() -> Folded[int]:
    return Folded(lambda tokens, messages: tokens + estimate_messages(messages), 0)


def _pairing() -> Folded[Pairing]:
    return Folded(pairing, WHOLE)


def _tools() -> Remembered[Sequence[ToolSchema], int]:
    return Remembered(estimate_tools)


@dataclass(slots=True)
class Conversations:
    """`tokens` are estimates, `pairing` says whether calls and results stand together; `tools` are the tokens of a
    node's tools."""

    tokens: Folded[int] = field(default_factory=_tokens)
    pairing: Folded[Pairing] = field(default_factory=_pairing)
    tools: Remembered[Sequence[ToolSchema], int] = field(default_factory=_tools)
