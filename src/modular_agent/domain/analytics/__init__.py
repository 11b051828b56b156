"""Analytics: what the log comes to, and how the process and its runs perform."""

from modular_agent.domain.analytics.errors import MetricUnknown, ReportFormatUnknown, ReportUnknown, TimeRangeUnknown
from modular_agent.domain.analytics.live import LiveFigures
from modular_agent.domain.analytics.period import Period
from modular_agent.domain.analytics.reports import Document, ReportsService, report_view
from modular_agent.domain.analytics.service import AnalyticsService
from modular_agent.domain.analytics.trends import Trend
from modular_agent.domain.history.errors import TimeRangeReversed
from modular_agent.storage.errors import SessionUnknown

__all__ = [
    "AnalyticsService",
    "Document",
    "LiveFigures",
    "MetricUnknown",
    "Period",
    "ReportFormatUnknown",
    "ReportUnknown",
    "ReportsService",
    "SessionUnknown",
    "TimeRangeReversed",
    "TimeRangeUnknown",
    "Trend",
    "report_view",
]
