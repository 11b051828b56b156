"""What can be wrong with a request about the log."""

from modular_agent.errors import AgentError, Fault, InvalidInput, Kind, Text

__all__ = ["ExportInterrupted", "QueryUnusable", "TimeRangeReversed"]


class TimeRangeReversed(InvalidInput):
    """A time range that ends before it starts."""

    code = "time_range_reversed"
    kind = Kind.MALFORMED
    english = "The time range ends before it starts."
    chinese = "时间范围的结束早于开始。"

    def __init__(self) -> None:
        super().__init__([Fault(code=self.code, text=Text("is before start_time", "早于 start_time"), path="end_time")])


class QueryUnusable(InvalidInput):
    """A search for nothing, or for a text that is too long."""

    code = "search_query_unusable"
    kind = Kind.MALFORMED
    english = "A search needs a text of 1 to {limit} characters."
    chinese = "搜索内容须为 1 至 {limit} 个字符。"

    def __init__(self, *, limit: int, empty: bool) -> None:
        too_long = Text(f"is longer than {limit} characters", f"超过 {limit} 个字符")
        super().__init__([Fault(code=self.code, text=Text("is empty", "为空") if empty else too_long, path="query")])
        self.parameters = {"limit": limit}


class ExportInterrupted(AgentError):
    """The session was deleted while it was exported; what has been sent is not the whole."""

    code = "export_interrupted"
    kind = Kind.UNAVAILABLE
    english = "The export of session {session_id} broke off: the session was deleted meanwhile."
    chinese = "会话 {session_id} 的导出中断：该会话在此期间被删除。"

    def __init__(self, *, session_id: str) -> None:
        super().__init__(session_id=session_id)
