"""The errors of the workflow language.

WorkflowInvalid     a workflow file cannot be used; `faults` says everything that is wrong, each with its place
SourceError         a file that a workflow names cannot be read
├── PathOutsideRoot
├── FileNotFound
├── FileTooLarge
└── NotUtf8
"""

from typing import ClassVar

from modular_agent.errors import AgentError, InvalidInput, Kind

__all__ = ["FileNotFound", "FileTooLarge", "NotUtf8", "PathOutsideRoot", "SourceError", "WorkflowInvalid"]


class WorkflowInvalid(InvalidInput):
    """A workflow file (or a file that it refers to) has faults."""

    code = "workflow_invalid"
    english = "The workflow cannot be used: {count} fault(s)."
    chinese = "该工作流无法使用：有 {count} 处错误。"


class SourceError(AgentError):
    """A file below the configs root cannot be read. `path` is as it was asked for."""

    code: ClassVar[str] = "file_unreadable"
    kind: ClassVar[Kind] = Kind.INVALID
    english: ClassVar[str] = "The file {path} cannot be read."
    chinese: ClassVar[str] = "无法读取文件 {path}。"

    def __init__(self, path: str, *, suggestion: str | None = None, **parameters: object) -> None:
        super().__init__(retry_after=None, path=path, **parameters)
        self.path = path
        self.suggestion = suggestion


class PathOutsideRoot(SourceError):
    """A path that leaves the configs root, or could."""

    code = "path_outside_root"
    english = "The path {path} is not a relative path below the configs root."
    chinese = "路径 {path} 不是配置根目录下的相对路径。"


class FileNotFound(SourceError):
    """No such file below the configs root."""

    code = "file_not_found"
    english = "There is no file {path} below the configs root."
    chinese = "配置根目录下没有文件 {path}。"


class FileTooLarge(SourceError):
    """A file above the size limit."""

    code = "file_too_large"
    english = "The file {path} is larger than {limit} bytes."
    chinese = "文件 {path} 超过 {limit} 字节。"


class NotUtf8(SourceError):
    """A file that is not UTF-8 text."""

    code = "not_utf8"
    english = "The file {path} is not UTF-8 text."
    chinese = "文件 {path} 不是 UTF-8 文本。"
