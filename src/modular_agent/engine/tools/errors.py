"""What can be wrong with a tool before it is called.

    AgentError
    ├── BadReference           a `module:attribute` that cannot be used; has a `fault(path)`
    │   ├── ReferenceMalformed
    │   ├── ReferenceNotAllowed
    │   ├── ModuleMissing
    │   ├── AttributeMissing
    │   ├── NotCallable
    │   └── ImportFailed
    ├── SignatureUnsupported   a callable whose parameters cannot be described to a model
    ├── McpUnavailable         a server of tools that does not answer
    ├── FunctionFailed         what the code of a `function` node raised
    └── WorkerUnavailable      a worker process that does not start

A tool that fails while it runs is a `ToolOutcome`, never one of these.
"""

from modular_agent.errors import AgentError, Fault, Kind

__all__ = [
    "AttributeMissing",
    "BadReference",
    "FunctionFailed",
    "ImportFailed",
    "McpUnavailable",
    "ModuleMissing",
    "NotCallable",
    "ReferenceMalformed",
    "ReferenceNotAllowed",
    "SignatureUnsupported",
    "WorkerUnavailable",
]


class BadReference(AgentError):
    """A reference to Python code that cannot be used. Parameters: `reference` and what the subclass names."""

    code = "reference_unusable"
    kind = Kind.INVALID
    english = "The reference {reference!r} cannot be used."
    chinese = "引用“{reference}”无法使用。"

    def __init__(self, *, reference: str, suggestion: str | None = None, line: int | None = None, **more: str):
        super().__init__(retry_after=None, reference=reference, **more)
        self.suggestion = suggestion
        self.line = line

    def fault(self, path: str = "") -> Fault:
        """This error as a located fault at the key `path`."""
        return Fault(code=self.code, text=self.text, path=path, suggestion=self.suggestion)


class ReferenceMalformed(BadReference):
    """The text is not `module:attribute`."""

    code = "reference_malformed"
    english = "'{reference}' is not a reference: write 'module:name', such as 'tools.tickets:fetch'."
    chinese = "“{reference}”不是有效的引用：请写成“模块:名称”，例如“tools.tickets:fetch”。"


class ReferenceNotAllowed(BadReference):
    """The module is neither below the configs root nor allowed by the operator."""

    code = "reference_not_allowed"
    english = (
        "The module '{module}' of '{reference}' is not allowed: put the code in tools/ below the configs root, "
        "or add '{module}' (or a parent) to the setting ALLOWED_MODULES."
    )
    chinese = (
        "不允许使用“{reference}”中的模块“{module}”：请把代码放在配置根目录的 tools/ 下，"
        "或将“{module}”（或其上级）加入设置 ALLOWED_MODULES。"
    )


class ModuleMissing(BadReference):
    """There is no such file or module."""

    code = "module_not_found"
    english = "There is no module '{module}' for '{reference}'."
    chinese = "找不到“{reference}”所指的模块“{module}”。"


class AttributeMissing(BadReference):
    """The module exists and does not define the name."""

    code = "attribute_not_found"
    english = "The module '{module}' does not define '{attribute}'."
    chinese = "模块“{module}”没有定义“{attribute}”。"


class NotCallable(BadReference):
    """The name exists and cannot be called."""

    code = "not_callable"
    english = "'{reference}' cannot be called: it is a {type}."
    chinese = "“{reference}”不可调用：它的类型是 {type}。"


class ImportFailed(BadReference):
    """The module raised while it was imported. `error_type` and `error` say what, without paths of the server."""

    code = "import_failed"
    english = "The module '{module}' cannot be imported: {error_type}: {error}"
    chinese = "模块“{module}”导入失败：{error_type}: {error}"


class SignatureUnsupported(AgentError):
    """A callable whose parameters have no JSON Schema."""

    code = "signature_unsupported"
    kind = Kind.INVALID
    english = "The parameters of '{name}' cannot be described to a model: {reason}"
    chinese = "“{name}”的参数无法向模型描述：{reason}"


class McpUnavailable(AgentError):
    """An MCP server that cannot be reached or started."""

    code = "mcp_unavailable"
    kind = Kind.UNAVAILABLE
    english = "The MCP server '{name}' is not available: {reason}"
    chinese = "MCP 服务器“{name}”不可用：{reason}"


class FunctionFailed(AgentError):
    """Python code of a `function` node failed: it raised, took too long, or its process died.

    `error_type` names the exception that it raised; `stack_trace` is for the log only.
    """

    code = "function_failed"
    english = "{error_type}: {error}"
    chinese = "{error_type}：{error}"
    retryable = True  # the author's code is given the chance, where the node's `retry` says so

    def __init__(self, *, reference: str, error_type: str, error: str, stack_trace: str | None = None) -> None:
        super().__init__(reference=reference, error_type=error_type, error=error)
        self.error_type = error_type
        self.stack_trace = stack_trace


class WorkerUnavailable(AgentError):
    """A worker process for Python code that does not start."""

    code = "worker_unavailable"
    kind = Kind.UNAVAILABLE
    english = "No worker process could be started: {reason}"
    chinese = "无法启动工作进程：{reason}"
