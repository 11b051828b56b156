"""What can be wrong with a request about workflows."""

from modular_agent.errors import AgentError, Kind

__all__ = ["WorkflowUnknown", "WorkflowVersionUnknown"]


class WorkflowUnknown(AgentError):
    """No workflow of that name is loaded."""

    code = "workflow_not_found"
    kind = Kind.NOT_FOUND
    english = "No workflow is called {workflow_id}; load its file first."
    chinese = "没有名为 {workflow_id} 的工作流，请先加载其文件。"


class WorkflowVersionUnknown(AgentError):
    """No stored version has that content hash."""

    code = "workflow_version_not_found"
    kind = Kind.NOT_FOUND
    english = "No workflow version has the content hash {content_hash}."
    chinese = "没有内容哈希为 {content_hash} 的工作流版本。"
