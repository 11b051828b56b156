"""What can be wrong with a request about the log."""

from modular_agent.errors import Fault, InvalidInput, Kind

__all__ = ["TimeRangeReversed"]


class TimeRangeReversed(InvalidInput):
    """A time range that ends before it starts."""

    code = "time_range_reversed"
    kind = Kind.MALFORMED
    english = "The time range ends before it starts."
    chinese = "时间范围的结束早于开始。"

    def __init__(self) -> None:
        super().__init__([Fault(code=self.code, message="is before start_time", path="end_time")])
