"""What can be wrong with a command line.

AgentError
├── AddressUnavailable     the server cannot listen where it was told to
├── ArgumentInvalid        an argument that the parser lets through cannot be used
├── InputMissing           `run` was given nothing to run with
├── SessionOfAnother       the workflow and the session that were given do not belong together
├── NothingToContinue      the session's last run has completed
├── WorkersUnsupported     more than one worker process
├── FilesExist             `init` would overwrite files
├── NothingFound           no workflow file where one was looked for
├── DatabaseMissing        there is no database where one was looked for
├── ServerRefused          the server that owns the data path does not do it
├── ServerUnreachable      the server that owns the data path does not answer
├── SchemaDiffers          the database has another schema than this version reads
└── RunLost                the process could not go on with a run
"""

from modular_agent.errors import AgentError, Kind

__all__ = [
    "AddressUnavailable",
    "ArgumentInvalid",
    "DatabaseMissing",
    "FilesExist",
    "InputMissing",
    "NothingFound",
    "NothingToContinue",
    "RunLost",
    "SchemaDiffers",
    "ServerRefused",
    "ServerUnreachable",
    "SessionOfAnother",
    "WorkersUnsupported",
]


class ArgumentInvalid(AgentError):
    """An argument or option whose value cannot be used. `example` is one that can."""

    code = "argument_invalid"
    kind = Kind.INVALID
    english = "{option} cannot be {value}: write it like {example}."
    chinese = "{option} 不能是 {value}：请写成 {example} 的形式。"


class InputMissing(AgentError):
    """A new run needs an input."""

    code = "input_missing"
    kind = Kind.INVALID
    english = 'Give an input in quotation marks, `-` to read it from standard input, or --state (run {workflow} "...").'
    chinese = '请用引号给出输入；或用 `-` 从标准输入读取；或给出 --state（run {workflow} "..."）。'


class SessionOfAnother(AgentError):
    """A session belongs to one workflow."""

    code = "session_of_another_workflow"
    kind = Kind.CONFLICT
    english = "Session {session_id} belongs to the workflow {workflow_id}; leave the workflow out, or the session."
    chinese = "会话 {session_id} 属于工作流 {workflow_id}；请省略工作流，或省略会话。"


class NothingToContinue(AgentError):
    """The session's last run has completed, so there is nothing to resume, to answer or to retry."""

    code = "nothing_to_continue"
    kind = Kind.CONFLICT
    english = "Session {session_id} has nothing to go on with: its last run has completed. Give an input."
    chinese = "会话 {session_id} 没有可以继续的运行：上一次运行已完成。请给出输入。"


class WorkersUnsupported(AgentError):
    """SQLite has one writing process."""

    code = "workers_unsupported"
    kind = Kind.INVALID
    english = (
        "--workers {workers} cannot be used: one process owns a SQLite data path. Several processes need PostgreSQL, "
        "which this version does not support yet; one process runs many sessions at once."
    )
    chinese = (
        "无法使用 --workers {workers}：SQLite 数据目录只能由一个进程拥有。多进程需要 PostgreSQL，"
        "当前版本尚不支持；单个进程即可同时运行许多会话。"
    )


class FilesExist(AgentError):
    """Files that `init` would have to overwrite; nothing was written."""

    code = "files_exist"
    kind = Kind.CONFLICT
    english = "These files exist and differ; nothing was written (--force overwrites them): {files}"
    chinese = "以下文件已存在且内容不同，未写入任何文件（--force 可覆盖）：{files}"


class NothingFound(AgentError):
    """No workflow file where one was looked for."""

    code = "no_workflow_found"
    kind = Kind.NOT_FOUND
    english = "There is no workflow file in {path} (`modular-agent init` writes a starter project)."
    chinese = "{path} 中没有工作流文件（`modular-agent init` 可生成入门项目）。"


class RunLost(AgentError):
    """The run's writes were refused or its process state was lost; the log says how far it came."""

    code = "run_lost"
    kind = Kind.INTERNAL
    english = "Run {run_id} could not go on in this process; its session is as the log has it."
    chinese = "运行 {run_id} 无法在本进程中继续；会话状态以日志为准。"


class DatabaseMissing(AgentError):
    """The data path has no database."""

    code = "database_missing"
    kind = Kind.NOT_FOUND
    english = "There is no database at {path}: choose the data path with --data-path."
    chinese = "{path} 处没有数据库：请用 --data-path 指定数据目录。"


class SchemaDiffers(AgentError):
    """The database cannot be read as it is: older, or of a newer version."""

    code = "schema_differs"
    kind = Kind.CONFLICT
    english = "The database has schema {revision}, this version reads {head}: run `modular-agent db upgrade`."
    chinese = "数据库的结构版本为 {revision}，本版本读取 {head}：请运行 `modular-agent db upgrade`。"


class ServerUnreachable(AgentError):
    """A server owns the data path, and does not answer at the address that is known."""

    code = "server_unreachable"
    kind = Kind.UNAVAILABLE
    english = "A server owns the data path, and {url} does not answer ({reason}): name it with --server."
    chinese = "数据目录由服务器占用，而 {url} 没有应答（{reason}）：请用 --server 指定服务器。"


class ServerRefused(AgentError):
    """The server said no; `reason` is its text."""

    code = "server_refused"
    kind = Kind.INVALID
    english = "The server refused ({status}): {reason}"
    chinese = "服务器拒绝了请求（{status}）：{reason}"


class AddressUnavailable(AgentError):
    """The address is in use, or not one of this machine."""

    code = "address_unavailable"
    kind = Kind.CONFLICT
    english = "The server cannot listen on {host}, port {port}: {reason}. Choose another with --host and --port."
    chinese = "服务器无法监听 {host} 的端口 {port}：{reason}。请用 --host 和 --port 另选。"
