"""What a process knows of the conversations it leads, so that a call costs what is new of them."""

from dataclasses import dataclass, field

from modular_agent.engine.pairing import WHOLE, Pairing, pairing
from modular_agent.engine.providers.folded import Folded
from modular_agent.engine.providers.tokens import estimate_messages

__all__ = ["Conversations"]


def _tokens() -> Folded[int]:
    return Folded(lambda tokens, messages: tokens + estimate_messages(messages), 0)


def _pairing() -> Folded[Pairing]:
    return Folded(pairing, WHOLE)


@dataclass(slots=True)
class Conversations:
    """`tokens` are estimates, `pairing` says whether calls and results stand together."""

    tokens: Folded[int] = field(default_factory=_tokens)
    pairing: Folded[Pairing] = field(default_factory=_pairing)
