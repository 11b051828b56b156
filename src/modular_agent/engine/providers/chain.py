"""A model with those to try after it."""

from collections.abc import Sequence

from modular_agent.engine.providers.port import ChatModel
from modular_agent.engine.providers.resilience import RetryPolicy
from modular_agent.kit.dataclass import dataclass

__all__ = ["ModelChain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChain:
    """The models to call, in order; `timeout` is in seconds for one call.

    `notes` say what of the configuration could not be used, for the log of each run.
    """

    models: Sequence[ChatModel]
    policy: RetryPolicy
    timeout: float
    notes: tuple[str, ...] = ()
