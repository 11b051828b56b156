"""The records of what a model call used and cost, whoever made it."""

from modular_agent.engine.nodes.visit import Visit
from modular_agent.engine.store import ModelCall
from modular_agent.events import Record, RecordType

__all__ = ["cost_record", "usage_record"]

_NANO = 1_000_000_000


def usage_record(visit: Visit, call: ModelCall, *, source: str, message_id: str) -> Record:
    """The `token_usage` record of a call; `source` is `provider` or `estimated`."""
    return visit.context.record(
        RecordType.TOKEN_USAGE,
        visit.node,
        model=call.model,
        prompt_tokens=call.prompt_tokens,
        completion_tokens=call.completion_tokens,
        total_tokens=call.prompt_tokens + call.completion_tokens,
        cached_tokens=call.cached_tokens,
        cache_write_tokens=call.cache_write_tokens,
        reasoning_tokens=call.reasoning_tokens,
        source=source,
        message_id=message_id,
    )


def cost_record(visit: Visit, call: ModelCall, *, message_id: str) -> Record:
    """The `cost` record of a call: US dollars, or unpriced."""
    return visit.context.record(
        RecordType.COST,
        visit.node,
        model=call.model,
        currency="USD",
        amount=None if call.cost_nano is None else call.cost_nano / _NANO,
        unpriced=call.cost_nano is None,
        price_source=call.price_source,
        message_id=message_id,
    )
