"""The help in Chinese. The English texts are those of the commands; a test keeps the two lists equal."""

from collections.abc import Mapping
from typing import Any, Final

from modular_agent.errors import Language

__all__ = ["CHINESE", "help_of", "localise"]

CHINESE: Final[Mapping[str, str]] = {
    "Runs AI-agent workflows: YAML files, durable sessions, one log of everything.": (
        "运行 AI 智能体工作流：YAML 文件、持久会话、一份完整日志。"
    ),
    "Show stack traces and debug logs.": ("显示堆栈与调试日志。"),
    (
        "Run a workflow here: the answer streams, questions are asked, Ctrl-C pauses and a second one stops.\n\n"
        "Exit codes: 0 completed, 1 failed, 2 cannot be used as given, 3 paused, 4 stopped."
    ): (
        "在此运行工作流：流式显示回答，提出问题；Ctrl-C 暂停，再按一次停止。\n\n"
        "退出码：0 完成，1 失败，2 参数等无法使用，3 已暂停，4 已停止。"
    ),
    "A workflow file, or its name below the configs root.": ("工作流文件，或其在配置根目录下的名称。"),
    "The input; - reads standard input.": ("输入；- 表示从标准输入读取。"),
    "Continue this session; without INPUT, its last run.": ("继续此会话；没有输入时继续其上一次运行。"),
    "With --session: run one step of the paused run.": "与 --session 一起使用：执行已暂停运行的一步。",
    "Set a key of the state; repeatable.": ("设置状态的一个键；可重复。"),
    "A model of the workflow, or a model id.": ("工作流中的模型，或模型标识。"),
    "Answer the next question so; repeatable.": ("以此回答下一个问题；可重复。"),
    "The directory of all data (DATA_PATH; data).": ("全部数据所在目录（DATA_PATH；data）。"),
    "The configs root, with workflows and tools (CONFIG_PATH; configs).": (
        "配置根目录，含工作流与工具（CONFIG_PATH；configs）。"
    ),
    "Print the log's records, JSON lines; ask nothing.": ("以 JSON 行输出日志记录；不提问。"),
    "Print JSON, for programs.": ("输出 JSON，供程序使用。"),
    "Start the server: HTTP API, WebSocket and workers in one process, until Ctrl-C or SIGTERM.": (
        "启动服务器：HTTP API、WebSocket 与工作者在同一进程，直到 Ctrl-C 或 SIGTERM。"
    ),
    "The address to listen on (HOST; 127.0.0.1).": ("监听地址（HOST；127.0.0.1）。"),
    "The port; 0 takes a free one (PORT; 8000).": ("端口；0 表示任选空闲端口（PORT；8000）。"),
    "Listen where other machines reach it, without access control.": ("在没有访问控制的情况下监听其他机器可达的地址。"),
    "Processes: 1, as long as the data is SQLite.": ("进程数：使用 SQLite 时为 1。"),
    "Write a starter project: workflows, prompts, scripts and tools that run offline.": (
        "生成入门项目：可离线运行的工作流、提示词、脚本与工具。"
    ),
    "Where; made if it is missing.": ("目标目录；不存在则创建。"),
    "Overwrite files that exist and differ.": ("覆盖已存在且内容不同的文件。"),
    "Check workflow files and all they refer to; show every fault with its place.": (
        "检查工作流文件及其引用的一切；显示每处错误的位置。"
    ),
    "Workflow files or folders; the configs root's.": ("工作流文件或目录；默认为配置根目录。"),
    "Run the `tests:` of workflow files in a temporary data path; show what differs from what they expect.": (
        "在临时数据目录中运行工作流文件的 `tests:`；显示与期望的差异。"
    ),
    "Use this model instead of the tests' own.": ("用此模型代替测试自己的模型。"),
    "For one test.": ("单个测试的时限。"),
    "Draw a workflow as Mermaid text (https://mermaid.js.org).": (
        "将工作流画成 Mermaid 文本（https://mermaid.js.org）。"
    ),
    "A workflow file, or its name.": ("工作流文件，或其名称。"),
    "Write to this file instead.": ("写入此文件。"),
    (
        "Compute the cost of all model calls again, by prices.yaml of the configs root and the price table.\n\n"
        "The log keeps what was known then; statistics follow. Beside a server only a dry run is possible."
    ): (
        "按配置根目录的 prices.yaml 与价格表重新计算所有模型调用的费用。\n\n"
        "日志保留当时的记录；统计随之更新。服务器运行时只能试运行。"
    ),
    "Only say what would change.": ("只说明将有哪些改变。"),
    "Show the version, and those of Python and the main libraries.": ("显示版本，以及 Python 和主要库的版本。"),
    "Look at sessions, also while a server runs.": ("查看会话，服务器运行时也可以。"),
    "List sessions, the newest first.": ("列出会话，最新的在前。"),
    "Only sessions with this status.": ("仅此状态的会话。"),
    "Only where the id, workflow, title or metadata has this text.": ("仅标识、工作流、标题或元数据含此文本的会话。"),
    "What to sort by, the greatest first.": ("排序依据，最大的在前。"),
    "Which page.": ("页码。"),
    "Sessions on a page.": ("每页会话数。"),
    "Show a session and its newest records.": ("显示会话及其最新记录。"),
    "The session's id.": ("会话标识。"),
    "How many of its newest records.": ("最新记录的条数。"),
    "Search, export and check the logs of sessions.": ("搜索、导出与检查会话日志。"),
    "Find a text in messages, tool calls and errors, the newest first; also while a server runs.": (
        "在消息、工具调用与错误中查找文本，最新的在前；服务器运行时也可使用。"
    ),
    "The text to find, as it is written.": ("要查找的文本，按原样匹配。"),
    "Only in this session.": ("仅在此会话中。"),
    "Only in sessions of this workflow.": ("仅在此工作流的会话中。"),
    "Only message, tool_call or error; repeatable.": ("仅 message、tool_call 或 error；可重复。"),
    "From this time on, such as 2025-10-22T17:48 (UTC).": ("从此时间起，例如 2025-10-22T17:48（UTC）。"),
    "Up to this time (excluded).": ("到此时间为止（不含）。"),
    "How many hits at most.": ("最多多少条结果。"),
    "Go on where a former answer ended.": ("从上一次结果的末尾继续。"),
    "Write a session's log as JSON, JSON lines, CSV or Markdown; also while a server runs.": (
        "将会话日志写为 JSON、JSON 行、CSV 或 Markdown；服务器运行时也可使用。"
    ),
    "How the records are written.": ("记录的写法。"),
    "The file to write; else standard output.": ("要写入的文件；否则写到标准输出。"),
    "Only records of this type; repeatable.": ("仅此类型的记录；可重复。"),
    "Make the search index anew from the records; no server may run meanwhile.": (
        "由记录重新建立搜索索引；期间服务器不得运行。"
    ),
    "Compare every byte of the log files with the database; exit code 1 when something differs.": (
        "逐字节比较日志文件与数据库；有差异时退出码为 1。"
    ),
    "Only this session's files.": ("仅此会话的文件。"),
    "Read the log files into a database that lacks their records; exit code 1 when lines are damaged.": (
        "将日志文件读入缺少这些记录的数据库；有损坏的行时退出码为 1。"
    ),
    "Make, list and revoke API keys.": ("创建、列出与撤销 API 密钥。"),
    (
        "Make an API key, and show its secret this once.\n\n"
        "Runs started with the key are charged to it. Also while a server runs: it makes the key then."
    ): ("创建 API 密钥，并仅此一次显示。\n\n用该密钥启动的运行计入该密钥。服务器运行时由服务器创建。"),
    "What people call the key.": ("密钥的名称。"),
    "A limit of each UTC day, such as max_cost_usd=5; repeatable.": (
        "每个 UTC 日的限制，例如 max_cost_usd=5；可重复。"
    ),
    "A limit of each run; repeatable.": ("每次运行的限制；可重复。"),
    "A limit of all runs; repeatable.": ("全部运行的限制；可重复。"),
    "The server that owns the data path (http://HOST:PORT).": ("占用数据目录的服务器（http://HOST:PORT）。"),
    "List API keys, oldest first, also while a server runs; never a secret.": (
        "列出 API 密钥，最旧的在前，服务器运行时也可以；不显示密钥本身。"
    ),
    "Revoke an API key: from the next request on it is refused. Also while a server runs.": (
        "撤销 API 密钥：从下一个请求起被拒绝。服务器运行时也可以。"
    ),
    "The id of the key, or how its secret begins.": ("密钥标识，或密钥的开头部分。"),
    "Look after the database.": ("维护数据库。"),
    "Make the database, or bring it to the newest schema (a starting server does so by itself).": (
        "创建数据库，或升级到最新结构（服务器启动时会自动进行）。"
    ),
    "Say which schema the database has, also while a server runs; exit code 1 when it is not the newest.": (
        "显示数据库的结构版本，服务器运行时也可以；不是最新时退出码为 1。"
    ),
    "Install completion for the current shell.": ("为当前 shell 安装补全。"),
    "Show completion for the current shell, to copy it or customize the installation.": (
        "显示当前 shell 的补全脚本，以便复制或自定义安装。"
    ),
}


def help_of(command: Any) -> list[str]:
    """Every help text of `command` and all below it, in the order of the help."""
    own = [command.help, *(getattr(parameter, "help", None) for parameter in command.params)]
    below = [text for child in getattr(command, "commands", {}).values() for text in help_of(child)]
    return [text for text in own if text] + below


def localise(command: Any, language: Language) -> Any:  # a command of Typer, whose classes are private
    """`command` and all below it with their help in `language`."""
    if language == "zh":
        _translate(command)
    return command


def _translate(command: Any) -> None:
    command.help = _chinese(command.help)
    command.short_help = _chinese(command.short_help)
    for parameter in command.params:
        parameter.help = _chinese(getattr(parameter, "help", None))
    for child in getattr(command, "commands", {}).values():
        _translate(child)


def _chinese(text: str | None) -> str | None:
    return CHINESE.get(text, text) if text else text
