"""What can be wrong with a request for statistics."""

from modular_agent.errors import AgentError, Fault, InvalidInput, Kind, Text

__all__ = ["MetricUnknown", "ReportFormatUnknown", "ReportUnknown", "TimeRangeUnknown"]


class _ChoiceUnknown(InvalidInput):
    """A parameter that is none of a few words."""

    kind = Kind.MALFORMED
    english = "{value} is not one of: {known}."
    chinese = "{value} 不是以下之一：{known}。"

    def __init__(self, value: str, known: tuple[str, ...]) -> None:
        names = ", ".join(known)
        text = Text(f"is not one of: {names}", f"不是以下之一：{names}")
        super().__init__([Fault(code=self.code, text=text, path=self.parameter)])
        self.parameters = {"value": repr(value[:100]), "known": names}

    parameter = ""


class MetricUnknown(_ChoiceUnknown):
    """A trend of something that is not measured."""

    code = "metric_unknown"
    parameter = "metric"


class TimeRangeUnknown(_ChoiceUnknown):
    """A `time_range` that trends do not have."""

    code = "time_range_unknown"
    parameter = "time_range"


class ReportFormatUnknown(_ChoiceUnknown):
    """A format that reports are not written in."""

    code = "report_format_unknown"
    parameter = "format"


class ReportUnknown(AgentError):
    """No kept report has this id."""

    code = "report_not_found"
    kind = Kind.NOT_FOUND
    english = "There is no report {report_id}."
    chinese = "没有报告 {report_id}。"
