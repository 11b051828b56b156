"""What can be wrong with a request about sessions."""

from modular_agent.errors import AgentError, Kind

__all__ = ["StatusNotSettable", "WorkflowMissing"]


class WorkflowMissing(AgentError):
    """A new session needs exactly one of `workflow_config_path` and `workflow_id`."""

    code = "workflow_missing"
    kind = Kind.INVALID
    english = "Give exactly one of workflow_config_path and workflow_id."
    chinese = "请在 workflow_config_path 与 workflow_id 中给出且仅给出一个。"


class StatusNotSettable(AgentError):
    """A session's status follows from its run; only pause, resume and stop can be asked for."""

    code = "status_not_settable"
    kind = Kind.CONFLICT
    english = "The status {status} cannot be set; paused, active and stopped pause, resume and stop the run."
    chinese = "不能设置状态 {status}；paused、active、stopped 分别表示暂停、恢复、停止运行。"
