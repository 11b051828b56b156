"""What can be wrong with a request about sessions."""

from modular_agent.errors import AgentError, Kind

__all__ = [
    "AgentUnknown",
    "DeletionUnclear",
    "ForkNodeMissing",
    "SessionNotDeleted",
    "StatusNotSettable",
    "WorkflowMissing",
]


class AgentUnknown(AgentError):
    """There is no such file in `agents/`."""

    code = "agent_not_found"
    kind = Kind.INVALID
    english = "There is no agent {agent_type} in agents/ below the configs root."
    chinese = "配置根目录的 agents/ 下没有智能体 {agent_type}。"


class DeletionUnclear(AgentError):
    """A request to delete sessions that says twice which, or not at all."""

    code = "deletion_unclear"
    kind = Kind.INVALID
    english = (
        "Give exactly one of session_ids and filter; a filter says something, and not both workflow_id and agent_type."
    )
    chinese = "session_ids 与 filter 须且只能给一个；filter 至少一个条件，workflow_id 与 agent_type 只能给一个。"


class ForkNodeMissing(AgentError):
    """A node that would run next does not exist in the other version."""

    code = "fork_node_missing"
    kind = Kind.CONFLICT
    english = "The node(s) {nodes} do not exist in that version; say with as_node after which one to go on: {known}."
    chinese = "该版本中没有节点 {nodes}；请用 as_node 指定在哪个节点之后继续：{known}。"


class SessionNotDeleted(AgentError):
    """A session's files or rows could not be removed; the server's log says why, and the next start tries again."""

    code = "session_not_deleted"
    kind = Kind.INTERNAL
    english = "Session {session_id} could not be deleted whole; the server's log says why."
    chinese = "会话 {session_id} 未能完全删除；原因见服务器日志。"


class WorkflowMissing(AgentError):
    """A new session needs exactly one of `workflow_config_path`, `workflow_id` and `agent_type`."""

    code = "workflow_missing"
    kind = Kind.INVALID
    english = "Give exactly one of workflow_config_path, workflow_id and agent_type."
    chinese = "请在 workflow_config_path、workflow_id 与 agent_type 中给出且仅给出一个。"


class StatusNotSettable(AgentError):
    """A session's status follows from its run; only pause, resume and stop can be asked for."""

    code = "status_not_settable"
    kind = Kind.CONFLICT
    english = "The status {status} cannot be set; paused, active and stopped pause, resume and stop the run."
    chinese = "不能设置状态 {status}；paused、active、stopped 分别表示暂停、恢复、停止运行。"
