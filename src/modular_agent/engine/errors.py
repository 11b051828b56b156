"""What can go wrong while a workflow is compiled or run."""

from modular_agent.errors import AgentError, InvalidInput, Kind

__all__ = [
    "AgentConfigInvalid",
    "CheckpointThreadUnknown",
    "GraphUnusable",
    "IterationLimitReached",
    "LimitReached",
    "LimitsInvalid",
    "NoRoute",
    "NodeFailed",
    "NodeTimedOut",
    "OutputInvalid",
    "QueueFull",
    "RunNotHere",
    "SharedLimitReached",
    "StateInvalid",
    "StateKeyUnknown",
    "StateTooLarge",
]


class AgentConfigInvalid(InvalidInput):
    """A session's `agent_config` has a key that means nothing, or a value that cannot be used."""

    code = "agent_config_invalid"
    english = "agent_config cannot be used ({count} fault(s))."
    chinese = "agent_config 无法使用（{count} 处错误）。"


class CheckpointThreadUnknown(AgentError):
    """A checkpoint names a session that does not exist."""

    code = "checkpoint_session_not_found"
    kind = Kind.NOT_FOUND
    english = "No session has the id {thread_id}."
    chinese = "没有 id 为 {thread_id} 的会话。"


class GraphUnusable(AgentError):
    """What a `graph` node refers to is not a LangGraph graph."""

    code = "graph_unusable"
    kind = Kind.INVALID
    english = "{reference} is a {type}; a graph node needs a compiled LangGraph graph or its builder."
    chinese = "{reference} 是 {type}；graph 节点需要已编译的 LangGraph 图或其构建器。"


class NodeTimedOut(AgentError):
    """A node's attempt took longer than its `timeout`."""

    code = "node_timeout"
    english = "Node {node} did not finish within {seconds} s."
    chinese = "节点 {node} 未在 {seconds} 秒内完成。"


class NodeFailed(AgentError):
    """A node's own code raised."""

    code = "node_failed"
    english = "Node {node} failed: {type}: {reason}"
    chinese = "节点 {node} 失败：{type}：{reason}"


class NoRoute(AgentError):
    """A node has only conditional ways out and none of the conditions is true."""

    code = "no_route"
    english = "None of the conditions on the edges out of {node} is true; add an edge without `when`."
    chinese = "节点 {node} 的出边条件均不成立；请添加一条没有 `when` 的边。"


class StateKeyUnknown(AgentError):
    """A node wrote to a state key that the workflow does not declare."""

    code = "state_key_unknown"
    english = "Node {node} returned the state key {key}, which the workflow's state does not declare."
    chinese = "节点 {node} 返回了工作流状态中未声明的键 {key}。"


class OutputInvalid(AgentError):
    """A node's result does not have the shape that the workflow asks for."""

    code = "node_output_invalid"
    english = "The result of node {node} is not what the workflow asks for: {reason}"
    chinese = "节点 {node} 的结果不符合工作流的要求：{reason}"
    retryable = True  # a model may do better the next time


class LimitReached(AgentError):
    """A run went over one of its limits, and the workflow says to fail."""

    code = "limit_reached"
    kind = Kind.CONFLICT
    english = "The run reached its limit {limit} = {maximum} (used: {used})."
    chinese = "运行已达到限制 {limit} = {maximum}（已用：{used}）。"


class SharedLimitReached(LimitReached):
    """A limit that several runs share is used up, and it says to fail. `budget` is its name (`workflow.day`)."""

    code = "shared_limit_reached"
    english = "The limit {limit} = {maximum} of {budget} ({subject}) is used up (used: {used})."
    chinese = "{budget}（{subject}）的限制 {limit} = {maximum} 已用尽（已用：{used}）。"


class LimitsInvalid(InvalidInput):
    """The limits of a request cannot be used."""

    code = "limits_invalid"
    kind = Kind.INVALID
    english = "The limits cannot be used ({count} fault(s))."
    chinese = "限制无法使用（{count} 处错误）。"


class IterationLimitReached(LimitReached):
    """An agent node's loop reached its `max_iterations`."""

    code = "iteration_limit_reached"


class StateInvalid(InvalidInput):
    """A state from outside does not fit the workflow."""

    code = "state_invalid"
    english = "The state does not fit the workflow ({count} fault(s))."
    chinese = "状态与工作流不符（{count} 处错误）。"


class StateTooLarge(AgentError):
    """A session's state (without its logs) outgrew the setting."""

    code = "state_too_large"
    kind = Kind.TOO_LARGE
    english = "The session's state has {size} bytes; at most {maximum} are kept. Keep large values in files."
    chinese = "会话状态有 {size} 字节，最多保留 {maximum} 字节。请将大的值存入文件。"


class QueueFull(AgentError):
    """As many runs as allowed execute, and as many as allowed wait."""

    code = "queue_full"
    kind = Kind.UNAVAILABLE
    english = "Too many runs are waiting ({queued} of {maximum}); try again in a moment."
    chinese = "排队的运行过多（{queued}/{maximum}），请稍后再试。"


class RunNotHere(AgentError):
    """A run is not executed by this process."""

    code = "run_not_active"
    kind = Kind.CONFLICT
    english = "Run {run_id} is not being executed."
    chinese = "运行 {run_id} 当前未在执行。"
