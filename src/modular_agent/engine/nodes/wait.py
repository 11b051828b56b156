"""`wait`: a duration, or until a time."""

import asyncio
from datetime import UTC, datetime
from typing import Final

from modular_agent.engine.budgets import Need
from modular_agent.engine.errors import OutputInvalid
from modular_agent.engine.expressions import Expression
from modular_agent.engine.nodes.asking import ask
from modular_agent.engine.nodes.reading import evaluate
from modular_agent.engine.nodes.spending import within_limits
from modular_agent.engine.nodes.visit import Body, Updates, Visit
from modular_agent.engine.spec.model import WaitNode
from modular_agent.kit.clock import MICROSECONDS, rfc3339

__all__ = ["LONG_WAIT", "parse_time", "wait"]

LONG_WAIT: Final = 5.0  # seconds; a longer wait leaves the process: the run is paused until a timer resumes it


def parse_time(text: str) -> int:
    """µs since the epoch of an RFC 3339 time; one without offset means UTC. Raises `ValueError`."""
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    return int(time.timestamp() * MICROSECONDS)


def wait(spec: WaitNode, until: Expression | int | None) -> Body:
    """The body of a `wait` node; `until` is a time in µs or an expression that gives one as text."""

    async def body(visit: Visit) -> Updates:
        now = visit.context.clock.now_us()
        due = _due(spec, until, visit, now)
        if due - now <= LONG_WAIT * MICROSECONDS:
            await asyncio.sleep(max(0, due - now) / MICROSECONDS)
        else:
            ask(visit, "wait", due_at=due, until=rfc3339(due))
        within_limits(visit, Need())  # a cycle of waits is bounded by steps and seconds
        return {}

    return body


def _due(spec: WaitNode, until: Expression | int | None, visit: Visit, now: int) -> int:
    if isinstance(until, int):
        return until
    if until is None:
        return now + int((spec.duration or 0) * MICROSECONDS)
    value = evaluate(visit, until)
    try:
        return parse_time(value)
    except (TypeError, ValueError) as error:
        raise OutputInvalid(node=visit.node, reason=f"`until` gave {value!r}, which is not an RFC 3339 time") from error
