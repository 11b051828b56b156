"""What can be wrong with a request about workflows."""

from collections.abc import Mapping
from typing import Any

from modular_agent.errors import AgentError, Kind

__all__ = [
    "PreconditionMissing",
    "SessionOfOtherWorkflow",
    "WorkflowChanged",
    "WorkflowExists",
    "WorkflowNameDiffers",
    "WorkflowNameTaken",
    "WorkflowUnknown",
    "WorkflowVersionUnknown",
]


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


class WorkflowNameTaken(AgentError):
    """Two files have the same `name`: the one that was loaded first keeps it."""

    code = "workflow_name_taken"
    kind = Kind.CONFLICT
    english = "The name {workflow_id} belongs to {config_path}; give this file another name, or load it explicitly."
    chinese = "名称 {workflow_id} 已属于 {config_path}；请为此文件改名，或显式加载它。"


class WorkflowNameDiffers(AgentError):
    """The file holds another workflow than the one it was to be loaded as."""

    code = "workflow_name_differs"
    kind = Kind.INVALID
    english = "The file {config_path} holds the workflow {found}, not {workflow_id}."
    chinese = "文件 {config_path} 中的工作流是 {found}，而不是 {workflow_id}。"


class SessionOfOtherWorkflow(AgentError):
    """The session runs another workflow than the one asked for."""

    code = "session_of_other_workflow"
    kind = Kind.INVALID
    english = "Session {session_id} runs the workflow {found}, not {workflow_id}."
    chinese = "会话 {session_id} 运行的工作流是 {found}，而不是 {workflow_id}。"


class WorkflowExists(AgentError):
    """A new workflow has the name of one that is there."""

    code = "workflow_exists"
    kind = Kind.CONFLICT
    english = "A workflow called {workflow_id} exists already, in {config_path}; update it, or choose another name."
    chinese = "名为 {workflow_id} 的工作流已存在于 {config_path}；请更新它，或另选名称。"


class WorkflowChanged(AgentError):
    """The workflow is not what the caller has seen: another update, or an edit of its file, came first.

    `current` is the version that is there now.
    """

    code = "workflow_changed"
    kind = Kind.CONFLICT
    english = "The workflow {workflow_id} has changed meanwhile: its version is {current} now. Read it again first."
    chinese = "工作流 {workflow_id} 已被更改：当前版本为 {current}。请先重新读取。"

    def details(self) -> Mapping[str, Any]:
        return {"current_version": self.parameters["current"]}


class PreconditionMissing(AgentError):
    """An update has to say, by `If-Match`, which version it is made from."""

    code = "precondition_missing"
    kind = Kind.INVALID
    english = "Send the header If-Match with the ETag of the version that you have changed."
    chinese = "请在 If-Match 请求头中给出您所修改版本的 ETag。"
