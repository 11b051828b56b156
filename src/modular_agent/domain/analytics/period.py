"""The time that figures are about."""

from typing import Any

from modular_agent.domain.history.errors import TimeRangeReversed
from modular_agent.kit.clock import rfc3339, within_calendar
from modular_agent.kit.dataclass import dataclass
from modular_agent.storage.statistics.scope import Scope

__all__ = ["Period"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """From `start` (included) to `end` (excluded), in µs; None is without bound. Raises `TimeRangeReversed`."""

    start: int | None = None
    end: int | None = None

    def __post_init__(self) -> None:
        if self.start is not None and self.end is not None and self.end < self.start:
            raise TimeRangeReversed

    def scope(self, *, session_n: int | None = None, tenant: str | None = None) -> Scope:
        return Scope(start=self.start, end=self.end, session_n=session_n, tenant=tenant)

    def view(self) -> dict[str, Any]:
        return {"start_time": _text(self.start), "end_time": _text(self.end)}


def _text(us: int | None) -> str | None:
    return None if us is None else rfc3339(within_calendar(us))
