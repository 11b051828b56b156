"""What can be wrong with a request about runs."""

from modular_agent.errors import AgentError, InvalidInput, Kind

__all__ = [
    "AnswerInvalid",
    "CheckpointUnknown",
    "NoActiveRun",
    "NotPaused",
    "QuestionsOpen",
    "RunNotRunning",
    "RunQueueFull",
    "RunRolledBack",
    "RunSuperseded",
]


class CheckpointUnknown(AgentError):
    """The session has no such checkpoint."""

    code = "checkpoint_not_found"
    kind = Kind.NOT_FOUND
    english = "The session has no checkpoint {checkpoint_id}."
    chinese = "会话没有检查点 {checkpoint_id}。"


class NoActiveRun(AgentError):
    """The session has no run that could be paused, stopped or taken up."""

    code = "no_active_run"
    kind = Kind.CONFLICT
    english = "Session {session_id} has no active run."
    chinese = "会话 {session_id} 没有进行中的运行。"


class RunNotRunning(AgentError):
    """Only a run in progress takes messages; others start a new one."""

    code = "run_not_running"
    kind = Kind.CONFLICT
    english = "Session {session_id} has no run in progress; start one with the message."
    chinese = "会话 {session_id} 没有进行中的运行；请用该消息启动一个新的运行。"


class RunQueueFull(AgentError):
    """As many inputs as allowed wait for the session's run."""

    code = "run_queue_full"
    kind = Kind.UNAVAILABLE
    english = "Session {session_id} has {maximum} inputs waiting; try again when some have run."
    chinese = "会话 {session_id} 已有 {maximum} 个输入在等待，请稍后再试。"


class NotPaused(AgentError):
    """Only a paused run can be resumed, stepped or edited."""

    code = "run_not_paused"
    kind = Kind.CONFLICT
    english = "Session {session_id} has no paused run."
    chinese = "会话 {session_id} 没有已暂停的运行。"


class RunSuperseded(AgentError):
    """A later run has taken up what this one left."""

    code = "run_superseded"
    kind = Kind.CONFLICT
    english = "Run {run_id} cannot be taken up: the session has gone on with run {newest}. Start a new run."
    chinese = "无法继续运行 {run_id}：会话已在运行 {newest} 中继续。请启动新的运行。"


class RunRolledBack(AgentError):
    """What the run did was dropped."""

    code = "run_rolled_back"
    kind = Kind.CONFLICT
    english = "Run {run_id} was rolled back: nothing of it is left to go on from. Start a new run."
    chinese = "运行 {run_id} 已被回滚，没有可继续的内容。请启动新的运行。"


class QuestionsOpen(AgentError):
    """A run that waits for a person goes on when the questions are answered."""

    code = "questions_open"
    kind = Kind.CONFLICT
    english = "Run {run_id} waits for an answer ({interrupt_id}); answer it first."
    chinese = "运行 {run_id} 正在等待回答（{interrupt_id}），请先回答。"


class AnswerInvalid(InvalidInput):
    """An answer does not fit the question's form."""

    code = "answer_invalid"
    kind = Kind.INVALID
    english = "The answer does not fit the form ({count} fault(s))."
    chinese = "回答与表单不符（{count} 处错误）。"
