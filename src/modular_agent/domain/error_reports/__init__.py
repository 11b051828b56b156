"""Errors as a list to work through: found, grouped by cause, resolved, retried."""

from modular_agent.domain.error_reports.errors import ErrorGroupUnknown, ErrorUnknown
from modular_agent.domain.error_reports.service import ErrorReports
from modular_agent.storage.repositories.error_groups import ErrorFilter, ErrorState

__all__ = ["ErrorFilter", "ErrorGroupUnknown", "ErrorReports", "ErrorState", "ErrorUnknown"]
