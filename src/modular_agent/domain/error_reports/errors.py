"""What can be wrong with a request about errors."""

from modular_agent.errors import AgentError, Kind

__all__ = ["ErrorGroupUnknown", "ErrorUnknown"]


class ErrorUnknown(AgentError):
    """No error has that id, or its session is gone."""

    code = "error_not_found"
    kind = Kind.NOT_FOUND
    english = "There is no error {error_id}."
    chinese = "没有错误 {error_id}。"


class ErrorGroupUnknown(AgentError):
    """No error has that fingerprint."""

    code = "error_group_not_found"
    kind = Kind.NOT_FOUND
    english = "No error has the fingerprint {fingerprint}."
    chinese = "没有指纹为 {fingerprint} 的错误。"
